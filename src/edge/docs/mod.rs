//! Documentation of the API: `/openapi.json`, `/docs` to try each endpoint in a browser, and the
//! guides.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::thread;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};

use super::context::RequestContext;
use super::error::ApiError;

mod assets;
mod components;
mod deliveries;
pub(in crate::edge) mod endpoint;
mod example_schema;
pub mod guide;
pub(in crate::edge) mod schemas;
mod spec;
mod static_answer;

pub use spec::build_openapi;
use static_answer::StaticAnswer;

const INDEX: &str = include_str!("index.html");
const INITIALIZER: &str = include_str!("initializer.js");

/// Description of the API, as everyone gets it.
static OPENAPI: LazyLock<StaticAnswer> = LazyLock::new(|| {
    let json = serde_json::to_vec(&build_openapi()).expect("the description has string keys only");
    StaticAnswer::new("application/json", json)
});

/// Files of the page, by their names; the page itself has the empty name.
static FILES: LazyLock<HashMap<&'static str, StaticAnswer>> = LazyLock::new(|| {
    let script = "text/javascript; charset=utf-8";
    let own = [
        ("", StaticAnswer::new("text/html; charset=utf-8", INDEX)),
        ("initializer.js", StaticAnswer::new(script, INITIALIZER)),
    ];
    let assets = assets::FILES
        .into_iter()
        .map(|(name, media_type, bytes)| (name, StaticAnswer::new(media_type, bytes)));
    own.into_iter().chain(assets).collect()
});

/// Makes all answers of the documentation on a thread of its own, so that no worker has to compress
/// them while senders wait.
pub(super) fn prepare_answers() {
    let prepare = || {
        LazyLock::force(&OPENAPI);
        LazyLock::force(&FILES);
        guide::prepare_answers();
    };
    // Without a thread, the first reader makes them.
    drop(thread::Builder::new().name("docs".into()).spawn(prepare));
}

/// Handles `GET /openapi.json`: answers the OpenAPI description.
pub(super) async fn openapi(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    Ok(OPENAPI.respond(&context.request))
}

/// Handles `GET /docs`: shows Swagger UI.
pub(super) async fn page(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    if context.request.path().ends_with('/') {
        return respond_with_file(context, "");
    }
    // The page loads its files by relative paths, so it needs the slash.
    let mut response = HttpResponse::new(StatusCode::PERMANENT_REDIRECT);
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("docs/"));
    Ok(response)
}

/// Handles `GET /docs/{file}`: answers a file of Swagger UI.
pub(super) async fn asset(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let name: String = context.parse_path()?;
    respond_with_file(context, &name)
}

fn respond_with_file(context: &RequestContext, name: &str) -> Result<HttpResponse, ApiError> {
    let file = FILES.get(name).ok_or_else(ApiError::nothing_here)?;
    Ok(file.respond(&context.request))
}

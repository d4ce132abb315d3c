//! The description of the API: `/openapi.json`, and `/docs` to read it and try each endpoint in a browser.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::call::Call;
use super::error::Error;
use super::{Edge, answer};

mod assets;
pub(in crate::edge) mod endpoint;
pub mod guide;
mod spec;

pub use spec::spec;

/// The name that requests for the description have in logs.
pub(super) const SOURCE: &str = "docs";

const INDEX: &str = include_str!("index.html");
const INITIALIZER: &str = include_str!("initializer.js");

/// What the page may do: scripts and styles of this node only; Swagger UI sets styles of elements and has small images inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /openapi.json`
pub(super) async fn openapi(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, SOURCE);
    let response = answer::uncached(StatusCode::OK, &spec());
    call.end(&request, payload.into_inner(), &edge, Ok(response))
}

/// `GET /docs`
pub(super) async fn page(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, SOURCE);
    let response = if request.path().ends_with('/') {
        file("text/html; charset=utf-8", INDEX.as_bytes().to_vec())
    } else {
        // The page names its files relative to itself.
        let mut response = HttpResponse::new(StatusCode::PERMANENT_REDIRECT);
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("docs/"));
        response
    };
    call.end(&request, payload.into_inner(), &edge, Ok(response))
}

/// `GET /docs/{file}`
pub(super) async fn asset(
    request: HttpRequest,
    payload: Payload,
    path: Path<String>,
    edge: Data<Edge>,
) -> HttpResponse {
    let call = Call::begin(&request, SOURCE);
    let result = asset_of(&path).ok_or_else(|| Error::not_found("there is nothing at this path"));
    call.end(&request, payload.into_inner(), &edge, result)
}

fn asset_of(name: &str) -> Option<HttpResponse> {
    if name == "initializer.js" {
        return Some(file("text/javascript; charset=utf-8", INITIALIZER.as_bytes().to_vec()));
    }
    assets::find(name).map(|(media_type, bytes)| file(media_type, bytes))
}

fn file(media_type: &'static str, bytes: Vec<u8>) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, bytes).map_into_boxed_body();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Another version of the node has other files under the same names.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

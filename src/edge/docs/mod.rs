//! Documentation of the API: `/openapi.json`, `/docs` to try each endpoint in a browser, and the
//! guides.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION,
};
use bytes::Bytes;

use super::answer;
use super::context::RequestContext;
use super::error::ApiError;

mod assets;
pub(in crate::edge) mod endpoint;
pub mod guide;
mod spec;

pub use spec::build_openapi;

const INDEX: &str = include_str!("index.html");
const INITIALIZER: &str = include_str!("initializer.js");

/// Content security policy of all pages: only scripts and styles of this node. Swagger UI sets
/// inline styles and embeds small images as `data:` URLs.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Handles `GET /openapi.json`: answers the OpenAPI description.
pub(super) async fn openapi(_context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    Ok(answer::ok_json(&build_openapi()))
}

/// Handles `GET /docs`: shows Swagger UI.
pub(super) async fn page(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    if context.request.path().ends_with('/') {
        return Ok(file_response("text/html; charset=utf-8", INDEX));
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
    asset_response(&name).ok_or_else(ApiError::nothing_here)
}

fn asset_response(name: &str) -> Option<HttpResponse> {
    if name == "initializer.js" {
        return Some(file_response("text/javascript; charset=utf-8", INITIALIZER));
    }
    assets::find_asset(name).map(|(media_type, bytes)| file_response(media_type, bytes))
}

fn file_response(media_type: &'static str, bytes: impl Into<Bytes>) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, bytes.into()).map_into_boxed_body();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_POLICY),
    );
    // Another version of the node serves other files under the same names.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

//! Files that the pages load. A path has the hash of its file, so a browser keeps a file for ever
//! and still gets the one of another version.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use sha2::{Digest, Sha256};

use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;

/// Bytes of a file's hash in its path.
const HASH_BYTES: usize = 8;

/// File of the pages with its path.
pub(super) struct AssetFile {
    /// Name in the path, without the hash.
    name: &'static str,
    extension: &'static str,
    media_type: &'static str,
    text: &'static str,
    path: LazyLock<String>,
}

/// The one style sheet of all pages.
pub(super) static STYLES: AssetFile = AssetFile {
    name: "dashboard",
    extension: "css",
    media_type: "text/css; charset=utf-8",
    text: include_str!("assets/dashboard.css"),
    path: LazyLock::new(|| STYLES.hashed_path()),
};

/// The one script, without which every page works too.
pub(super) static SCRIPT: AssetFile = AssetFile {
    name: "dashboard",
    extension: "js",
    media_type: "text/javascript; charset=utf-8",
    text: include_str!("assets/dashboard.js"),
    path: LazyLock::new(|| SCRIPT.hashed_path()),
};

/// The icon, also the mark beside the name.
pub(super) static ICON: AssetFile = AssetFile {
    name: "icon",
    extension: "svg",
    media_type: "image/svg+xml",
    text: include_str!("assets/icon.svg"),
    path: LazyLock::new(|| ICON.hashed_path()),
};

impl AssetFile {
    /// Path of the file on this node.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn hashed_path(&self) -> String {
        let hash = Sha256::digest(self.text.as_bytes());
        let hash = hex::encode(&hash[..HASH_BYTES]);
        format!("/dashboard/assets/{}.{hash}.{}", self.name, self.extension)
    }
}

/// Handles `GET /dashboard/assets/{file}`. The files are the same for everyone, so nobody has to
/// log in for them.
pub(super) async fn send(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let path = context.request.path();
    let file = [&STYLES, &SCRIPT, &ICON]
        .into_iter()
        .find(|file| file.path() == path)
        .ok_or_else(ApiError::nothing_here)?;

    let tag = format!("\"{}\"", file.path());
    let known = context.request.headers().get(IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        HttpResponse::new(StatusCode::NOT_MODIFIED)
    } else {
        HttpResponse::with_body(StatusCode::OK, file.text).map_into_boxed_body()
    };

    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

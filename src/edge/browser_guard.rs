//! Requests that a web page makes a browser send. A page of another site reaches what its reader
//! reaches, so a request that proves nothing by itself must not come from one.

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

use super::error::ApiError;

/// Header in which a browser says how the page and the target are related (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Refuses a request that a page of another site caused. For sources that take unsigned events.
///
/// # Errors
/// [`ApiError::ForeignOrigin`].
pub(super) fn refuse_foreign_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_foreign_site = text(FETCH_SITE)
        .is_some_and(|site| ![&b"same-origin"[..], b"none"].contains(&site.trim_ascii()));
    let is_foreign_origin = headers.get_all(ORIGIN).any(|origin| {
        let origin = origin.as_bytes();
        let host = [&b"https://"[..], b"http://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(*scheme));
        !host.is_some_and(|host| {
            text(HOST.as_str()).is_some_and(|own| own.eq_ignore_ascii_case(host))
        })
    });
    match is_foreign_site || is_foreign_origin {
        true => Err(ApiError::ForeignOrigin),
        false => Ok(()),
    }
}

/// Refuses a request for a name that is not this machine's. A page can let a name of its own lead to
/// the loopback address, and then counts as of the same origin.
///
/// # Errors
/// [`ApiError::ForeignHost`].
pub(super) fn refuse_foreign_host(
    request: &HttpRequest,
    public_url: Option<&str>,
) -> Result<(), ApiError> {
    let host = request.headers().get(HOST);
    // HTTP/1.0 has no such header, and no browser speaks it.
    let Some(host) = host else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let public_host = public_url
        .and_then(|url| url.split_once("://"))
        .map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    match is_local_host(host) || public_host.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
        true => Ok(()),
        false => Err(ApiError::ForeignHost),
    }
}

/// Returns true for `localhost`, with or without a port, and for an address: no name leads there.
fn is_local_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_page_of_another_site_sends_no_unsigned_event() {
        let judge = |headers: &[(&'static str, &str)]| {
            let request = TestRequest::default().insert_header(("host", "hooks.example.com:8080"));
            let request = headers
                .iter()
                .fold(request, |request, header| request.insert_header(*header));
            refuse_foreign_origin(request.to_http_request().headers()).is_ok()
        };
        for (headers, is_taken) in [
            (&[][..], true),
            (&[("origin", "http://hooks.example.com:8080")], true),
            (&[("origin", "https://HOOKS.example.com:8080")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "http://hooks.example.com")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
        ] {
            assert_eq!(judge(headers), is_taken, "{headers:?}");
        }
    }

    #[test]
    fn a_development_node_answers_to_names_of_this_machine() {
        let judge = |host: &str| {
            let request = TestRequest::default()
                .insert_header(("host", host))
                .to_http_request();
            refuse_foreign_host(&request, Some("https://hooks.example.com/base")).is_ok()
        };
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "hooks.example.com",
        ] {
            assert!(judge(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
        ] {
            assert!(!judge(host), "{host}");
        }
    }
}

//! Headers that prove who the sender is. A credential or a signed time counts only if it is given
//! once; of several signatures each is tried. And the header that tells how an event came here.

use actix_web::http::header::{HeaderMap, HeaderValue};

use super::error::ApiError;
use crate::event::{HOPS_HEADER, parse_hops};

/// Most lines of a signature header that are tried. A sender that rotates its secrets sends two.
const SIGNATURE_LINES_MAX: usize = 8;

/// Header that must be given once and is repeated. Nobody knows which of the values a proxy before
/// this node has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RepeatedHeader(&'static str);

impl From<RepeatedHeader> for ApiError {
    fn from(RepeatedHeader(name): RepeatedHeader) -> Self {
        Self::repeated_header(name)
    }
}

/// Returns the value of the header `name`, if there is one.
///
/// # Errors
/// [`RepeatedHeader`] if there are several.
pub(super) fn find_single_header<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
) -> Result<Option<&'h [u8]>, RepeatedHeader> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(HeaderValue::as_bytes)),
        (_, Some(_)) => Err(RepeatedHeader(name)),
    }
}

/// Returns the credential in the header `name`; empty if it is missing.
///
/// # Errors
/// [`RepeatedHeader`] if there are several.
pub(super) fn read_credential<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
) -> Result<&'h [u8], RepeatedHeader> {
    find_single_header(headers, name).map(Option::unwrap_or_default)
}

/// Returns the signatures in all headers `name`, up to a bound.
pub(super) fn signature_lines<'h>(
    headers: &'h HeaderMap,
    name: &str,
) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).take(SIGNATURE_LINES_MAX);
    lines.map(HeaderValue::as_bytes)
}

/// Returns the number of deliveries by which the event of the request came here.
pub(super) fn read_hops(headers: &HeaderMap) -> u8 {
    parse_hops(headers.get_all(HOPS_HEADER).map(HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    #[test]
    fn a_header_that_is_given_twice_is_no_credential() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-key");
        assert_eq!(find_single_header(&headers, "x-key"), Ok(None));
        headers.append(name.clone(), HeaderValue::from_static("a"));
        assert_eq!(find_single_header(&headers, "x-key"), Ok(Some(&b"a"[..])));
        assert_eq!(read_credential(&headers, "x-key"), Ok(&b"a"[..]));
        headers.append(name, HeaderValue::from_static("a"));
        assert_eq!(
            find_single_header(&headers, "x-key"),
            Err(RepeatedHeader("x-key"))
        );
        assert!(read_credential(&headers, "x-key").is_err());
        assert_eq!(signature_lines(&headers, "x-key").count(), 2);
    }
}

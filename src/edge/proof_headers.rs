//! Headers that prove who the sender is. A credential or a signed time counts only if it is given
//! once; of several signatures each is tried. And those that tell how an event came here.

use actix_web::http::header::{HeaderMap, HeaderValue};

use super::error::ApiError;
use crate::entity::Command;
use crate::event::{HOPS_HEADER, TRACEPARENT_HEADER, TraceContext, parse_hops};

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

/// Way by which the events of a request came here, as its headers tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestOrigin {
    /// Number of deliveries by which they came here.
    pub(super) hops: u8,
    /// Trace that the request is a part of.
    pub(super) trace: Option<TraceContext>,
}

impl RequestOrigin {
    /// Reads the origin in `headers`. Nothing in it is proved, and no request is refused for it.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let values = |name| headers.get_all(name).map(HeaderValue::as_bytes);
        Self {
            hops: parse_hops(values(HOPS_HEADER)),
            trace: TraceContext::parse_header(values(TRACEPARENT_HEADER)),
        }
    }

    /// Notes the origin in the command of an event of the request.
    pub(super) fn note_in(self, command: &mut Command) {
        command.hops = self.hops;
        command.trace = self.trace;
    }
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

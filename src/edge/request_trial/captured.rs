//! Parser for a captured HTTP request, in a file or pasted: request line, headers, an empty line, body.

use crate::provider::RequestView;

/// Longest head of a request, in bytes; a file without an empty line before this limit is refused.
const HEAD_MAX_BYTES: usize = 1 << 20;

/// Reasons for which a file is not an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapturedRequestError {
    /// No empty line ends the head.
    #[error("no empty line after the headers")]
    NoEnd,
    /// The first line has no method and no target.
    #[error("the first line is not a request line such as `POST /in/billing HTTP/1.1`")]
    RequestLine,
    /// This line of the head has no name.
    #[error("line {0} is not a header such as `Content-Type: application/json`")]
    Header(usize),
    /// The body has the lengths of its chunks in it.
    #[error("the body is sent in chunks; write it as one piece, without Transfer-Encoding")]
    Chunked,
}

/// Request that was captured or written by hand.
#[derive(Debug)]
pub(super) struct CapturedRequest<'f> {
    pub(super) method: &'f str,
    /// Target of the request line: a path with a query, or a whole URL.
    pub(super) target: &'f str,
    headers: Vec<(String, &'f [u8])>,
    pub(super) body: &'f [u8],
}

impl<'f> CapturedRequest<'f> {
    /// Parses `file`. Lines of the head end in CR LF or LF; the body is the rest of the file, byte
    /// for byte.
    pub(super) fn parse(file: &'f [u8]) -> Result<Self, CapturedRequestError> {
        let (head, body) = split_head(file).ok_or(CapturedRequestError::NoEnd)?;
        let mut lines = head
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let request_line = lines
            .next()
            .and_then(|line| std::str::from_utf8(line).ok())
            .ok_or(CapturedRequestError::RequestLine)?;
        let mut words = request_line.split(' ').filter(|word| !word.is_empty());
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(CapturedRequestError::RequestLine);
        };
        let is_version = words
            .next()
            .is_none_or(|version| version.starts_with("HTTP/"));
        if !is_version
            || words.next().is_some()
            || !method.bytes().all(|byte| byte.is_ascii_uppercase())
        {
            return Err(CapturedRequestError::RequestLine);
        }
        let headers: Vec<_> = lines
            .enumerate()
            .map(|(index, line)| parse_header(line).ok_or(CapturedRequestError::Header(index + 2)))
            .collect::<Result<_, _>>()?;
        if headers.iter().any(|(name, _)| name == "transfer-encoding") {
            return Err(CapturedRequestError::Chunked);
        }
        Ok(Self {
            method,
            target,
            headers,
            body,
        })
    }

    pub(super) fn header(&self, wanted_name: &str) -> Option<&'f str> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == wanted_name)?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the request as a view with the full `url`.
    pub(super) fn to_view<'r>(&'r self, url: &'r str) -> RequestView<'r> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        RequestView {
            method: self.method,
            url,
            headers,
            body: self.body,
        }
    }
}

/// Splits the file at its first empty line into head and body.
fn split_head(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    for (end, _) in file
        .iter()
        .enumerate()
        .take(HEAD_MAX_BYTES)
        .filter(|(_, byte)| **byte == b'\n')
    {
        let line = &file[start..end];
        if matches!(line, b"" | b"\r") && start > 0 {
            return Some((&file[..start - 1], &file[end + 1..]));
        }
        start = end + 1;
    }
    None
}

fn parse_header(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| (name.to_ascii_lowercase(), line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    #[test]
    fn both_line_ends_are_taken_and_the_body_is_left_alone() {
        let table = [
            (
                "POST /in/x?a=1 HTTP/1.1\r\nHost: h\r\nX-A:  b: c \r\n\r\n{}\r\n\r\n",
                "{}\r\n\r\n",
            ),
            (
                "POST /in/x?a=1 HTTP/1.1\nHost: h\nX-A:  b: c \n\n{}\r\n\r\n",
                "{}\r\n\r\n",
            ),
            ("POST /in/x?a=1\nHost: h\nx-a: b: c\n\n", ""),
        ];
        for (file, body) in table {
            let raw = CapturedRequest::parse(file.as_bytes()).expect("a request");
            assert_eq!(
                (raw.method, raw.target, raw.body),
                ("POST", "/in/x?a=1", body.as_bytes()),
                "{file}"
            );
            assert_eq!(
                (raw.header("host"), raw.header("x-a")),
                (Some("h"), Some("b: c")),
                "{file}"
            );
        }
    }

    #[test]
    fn malformed_files_are_refused_with_the_reason() {
        let table = [
            ("", CapturedRequestError::NoEnd),
            ("POST / HTTP/1.1\nHost: h\n", CapturedRequestError::NoEnd),
            ("{\"a\": 1}\n\n", CapturedRequestError::RequestLine),
            ("POST\n\n", CapturedRequestError::RequestLine),
            ("POST /a b HTTP/1.1\n\n", CapturedRequestError::RequestLine),
            ("\nPOST / HTTP/1.1\n\n", CapturedRequestError::RequestLine),
            (
                "POST / HTTP/1.1\nHost: h\nno header\n\n",
                CapturedRequestError::Header(3),
            ),
            (
                "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n2\r\n{}",
                CapturedRequestError::Chunked,
            ),
        ];
        for (file, expected) in table {
            assert_eq!(
                CapturedRequest::parse(file.as_bytes()).expect_err("no request"),
                expected,
                "{file}"
            );
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_captured_request_is_read_or_refused(file in damaged(&[
            "POST /in/x?a=1 HTTP/1.1\r\nHost: h\r\nX-A:  b: c \r\nContent-Length: 2\r\n\r\n{}\r\n\r\n",
            "GET https://h/in/x\nContent-Type: application/json; charset=utf-8\n\n",
        ])) {
            if let Ok(request) = CapturedRequest::parse(&file) {
                prop_assert!(file.ends_with(request.body));
            }
        }
    }
}

//! URLs that this node calls: the rules that all of them keep, wherever they are given.
//!
//! The parser of URLs repairs a lot: it drops line breaks, turns `\\` into `/`, and reads
//! `https:///x` as the host `x`. A URL that has to be repaired is refused here, because its author
//! meant another one. The canonical form, in which the parser writes a URL, is the one to keep.

use url::{Host, Url};

/// Longest URL of a subscription or an account, in bytes.
pub const URL_MAX_BYTES: usize = 500;

/// Rule that a URL breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebUrlError {
    /// The text is not an absolute URL with a host.
    #[error("expected an absolute URL, such as https://crm.example/hooks")]
    NotAbsolute,
    /// The text holds characters that no URL has.
    #[error("expected no spaces, control characters or backslashes; write them as %20 and so on")]
    Characters,
    /// The scheme is neither http nor https.
    #[error("expected https, found {0}")]
    Scheme(String),
    /// The URL holds a user name or password, which would be shown wherever the URL is shown.
    #[error("expected no user name and no password; send them in a header")]
    Credentials,
    /// The host is empty, or has an empty part.
    #[error("expected a host name without empty parts, such as crm.example")]
    Host,
    /// Nothing can listen at port 0.
    #[error("expected a port from 1 to 65535")]
    Port,
}

/// Parses `text` as an http or https URL that can be called and shown.
///
/// # Errors
/// The first rule that it breaks.
pub fn parse_web_url(text: &str) -> Result<Url, WebUrlError> {
    let url = parse_server_url(text)?;
    match url.username().is_empty() && url.password().is_none() {
        true => Ok(url),
        false => Err(WebUrlError::Credentials),
    }
}

/// Parses `text` as an http or https URL that can be called. A user name and a password are for a
/// URL that only the operator sees.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn parse_server_url(text: &str) -> Result<Url, WebUrlError> {
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(WebUrlError::Characters);
    }
    let (scheme, rest) = text.split_once("://").ok_or(WebUrlError::NotAbsolute)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(WebUrlError::Scheme(scheme.to_owned()));
    }

    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(WebUrlError::NotAbsolute);
    }

    let url = Url::parse(text).map_err(|_| WebUrlError::NotAbsolute)?;
    let is_whole = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.split('.').all(|label| !label.is_empty())
        }
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    };
    match url.port() {
        _ if !is_whole => Err(WebUrlError::Host),
        Some(0) => Err(WebUrlError::Port),
        Some(_) | None => Ok(url),
    }
}

/// Tells if `text` is a URL that can be called, of at most [`URL_MAX_BYTES`].
#[must_use]
pub fn is_web_url(text: &str) -> bool {
    text.len() <= URL_MAX_BYTES && parse_web_url(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_kept_in_its_canonical_form() {
        for (given, kept) in [
            (
                "https://crm.example/hook?a=b",
                "https://crm.example/hook?a=b",
            ),
            ("HTTPS://CRM.Example", "https://crm.example/"),
            ("https://crm.example:443/a/../b", "https://crm.example/b"),
            ("http://127.1:9000", "http://127.0.0.1:9000/"),
            ("https://[::1]/x", "https://[::1]/x"),
            (
                "https://caf\u{e9}.example/\u{e9}",
                "https://xn--caf-dma.example/%C3%A9",
            ),
            ("https://crm.example./", "https://crm.example./"),
        ] {
            let parsed = parse_web_url(given).map(String::from);
            assert_eq!(parsed.as_deref(), Ok(kept), "{given}");
        }
    }

    #[test]
    fn a_url_that_would_have_to_be_repaired_is_refused() {
        let scheme = |scheme: &str| WebUrlError::Scheme(scheme.into());
        for (given, expected) in [
            ("", WebUrlError::NotAbsolute),
            ("crm.example/hooks", WebUrlError::NotAbsolute),
            ("https:crm.example", WebUrlError::NotAbsolute),
            ("https:/crm.example", WebUrlError::NotAbsolute),
            ("https://", WebUrlError::NotAbsolute),
            ("https:///x", WebUrlError::NotAbsolute),
            ("https://?x", WebUrlError::NotAbsolute),
            ("https://:1", WebUrlError::NotAbsolute),
            ("https://h:70000/", WebUrlError::NotAbsolute),
            ("https://.", WebUrlError::Host),
            ("https://../x", WebUrlError::Host),
            ("https://a..example/", WebUrlError::Host),
            ("https://.example/", WebUrlError::Host),
            ("https://h:0/", WebUrlError::Port),
            ("https://user@h/", WebUrlError::Credentials),
            ("https://:hush@h/", WebUrlError::Credentials),
            ("ftp://h/", scheme("ftp")),
            ("file:///etc/passwd", scheme("file")),
            (" https://h/", WebUrlError::Characters),
            ("https://h/\n", WebUrlError::Characters),
            ("https://h/a b", WebUrlError::Characters),
            ("https://h/a\tb", WebUrlError::Characters),
            ("https://h/a\u{a0}b", WebUrlError::Characters),
            ("https://h/a\u{7f}b", WebUrlError::Characters),
            ("https://h/\0", WebUrlError::Characters),
            ("https:\\\\h\\x", WebUrlError::Characters),
            ("https://h\\@evil.example/", WebUrlError::Characters),
        ] {
            assert_eq!(parse_web_url(given), Err(expected), "{given:?}");
        }
        assert!(is_web_url("https://h/") && !is_web_url(&format!("https://h/{}", "x".repeat(500))));
    }
}

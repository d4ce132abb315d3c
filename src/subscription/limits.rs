//! How large the parts of a subscription may be, and which headers it may not set.

/// The longest address, in bytes.
pub const URL_MAX_BYTES: usize = 500;
/// The longest secret, in bytes, each of them printable ASCII.
pub const SECRET_MAX_BYTES: usize = 128;
/// The most patterns.
pub const EVENTS_MAX: usize = 100;
/// The longest description, in bytes.
pub const DESCRIPTION_MAX_BYTES: usize = 1_000;
/// The most headers of its own.
pub const HEADERS_MAX: usize = 20;
/// The longest name of a header, in bytes.
pub const HEADER_NAME_MAX_BYTES: usize = 64;
/// The longest value of a header, in bytes.
pub const HEADER_VALUE_MAX_BYTES: usize = 1_024;

/// Headers that are ours to set, that say how the body is sent, or that only concern one connection
/// (RFC 9110, 7.6.1).
const RESERVED_HEADERS: [&str; 21] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-entity-sequence",
    "x-hookyard-replay",
    "x-hub-signature-256",
];
/// What the names of headers begin with that a delivery is signed by.
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "x-webhook-"];

/// Whether `secret` can be one: 1 to [`SECRET_MAX_BYTES`] printable characters of ASCII, so that it
/// means the same bytes wherever it is pasted.
#[must_use]
pub fn is_valid_secret(secret: &str) -> bool {
    (1..=SECRET_MAX_BYTES).contains(&secret.len())
        && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a subscription may not set the header `name`, however it is spelt.
#[must_use]
pub fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES
            .iter()
            .any(|beginning| name.starts_with(beginning))
}

/// Whether `name` can be the name of a header: 1 to [`HEADER_NAME_MAX_BYTES`] characters of a token
/// (RFC 9110, 5.6.2).
#[must_use]
pub fn is_valid_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=HEADER_NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(is_token)
}

/// Whether `value` can be the value of a header: up to [`HEADER_VALUE_MAX_BYTES`] of visible ASCII,
/// with blanks between.
#[must_use]
pub fn is_valid_header_value(value: &str) -> bool {
    let is_visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
    value.len() <= HEADER_VALUE_MAX_BYTES
        && value.trim_ascii() == value
        && value.bytes().all(is_visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_others_rely_on_cannot_be_set() {
        for name in [
            "Host",
            "content-type",
            "Webhook-Id",
            "webhook-signature",
            "X-Webhook-Anything",
            "TE",
        ] {
            assert!(is_reserved_header(name), "{name}");
        }
        for name in ["Authorization", "X-Api-Key", "Accept", "Webhooks", "X-Web"] {
            assert!(!is_reserved_header(name), "{name}");
        }
        let mut sorted = RESERVED_HEADERS;
        sorted.sort_unstable();
        assert_eq!(
            sorted, RESERVED_HEADERS,
            "in order, so that none is there twice"
        );
    }

    #[test]
    fn names_values_and_secrets_are_text_that_arrives_as_it_was_given() {
        for (name, is_one) in [
            ("X-Api-Key", true),
            ("", false),
            ("X Y", false),
            ("X:", false),
            ("Ä", false),
        ] {
            assert_eq!(is_valid_header_name(name), is_one, "{name}");
        }
        for (value, is_one) in [
            ("Bearer abc", true),
            ("", true),
            (" a", false),
            ("a\r\nB: c", false),
            ("ä", false),
        ] {
            assert_eq!(is_valid_header_value(value), is_one, "{value}");
        }
        let longest = "x".repeat(SECRET_MAX_BYTES);
        for (secret, is_one) in [
            ("hush", true),
            (&*longest, true),
            (&*format!("{longest}x"), false),
            ("", false),
        ] {
            assert_eq!(is_valid_secret(secret), is_one, "{secret}");
        }
        assert!(!is_valid_secret("with blank") && !is_valid_secret("schlüssel"));
    }
}

//! Limits on the parts of a subscription, and the headers that it must not set.

/// Longest address of a subscription, in bytes.
pub const URL_MAX_BYTES: usize = 500;
/// Longest secret, in bytes of printable ASCII.
pub const SECRET_MAX_BYTES: usize = 128;
/// Most patterns of one subscription.
pub const EVENTS_MAX: usize = 100;
/// Longest description of a subscription, in bytes.
pub const DESCRIPTION_MAX_BYTES: usize = 1_000;
/// Most additional headers of one subscription.
pub const HEADERS_MAX: usize = 20;
/// Longest name of a header, in bytes.
pub const HEADER_NAME_MAX_BYTES: usize = 64;
/// Longest value of a header, in bytes.
pub const HEADER_VALUE_MAX_BYTES: usize = 1_024;

/// Longest id that a client chooses, in bytes.
pub const UID_MAX_BYTES: usize = 64;
/// Most texts in the metadata of a subscription.
pub const METADATA_MAX: usize = 20;
/// Longest name in the metadata, in bytes.
pub const METADATA_NAME_MAX_BYTES: usize = 40;
/// Longest text in the metadata, in bytes.
pub const METADATA_VALUE_MAX_BYTES: usize = 500;

/// Headers that the node sets, that describe the transfer of the body, or that concern only one
/// connection (RFC 9110, 7.6.1).
const RESERVED_HEADERS: [&str; 22] = [
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
    "x-hookyard-hops",
    "x-hookyard-replay",
    "x-hub-signature-256",
];
/// Prefixes of the headers that carry signatures.
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "x-webhook-"];

/// Tells if `secret` has 1 to [`SECRET_MAX_BYTES`] printable ASCII characters, which mean the same
/// bytes wherever the secret is pasted.
#[must_use]
pub fn is_valid_secret(secret: &str) -> bool {
    (1..=SECRET_MAX_BYTES).contains(&secret.len())
        && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Tells if a subscription must not set the header `name`, in any case of letters.
#[must_use]
pub fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Tells if `name` is a valid name of a header: a token (RFC 9110, 5.6.2) of 1 to
/// [`HEADER_NAME_MAX_BYTES`] characters.
#[must_use]
pub fn is_valid_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=HEADER_NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(is_token)
}

/// Headers of deliveries that are reserved, but may be the name of a subscription's own signature.
const SIGNATURE_NAMES: [&str; 2] = ["x-hub-signature-256", "x-webhook-signature"];

/// Tells if the signature of a subscription may stand in the header `name`: no other value that the
/// node sends is there.
#[must_use]
pub fn is_valid_signature_header(name: &str) -> bool {
    let is_free = !is_reserved_header(name)
        || SIGNATURE_NAMES
            .iter()
            .any(|free| name.eq_ignore_ascii_case(free));
    is_valid_header_name(name) && is_free
}

/// Tells if `uid` is an id that a client may choose: letters, digits, `.`, `_`, `:` and `-`, so that
/// it stands in a path as it is.
#[must_use]
pub fn is_valid_uid(uid: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    // A path cannot hold these two.
    (1..=UID_MAX_BYTES).contains(&uid.len())
        && uid.bytes().all(is_plain)
        && !matches!(uid, "." | "..")
}

/// Tells if `value` is a valid value of a header: up to [`HEADER_VALUE_MAX_BYTES`] of visible
/// ASCII, with blanks and tabs only between them.
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
    fn a_signature_stands_in_a_header_of_its_own() {
        for (name, is_valid) in [
            ("X-Acme-Signature", true),
            ("x-webhook-signature", true),
            ("X-Hub-Signature-256", true),
            ("X-Webhook-Id", false),
            ("webhook-signature", false),
            ("Host", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_valid_signature_header(name), is_valid, "{name}");
        }
        for (uid, is_valid) in [
            ("hub-spot_1.eu:x", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("\u{e9}", false),
            (&"x".repeat(UID_MAX_BYTES + 1), false),
        ] {
            assert_eq!(is_valid_uid(uid), is_valid, "{uid}");
        }
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

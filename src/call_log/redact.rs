//! Redacts header values: drops secrets and signatures whole, and of a URL all after its path.

use std::borrow::Cow;

/// Placeholder for the text that was removed.
pub const REDACTED: &str = "…";

/// Longest kept value, in bytes: enough for any user agent.
const VALUE_MAX_BYTES: usize = 256;

/// Words that mark a header as secret when its name contains one of them.
const SECRET_WORDS: [&str; 11] = [
    "auth",
    "cookie",
    "credential",
    "hmac",
    "jwt",
    "key",
    "pass",
    "secret",
    "session",
    "sign",
    "token",
];

/// Names that contain a secret word, but only tell calls apart and grant no access.
const HARMLESS_NAMES: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// Returns the part of `value` that may be kept for the header `name`, given in lower case.
pub(super) fn redact_header<'a>(name: &str, value: &'a [u8]) -> Cow<'a, str> {
    if is_secret_name(name) {
        return REDACTED.into();
    }
    // Queries may carry tokens.
    let is_url = value.starts_with(b"http") || value.starts_with(b"/");
    let value = if is_url {
        value.split(|byte| *byte == b'?').next().unwrap_or_default()
    } else {
        value
    };
    truncate_text(value, VALUE_MAX_BYTES)
}

/// Returns `text` cut to at most `max` bytes, with [`REDACTED`] in place of the rest.
pub(super) fn truncate_text(text: &[u8], max: usize) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(&text[..text.len().min(max + 1)]);
    if text.len() <= max {
        return text;
    }
    let mut short = String::with_capacity(max);
    for character in text.chars() {
        if short.len() + character.len_utf8() + REDACTED.len() > max {
            break;
        }
        short.push(character);
    }
    short.push_str(REDACTED);
    short.into()
}

fn is_secret_name(name: &str) -> bool {
    let letters = name.as_bytes();
    let found = (0..letters.len()).any(|at| {
        let rest = &letters[at..];
        SECRET_WORDS
            .iter()
            .any(|word| word.as_bytes()[0] == rest[0] && rest.starts_with(word.as_bytes()))
    });
    found && !HARMLESS_NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_and_signatures_are_masked() {
        let names = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-crm-api-key",
            "x-crm-signature",
            "x-hub-signature-256",
            "x-shopify-hmac-sha256",
            "webhook-signature",
            "x-gitlab-token",
            "x-hook-secret",
            "x-password",
            "x-auth",
        ];
        for name in names {
            assert_eq!(redact_header(name, b"s3cret"), REDACTED, "{name}");
        }
    }

    #[test]
    fn what_tells_calls_apart_is_kept() {
        for name in [
            "idempotency-key",
            "x-idempotency-key",
            "user-agent",
            "x-crm-timestamp",
            "webhook-id",
        ] {
            assert_eq!(redact_header(name, b"value"), "value", "{name}");
        }
    }

    #[test]
    fn a_url_is_kept_without_its_query() {
        assert_eq!(
            redact_header("referer", b"https://crm.example/hooks?token=s3cret"),
            "https://crm.example/hooks"
        );
        assert_eq!(
            redact_header("x-original-uri", b"/hooks?token=s3cret"),
            "/hooks"
        );
        assert_eq!(
            redact_header("user-agent", b"crm/1.0 (what?)"),
            "crm/1.0 (what?)"
        );
    }

    proptest! {
        #[test]
        fn a_value_is_text_and_bounded(value in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(redact_header("x", &value).len() <= VALUE_MAX_BYTES);
            prop_assert_eq!(truncate_text(&value, 64).ends_with(REDACTED), String::from_utf8_lossy(&value).len() > 64);
        }
    }
}

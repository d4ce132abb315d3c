//! Syntax check of e-mail addresses.

/// Longest address that mail can be sent to (RFC 5321, section 4.5.3.1).
const EMAIL_MAX_BYTES: usize = 254;

/// Returns true if `text` has the form of an e-mail address. The mailbox need not exist.
pub(super) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "@()<>[],;:\\\"".contains(c);
    // Any character beyond ASCII is accepted: many languages need marks besides letters.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || !c.is_ascii() && !forbidden(c);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= EMAIL_MAX_BYTES
        && !local.is_empty()
        && !local.contains(forbidden)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_addresses_are_taken_and_others_refused() {
        for good in [
            "john.doe@example.com",
            "a+b_c'd@mail.example.co",
            "jörg@bücher.example",
            "x@1.de",
        ] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.com", "x".repeat(EMAIL_MAX_BYTES));
        let bad = [
            "",
            "john",
            "@example.com",
            "john@",
            "john@localhost",
            "a b@example.com",
            "a@b@example.com",
        ];
        let worse = [
            "john@example..com",
            ".john@example.com",
            "jo..hn@example.com",
            "john@-example.com",
            "a@ex_ample.com",
        ];
        for text in bad.into_iter().chain(worse).chain([
            "john@example.com\n",
            "<john@example.com>",
            "a@ex\u{a0}ample.com",
            &long,
        ]) {
            assert!(!is_email(text), "{text}");
        }
    }
}

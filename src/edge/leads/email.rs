//! Which texts can be e-mail addresses.

/// The longest address that can be mailed to (RFC 5321, 4.5.3.1).
const EMAIL_MAX_BYTES: usize = 254;

/// Whether `text` can be an address: what the mail system says of it later is not known here.
pub(super) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "@()<>[],;:\\\"".contains(c);
    // Beyond ASCII there are marks besides letters in names of many languages.
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

//! Signature of the leads contract: hex HMAC-SHA256, with or without the prefix `sha256=`. A source
//! without secrets checks no signature.
//!
//! ```text
//! signed = "body"             <body>
//! signed = "time-path-body"   <X-Webhook-Timestamp>\n<path>\n<body>
//! ```

use bytes::Bytes;

use super::super::signature::{self, SignatureVerifier, VerifiedBody};
use crate::config::Secret;

const PREFIX: &[u8] = b"sha256=";

/// Signs `body` for the header `X-Webhook-Signature`; the result has no prefix.
#[must_use]
pub fn sign_lead_body(secret: &Secret, body: &[u8]) -> String {
    signature::hmac_sha256_hex(secret, body, b"")
}

/// Returns the text that a signature covers before the body: the time as its header spells it, and
/// the path. Neither holds a line break, so the text is read in one way only.
#[must_use]
pub fn signed_head(timestamp: &[u8], path: &str) -> Vec<u8> {
    [timestamp, b"\n", path.as_bytes(), b"\n"].concat()
}

/// Returns `body` as verified if one of `signatures` of `head` and `body` matches under one of the
/// secrets of `verifier`, or if `verifier` has no secrets.
#[must_use]
pub fn verify_lead_body<'s>(
    verifier: &SignatureVerifier,
    head: &[u8],
    body: Bytes,
    signatures: impl IntoIterator<Item = &'s [u8]>,
) -> Option<VerifiedBody> {
    if verifier.is_empty() {
        return Some(VerifiedBody::unsigned(body));
    }
    let verify = |signature: &[u8]| {
        let digits = signature.strip_prefix(PREFIX).unwrap_or(signature);
        verifier.verify_after(head, &body, b"", digits)
    };
    signatures.into_iter().find_map(verify)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{}";

    fn verifies(secrets: &[&str], signature: Option<&str>) -> bool {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        verify_lead_body(
            &SignatureVerifier::new(&secrets),
            b"",
            Bytes::from_static(BODY),
            signature.map(str::as_bytes),
        )
        .is_some()
    }

    #[test]
    fn a_signature_holds_with_and_without_its_prefix() {
        let signature = sign_lead_body(&Secret::new("hush"), BODY);
        assert!(
            verifies(&["hush"], Some(&signature))
                && verifies(&["hush"], Some(&format!("sha256={signature}")))
        );
        for wrong in [
            "",
            "sha256=",
            &format!("sha256=sha256={signature}"),
            &format!("sha1={signature}"),
        ] {
            assert!(!verifies(&["hush"], Some(wrong)), "{wrong}");
        }
        assert!(!verifies(&["hush"], None));
    }

    #[test]
    fn without_secrets_signatures_are_not_looked_at() {
        assert!(verifies(&[], None) && verifies(&[], Some("junk")));
    }
}

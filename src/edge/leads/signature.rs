//! Signature of the leads contract: hex HMAC-SHA256 of the body's bytes, with or without the prefix
//! `sha256=`. A source without secrets checks no signature.

use bytes::Bytes;

use super::super::signature::{self, SignatureVerifier, VerifiedBody};
use crate::config::Secret;

const PREFIX: &[u8] = b"sha256=";

/// Signs `body` for the header `X-Webhook-Signature`; the result has no prefix.
#[must_use]
pub fn sign_lead_body(secret: &Secret, body: &[u8]) -> String {
    signature::hmac_sha256_hex(secret, body, b"")
}

/// Returns `body` as verified if one of `signatures` matches under one of the secrets of `verifier`, or if
/// `verifier` has no secrets.
#[must_use]
pub fn verify_lead_body<'s>(
    verifier: &SignatureVerifier,
    body: Bytes,
    signatures: impl IntoIterator<Item = &'s [u8]>,
) -> Option<VerifiedBody> {
    if verifier.is_empty() {
        return Some(VerifiedBody::unsigned(body));
    }
    let verify = |signature: &[u8]| {
        let digits = signature.strip_prefix(PREFIX).unwrap_or(signature);
        verifier.verify(&body, b"", digits)
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

//! Signature of Instagram's calls: `sha256=` and the hex HMAC-SHA256 of the body's bytes, with the
//! app's secret.

use bytes::Bytes;

use super::super::signature::{self, SignatureVerifier, VerifiedBody};
use crate::config::Secret;

const PREFIX: &str = "sha256=";

/// Signs `body` for the header `X-Hub-Signature-256`.
#[must_use]
pub fn sign_instagram_body(secret: &Secret, body: &[u8]) -> String {
    format!("{PREFIX}{}", signature::hmac_sha256_hex(secret, body, b""))
}

/// Returns `body` as verified if `signature`, the header's value, matches under one of the secrets
/// of `verifier`.
#[must_use]
pub fn verify_instagram_body(
    verifier: &SignatureVerifier,
    body: &Bytes,
    signature: &[u8],
) -> Option<VerifiedBody> {
    verifier.verify(body, b"", signature.strip_prefix(PREFIX.as_bytes())?)
}

/// Returns true if `signature` has the form of a signature, valid or not.
pub(super) fn is_well_formed(signature: &[u8]) -> bool {
    let digits = signature
        .strip_prefix(PREFIX.as_bytes())
        .unwrap_or_default();
    digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"what do ya want for nothing?";
    /// Case 2 of RFC 4231.
    const SIGNATURE: &str =
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn verifies(signature: &str) -> bool {
        let verifier = SignatureVerifier::new(&[Secret::new("Jefe")]);
        verify_instagram_body(&verifier, &Bytes::from_static(BODY), signature.as_bytes()).is_some()
    }

    #[test]
    fn a_signature_holds_with_its_prefix_only() {
        assert_eq!(sign_instagram_body(&Secret::new("Jefe"), BODY), SIGNATURE);
        assert!(verifies(SIGNATURE));
        for malformed in [
            "",
            "sha256=",
            &SIGNATURE[7..],
            &SIGNATURE[..70],
            &format!("{SIGNATURE}00"),
            "sha1=00",
        ] {
            assert!(
                !verifies(malformed) && !is_well_formed(malformed.as_bytes()),
                "{malformed}"
            );
        }
    }
}

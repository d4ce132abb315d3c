//! The signature of Instagram's calls: `sha256=` and the hex HMAC-SHA256 of the body's bytes, under
//! the app's secret.

use bytes::Bytes;

use super::super::signature::{self, SignatureVerifier, VerifiedBody};
use crate::config::Secret;

const PREFIX: &str = "sha256=";

/// Signs `body` as `X-Hub-Signature-256` wants it.
#[must_use]
pub fn sign_instagram_body(secret: &Secret, body: &[u8]) -> String {
    format!("{PREFIX}{}", signature::hmac_sha256_hex(secret, body, b""))
}

/// `body`, if the header's value `given` is its signature under one of the secrets of `verifier`.
#[must_use]
pub fn verify_instagram_body(
    verifier: &SignatureVerifier,
    body: &Bytes,
    given: &[u8],
) -> Option<VerifiedBody> {
    verifier.verify(body, b"", given.strip_prefix(PREFIX.as_bytes())?)
}

/// Whether `given` can be a signature at all.
pub(super) fn is_well_formed(given: &[u8]) -> bool {
    let digits = given.strip_prefix(PREFIX.as_bytes()).unwrap_or_default();
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

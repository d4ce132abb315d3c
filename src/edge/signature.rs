//! HMAC-SHA256 signatures in hex over a body, shared by the contracts that sign in this way.

use bytes::Bytes;
use subtle::{Choice, ConstantTimeEq};

use super::body::strip_byte_order_mark;
use crate::config::Secret;
use crate::event::Record;
use crate::provider::HmacKey;

/// Body that may be decoded, without a byte order mark: its signature was verified, or its contract
/// needs none.
#[derive(Clone, Debug)]
pub struct VerifiedBody(Bytes);

impl VerifiedBody {
    /// Takes the body of a stored event, which was verified before it was stored.
    #[must_use]
    pub fn from_store(record: &Record) -> Self {
        Self(record.payload.clone())
    }

    /// Takes the body of a request that needs no signature.
    pub(super) fn unsigned(body: Bytes) -> Self {
        Self(strip_byte_order_mark(body))
    }

    /// Returns the bytes of the body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Verifier with the active secrets; each HMAC key is set up once instead of at each request.
pub struct SignatureVerifier(Vec<HmacKey>);

impl std::fmt::Debug for SignatureVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignatureVerifier({} secrets)", self.0.len())
    }
}

impl SignatureVerifier {
    /// Accepts signatures made with any of `secrets`; empty secrets are ignored.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self(
            secrets
                .iter()
                .filter(|secret| !secret.is_empty())
                .map(keyed_hmac)
                .collect(),
        )
    }

    /// Returns true without any secret; then no signature verifies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `body` if `signature` is the hex digest of `body` followed by `tail` under one of
    /// the secrets. All secrets are tried even after a match, so that the time taken says nothing.
    #[must_use]
    pub fn verify(&self, body: &Bytes, tail: &[u8], signature: &[u8]) -> Option<VerifiedBody> {
        self.verify_after(b"", body, tail, signature)
    }

    /// Returns `body` if `signature` is the hex digest of `head`, `body` and `tail`, in the same way.
    #[must_use]
    pub fn verify_after(
        &self,
        head: &[u8],
        body: &Bytes,
        tail: &[u8],
        signature: &[u8],
    ) -> Option<VerifiedBody> {
        let mut digest = [0; 32];
        hex::decode_to_slice(signature, &mut digest).ok()?;

        let mut is_match = Choice::from(0);
        for key in &self.0 {
            is_match |= key.tag(&[head, &body[..], tail]).ct_eq(&digest);
        }
        bool::from(is_match).then(|| VerifiedBody(strip_byte_order_mark(body.clone())))
    }
}

/// Computes the hex digest of `body` followed by `tail`.
#[must_use]
pub(super) fn hmac_sha256_hex(secret: &Secret, body: &[u8], tail: &[u8]) -> String {
    hex::encode(keyed_hmac(secret).tag(&[body, tail]))
}

fn keyed_hmac(secret: &Secret) -> HmacKey {
    HmacKey::new(secret.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"event":"status.changed"}"#;
    const TAIL: &[u8] = b"2025-12-04T10:30:00Z";

    fn verifier(secrets: &[&str]) -> SignatureVerifier {
        SignatureVerifier::new(
            &secrets
                .iter()
                .map(|secret| Secret::new(*secret))
                .collect::<Vec<_>>(),
        )
    }

    fn verifies(secrets: &[&str], body: &'static [u8], tail: &[u8], signature: &str) -> bool {
        verifier(secrets)
            .verify(&Bytes::from_static(body), tail, signature.as_bytes())
            .is_some()
    }

    /// Computed with `printf '%s%s' BODY TAIL | openssl dgst -sha256 -hmac hush`.
    #[test]
    fn a_signature_is_what_openssl_computes() {
        let expected = "fc9a8b750a145837b1a0250b4537f127217e70cfa2024290754b7037a3d2571a";
        assert_eq!(hmac_sha256_hex(&Secret::new("hush"), BODY, TAIL), expected);
        assert!(verifies(&["hush"], BODY, TAIL, expected));
    }

    #[test]
    fn any_active_secret_fits_in_either_case_of_hex() {
        let signature = hmac_sha256_hex(&Secret::new("old"), BODY, TAIL);
        for secrets in [&["old"][..], &["new", "old"], &["old", "new"]] {
            assert!(verifies(secrets, BODY, TAIL, &signature));
            assert!(verifies(secrets, BODY, TAIL, &signature.to_uppercase()));
        }
        assert!(!verifies(&["new"], BODY, TAIL, &signature));
    }

    #[test]
    fn what_was_not_signed_does_not_verify() {
        let signature = hmac_sha256_hex(&Secret::new("hush"), BODY, TAIL);
        assert!(!verifies(&["hush"], b"{}", TAIL, &signature));
        assert!(!verifies(
            &["hush"],
            BODY,
            b"2025-12-04T10:30:01Z",
            &signature
        ));
        for malformed in [
            "",
            "zz",
            &signature[1..],
            &signature[..62],
            &format!("{signature}00"),
            "sha256=00",
        ] {
            assert!(!verifies(&["hush"], BODY, TAIL, malformed), "{malformed}");
        }
    }

    #[test]
    fn an_empty_secret_opens_nothing() {
        let signature = hmac_sha256_hex(&Secret::new(""), BODY, TAIL);
        assert!(!verifies(&["", "hush"], BODY, TAIL, &signature));
        assert!(verifier(&[""]).is_empty() && !verifies(&[], BODY, TAIL, &signature));
    }
}

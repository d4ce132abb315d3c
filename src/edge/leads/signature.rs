//! The signature of a request: hex HMAC-SHA256 of the body's bytes, with or without `sha256=` before it.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::config::Secret;

type HmacSha256 = Hmac<Sha256>;

const PREFIX: &[u8] = b"sha256=";

/// Signs `body`, as `X-Webhook-Signature` wants it.
#[must_use]
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    hex::encode(digest(keyed(secret), body))
}

/// A body that its sender has signed, if it had to; nothing else is decoded.
#[derive(Clone, Debug)]
pub struct Verified(Bytes);

impl Verified {
    /// The body's bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.0
    }
}

/// The active secrets, each keyed once instead of at each request.
pub struct Verifier(Vec<HmacSha256>);

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} secrets)", self.0.len())
    }
}

impl Verifier {
    /// Takes signatures made with any of `secrets`; without any, every body counts as verified.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self(secrets.iter().map(keyed).collect())
    }

    /// `body`, if `signature` is that of it under one of the secrets. All are tried, whichever fits.
    #[must_use]
    pub fn verify(&self, body: Bytes, signature: Option<&[u8]>) -> Option<Verified> {
        if self.0.is_empty() {
            return Some(Verified(body));
        }
        let signature = signature?;
        let mut given = [0; 32];
        hex::decode_to_slice(signature.strip_prefix(PREFIX).unwrap_or(signature), &mut given).ok()?;
        let mut fits = Choice::from(0);
        for key in &self.0 {
            fits |= digest(key.clone(), &body).ct_eq(&given);
        }
        bool::from(fits).then_some(Verified(body))
    }
}

fn keyed(secret: &Secret) -> HmacSha256 {
    HmacSha256::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length")
}

fn digest(mut mac: HmacSha256, body: &[u8]) -> [u8; 32] {
    mac.update(body);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"what do ya want for nothing?";

    fn verifies(secrets: &[&str], body: &'static [u8], signature: Option<&str>) -> bool {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Verifier::new(&secrets).verify(Bytes::from_static(body), signature.map(str::as_bytes)).is_some()
    }

    /// Case 2 of RFC 4231.
    #[test]
    fn the_rfc_vector_holds_in_every_spelling() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign(&Secret::new("Jefe"), BODY), expected);
        for signature in [expected.to_owned(), format!("sha256={expected}"), expected.to_uppercase()] {
            assert!(verifies(&["Jefe"], BODY, Some(&signature)), "{signature}");
            assert!(verifies(&["new", "Jefe"], BODY, Some(&signature)), "any active secret fits");
        }
    }

    #[test]
    fn what_was_not_signed_does_not_verify() {
        let signature = sign(&Secret::new("Jefe"), BODY);
        assert!(!verifies(&["other"], BODY, Some(&signature)));
        assert!(!verifies(&["Jefe"], b"{}", Some(&signature)));
        let wrong =
            ["", "sha256=", "zz", &signature[1..], &format!("sha256=sha256={signature}"), &format!("{signature}0")];
        for malformed in wrong {
            assert!(!verifies(&["Jefe"], BODY, Some(malformed)), "{malformed}");
        }
        assert!(!verifies(&["Jefe"], BODY, None));
    }

    #[test]
    fn without_secrets_signatures_are_not_looked_at() {
        assert!(verifies(&[], BODY, None) && verifies(&[], BODY, Some("junk")));
    }
}

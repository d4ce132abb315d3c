//! The signature of Instagram's calls: `sha256=` and the hex HMAC-SHA256 of the body's bytes, under the app's secret.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::config::Secret;

type HmacSha256 = Hmac<Sha256>;

const PREFIX: &[u8] = b"sha256=";

/// Signs `body` as `X-Hub-Signature-256` wants it.
#[must_use]
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(digest(keyed(secret), body)))
}

/// The digest that a header names; `None` if it is malformed.
#[must_use]
pub fn parse(header: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(header.strip_prefix(PREFIX)?, &mut digest).ok()?;
    Some(digest)
}

/// A body that Instagram has signed; nothing else is decoded.
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
    /// Takes signatures made with any of `secrets`; an empty secret is none.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self(secrets.iter().filter(|secret| !secret.is_empty()).map(keyed).collect())
    }

    /// `body`, if `given` is its digest under one of the secrets. All are tried, whichever fits.
    #[must_use]
    pub fn verify(&self, body: &Bytes, given: [u8; 32]) -> Option<Verified> {
        let mut fits = Choice::from(0);
        for key in &self.0 {
            fits |= digest(key.clone(), body).ct_eq(&given);
        }
        bool::from(fits).then(|| Verified(body.clone()))
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
    /// Case 2 of RFC 4231.
    const SIGNATURE: &str = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn verifies(secrets: &[&str], body: &'static [u8], signature: &str) -> bool {
        let verifier = Verifier::new(&secrets.iter().map(|secret| Secret::new(*secret)).collect::<Vec<_>>());
        parse(signature.as_bytes()).and_then(|given| verifier.verify(&Bytes::from_static(body), given)).is_some()
    }

    #[test]
    fn the_rfc_vector_verifies_under_any_active_secret() {
        assert_eq!(sign(&Secret::new("Jefe"), BODY), SIGNATURE);
        for secrets in [&["Jefe"][..], &["new", "Jefe"], &["Jefe", "new"]] {
            assert!(verifies(secrets, BODY, SIGNATURE));
        }
    }

    #[test]
    fn what_was_not_signed_does_not_verify() {
        assert!(!verifies(&["new"], BODY, SIGNATURE));
        assert!(!verifies(&["Jefe"], b"{}", SIGNATURE));
        for malformed in ["", "sha256=", &SIGNATURE[7..], &SIGNATURE[..70], &format!("{SIGNATURE}00"), "sha1=00"] {
            assert!(!verifies(&["Jefe"], BODY, malformed), "{malformed}");
        }
        let of_nothing = sign(&Secret::new(""), BODY);
        assert!(!verifies(&["", "Jefe"], BODY, &of_nothing), "an empty secret opens nothing");
    }
}

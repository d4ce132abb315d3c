//! Public keys as JSON (RFC 7517), the form in which senders of tokens publish theirs.

use serde::Deserialize;

use super::encoding::SignatureEncoding;

/// Public key as JSON. Members that say how the key is used do not matter here.
#[derive(Deserialize)]
struct JsonWebKey {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// Private half, which no receiver must have.
    d: Option<String>,
}

/// Numbers of a public key, as big-endian bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonPublicKey {
    /// Point of an Ed25519 key (RFC 8037).
    Ed25519(Vec<u8>),
    /// Coordinates of a point on P-256 (RFC 7518, section 6.2).
    EcdsaP256 {
        /// First coordinate of the point.
        x: Vec<u8>,
        /// Second coordinate of the point.
        y: Vec<u8>,
    },
    /// Modulus and exponent of an RSA key (RFC 7518, section 6.3).
    Rsa {
        /// Modulus, the product of two primes.
        n: Vec<u8>,
        /// Public exponent, which is 65537 in most keys.
        e: Vec<u8>,
    },
}

impl JsonPublicKey {
    /// Parses a key; `None` for other text, for other types of keys, and for a private key.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let key: JsonWebKey = serde_json::from_str(text).ok()?;
        let decode = |member: &Option<String>| {
            SignatureEncoding::Base64Url.decode(member.as_deref()?.trim())
        };
        if key.d.is_some() {
            return None;
        }
        match (key.kty.as_str(), key.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Some(Self::Ed25519(decode(&key.x)?)),
            ("EC", Some("P-256")) => Some(Self::EcdsaP256 {
                x: decode(&key.x)?,
                y: decode(&key.y)?,
            }),
            ("RSA", _) => Some(Self::Rsa {
                n: decode(&key.n)?,
                e: decode(&key.e)?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_of_known_types_are_read() {
        let ed25519 = r#"{"kty":"OKP","crv":"Ed25519","x":"AQID"}"#;
        assert_eq!(
            JsonPublicKey::parse(ed25519),
            Some(JsonPublicKey::Ed25519(vec![1, 2, 3]))
        );
        assert_eq!(
            JsonPublicKey::parse(r#"{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag","use":"sig"}"#),
            Some(JsonPublicKey::EcdsaP256 {
                x: vec![1],
                y: vec![2]
            })
        );
        for text in [
            "",
            "{}",
            r#"{"kty":"OKP","crv":"Ed25519","x":"AQID","d":"AQID"}"#,
            r#"{"kty":"OKP","crv":"X25519","x":"AQID"}"#,
            r#"{"kty":"EC","crv":"P-384","x":"AQ","y":"Ag"}"#,
            r#"{"kty":"RSA","n":"AQ"}"#,
            r#"{"kty":"oct","k":"AQID"}"#,
        ] {
            assert_eq!(JsonPublicKey::parse(text), None, "{text}");
        }
    }
}

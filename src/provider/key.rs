//! Verification keys of a source, and the only place that compares a signature with an expected
//! one.

use std::borrow::Cow;
use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::encoding::SignatureEncoding;
use super::hmac::{HmacKey, HmacSha1, HmacSha256, HmacSha512};
use super::json_web_key::JsonPublicKey;

/// Algorithm that makes a signature from a key and the signed content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// HMAC (RFC 2104) with SHA-1, which is still secure inside HMAC.
    HmacSha1,
    /// HMAC (RFC 2104) with SHA-256.
    HmacSha256,
    /// HMAC (RFC 2104) with SHA-512.
    HmacSha512,
    /// Ed25519, a public-key signature (RFC 8032).
    Ed25519,
    /// ECDSA with P-256 and SHA-256, a public-key signature, in ASN.1 (FIPS 186-5, RFC 3279).
    EcdsaP256,
    /// ECDSA with P-256 and SHA-256, in 64 bytes (RFC 7518, section 3.4; RFC 9421, section 3.3.4).
    EcdsaP256Fixed,
    /// RSA with PKCS #1 v1.5 and SHA-256, a public-key signature (RFC 8017).
    RsaSha256,
    /// SHA-256 of the secret followed by the content, in HubSpot's versions 1 and 2.
    Sha256,
    /// The secret itself, sent in a header.
    Token,
}

impl SignatureAlgorithm {
    /// Tells if anybody can know the key that verifies a signature.
    pub(super) const fn is_public(self) -> bool {
        match self {
            Self::Ed25519 | Self::EcdsaP256 | Self::EcdsaP256Fixed | Self::RsaSha256 => true,
            Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha512 | Self::Sha256 | Self::Token => {
                false
            }
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "HMAC-SHA1",
            Self::HmacSha256 => "HMAC-SHA256",
            Self::HmacSha512 => "HMAC-SHA512",
            Self::Ed25519 => "Ed25519",
            Self::EcdsaP256 | Self::EcdsaP256Fixed => "ECDSA P-256",
            Self::RsaSha256 => "RSA with SHA-256",
            Self::Sha256 => "SHA-256 of secret and content",
            Self::Token => "the secret itself",
        })
    }
}

/// A configured secret that its scheme cannot use. The text names the expected form and never
/// repeats the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct VerificationKeyError(pub(super) &'static str);

/// Length of an uncompressed point on P-256: a mark and two coordinates.
const ECDSA_POINT_BYTES: usize = 65;
/// Mark of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 0x04;
/// Beginning of every Ed25519 public key in DER (RFC 8410), before its 32 bytes.
const ED25519_KEY_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Beginning of every public key on P-256 in DER (RFC 5480), before the point.
const ECDSA_KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Secret or public key of a source. Wiped from memory when dropped, and never shown.
#[derive(Clone)]
pub enum VerificationKey {
    /// Secret that sender and receiver share.
    Secret(Zeroizing<Vec<u8>>),
    /// Public half of the sender's Ed25519 key pair.
    Public(Box<VerifyingKey>),
    /// Public half of the sender's ECDSA key pair: the point on P-256, uncompressed.
    Ecdsa(Box<[u8; ECDSA_POINT_BYTES]>),
    /// Public half of the sender's RSA key pair: modulus and exponent in DER (RFC 8017, A.1.1).
    Rsa(Box<[u8]>),
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl VerificationKey {
    /// Key of the bytes of `text` as they are.
    ///
    /// # Errors
    /// [`VerificationKeyError`] for a blank secret, which would let anyone in.
    pub fn from_secret(text: &str) -> Result<Self, VerificationKeyError> {
        if text.trim().is_empty() {
            return Err(VerificationKeyError("a secret that is not empty"));
        }
        Ok(Self::Secret(Zeroizing::new(text.as_bytes().to_vec())))
    }

    /// Key of a login in the form `user:password`.
    ///
    /// # Errors
    /// [`VerificationKeyError`] for a text without a colon or with an empty password.
    pub fn from_login(text: &str) -> Result<Self, VerificationKeyError> {
        match text.split_once(':') {
            Some((_, password)) if !password.is_empty() => Self::from_secret(text),
            Some(_) | None => Err(VerificationKeyError("user:password")),
        }
    }

    /// Key of an Ed25519 public key: 32 bytes in hex, or in base64 with or without `whpk_` before
    /// them.
    ///
    /// # Errors
    /// [`VerificationKeyError`] for any other text, and for a weak key, which would accept forged
    /// signatures.
    pub fn from_public(text: &str) -> Result<Self, VerificationKeyError> {
        const EXPECTED: VerificationKeyError = VerificationKeyError(
            "an Ed25519 public key: 32 bytes in hex, in base64 with or without whpk_ before them, \
             in PEM, or as JSON Web Key",
        );
        if text.starts_with("whsk_") {
            return Err(VerificationKeyError(
                "the public key (whpk_…); the private one (whsk_…) stays with the sender",
            ));
        }
        // The digits of 32 bytes in hex are base64 of 48 bytes, so the length tells them apart.
        let base64 = text.strip_prefix("whpk_").unwrap_or(text);
        let json = match JsonPublicKey::parse(text) {
            Some(JsonPublicKey::Ed25519(bytes)) => Some(bytes),
            _ => None,
        };
        let bytes = [
            json,
            SignatureEncoding::Hex.decode(text),
            SignatureEncoding::Base64.decode(base64),
            decode_pem(text),
        ]
        .into_iter()
        .flatten()
        .find_map(|bytes| {
            let key = bytes.strip_prefix(&ED25519_KEY_PREFIX).unwrap_or(&bytes);
            <[u8; 32]>::try_from(key).ok()
        })
        .ok_or(EXPECTED)?;
        let key = VerifyingKey::from_bytes(&bytes)
            .ok()
            .filter(|key| !key.is_weak());
        key.map(|key| Self::Public(Box::new(key))).ok_or(EXPECTED)
    }

    /// Key of an ECDSA public key on P-256 in DER, as base64 or PEM, or as JSON Web Key.
    ///
    /// # Errors
    /// [`VerificationKeyError`] for any other text.
    pub fn from_ecdsa(text: &str) -> Result<Self, VerificationKeyError> {
        const EXPECTED: VerificationKeyError = VerificationKeyError(
            "an ECDSA public key on P-256, in base64 (MFkw…), PEM or JSON Web Key",
        );
        if let Some(JsonPublicKey::EcdsaP256 { x, y }) = JsonPublicKey::parse(text) {
            let point = [&[UNCOMPRESSED][..], &x, &y].concat();
            let is_point = x.len() == y.len();
            let point = <[u8; ECDSA_POINT_BYTES]>::try_from(point).ok();
            let point = point.filter(|_| is_point).ok_or(EXPECTED)?;
            return Ok(Self::Ecdsa(Box::new(point)));
        }
        let bytes = decode_pem(text).ok_or(EXPECTED)?;
        let point = bytes.strip_prefix(&ECDSA_KEY_PREFIX).ok_or(EXPECTED)?;
        let point = <[u8; ECDSA_POINT_BYTES]>::try_from(point).map_err(|_| EXPECTED)?;
        Ok(Self::Ecdsa(Box::new(point)))
    }

    /// Key of an RSA public key of 2,048 to 8,192 bits in DER, as base64 or PEM, or as JSON Web Key.
    ///
    /// # Errors
    /// [`VerificationKeyError`] for any other text.
    pub fn from_rsa(text: &str) -> Result<Self, VerificationKeyError> {
        const EXPECTED: VerificationKeyError = VerificationKeyError(
            "an RSA public key of 2048 to 8192 bits, in base64 (MIIB…), PEM or JSON Web Key",
        );
        let bytes = match JsonPublicKey::parse(text) {
            Some(JsonPublicKey::Rsa { n, e }) => encode_rsa_key(&n, &e),
            _ => decode_pem(text).ok_or(EXPECTED)?,
        };
        let key = rsa_public_key(&bytes).ok_or(EXPECTED)?;
        Ok(Self::Rsa(key.into()))
    }

    /// Key of a Standard Webhooks secret (`whsec_` and base64, or base64 alone) or public key
    /// (`whpk_` and base64).
    ///
    /// # Errors
    /// [`VerificationKeyError`] for any other text.
    pub fn from_standard(text: &str) -> Result<Self, VerificationKeyError> {
        if text.starts_with("whpk_") || text.starts_with("whsk_") {
            return Self::from_public(text);
        }
        let bytes = SignatureEncoding::Base64.decode(text.strip_prefix("whsec_").unwrap_or(text));
        let bytes = bytes
            .filter(|bytes| !bytes.is_empty())
            .ok_or(VerificationKeyError("whsec_ or whpk_ and base64"))?;
        Ok(Self::Secret(Zeroizing::new(bytes)))
    }

    /// Returns the bytes of a shared secret; `None` for a public key.
    pub(super) fn secret(&self) -> Option<&[u8]> {
        match self {
            Self::Secret(secret) => Some(secret),
            Self::Public(_) | Self::Ecdsa(_) | Self::Rsa(_) => None,
        }
    }

    /// Returns the bytes that tell this key from others of its source.
    pub(super) fn identity(&self) -> &[u8] {
        match self {
            Self::Secret(secret) => secret,
            Self::Public(key) => key.as_bytes(),
            Self::Ecdsa(point) => point.as_slice(),
            Self::Rsa(key) => key,
        }
    }

    /// Returns true if one of `signatures` is the signature of `signed` under this key. With a
    /// secret, the time taken depends only on the number of signatures.
    pub(super) fn matches_any(
        &self,
        algorithm: SignatureAlgorithm,
        signed: &[Cow<'_, [u8]>],
        signatures: &[Vec<u8>],
    ) -> Choice {
        let expected = match (algorithm, self) {
            (SignatureAlgorithm::HmacSha1, Self::Secret(secret)) => {
                HmacKey::<HmacSha1>::new(secret).tag(signed).to_vec()
            }
            (SignatureAlgorithm::HmacSha256, Self::Secret(secret)) => {
                HmacKey::<HmacSha256>::new(secret).tag(signed).to_vec()
            }
            (SignatureAlgorithm::HmacSha512, Self::Secret(secret)) => {
                HmacKey::<HmacSha512>::new(secret).tag(signed).to_vec()
            }
            (SignatureAlgorithm::Sha256, Self::Secret(secret)) => hash_with_secret(secret, signed),
            (SignatureAlgorithm::Token, Self::Secret(secret)) => secret.to_vec(),
            (SignatureAlgorithm::Ed25519, Self::Public(key)) => {
                return verify_ed25519(key, &signed.concat(), signatures);
            }
            (SignatureAlgorithm::EcdsaP256, Self::Ecdsa(point)) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point[..]);
                return verify_public(&key, &signed.concat(), signatures);
            }
            (SignatureAlgorithm::EcdsaP256Fixed, Self::Ecdsa(point)) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point[..]);
                return verify_public(&key, &signed.concat(), signatures);
            }
            (SignatureAlgorithm::RsaSha256, Self::Rsa(key)) => {
                let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key[..]);
                return verify_public(&key, &signed.concat(), signatures);
            }
            // A source has keys of several kinds while its sender moves from one to another.
            (
                SignatureAlgorithm::Ed25519
                | SignatureAlgorithm::EcdsaP256
                | SignatureAlgorithm::EcdsaP256Fixed
                | SignatureAlgorithm::RsaSha256,
                Self::Secret(_),
            )
            | (_, Self::Public(_) | Self::Ecdsa(_) | Self::Rsa(_)) => {
                return Choice::from(0);
            }
        };
        let expected = Zeroizing::new(expected);
        signatures
            .iter()
            .fold(Choice::from(0), |is_match, signature| {
                is_match | expected.ct_eq(signature)
            })
    }
}

fn hash_with_secret(secret: &[u8], signed: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let start = Sha256::new_with_prefix(secret);
    signed
        .iter()
        .fold(start, |hash, piece| hash.chain_update(piece))
        .finalize()
        .to_vec()
}

/// Stops at the first valid signature: a public key holds no secret that timing could reveal.
fn verify_ed25519(key: &VerifyingKey, message: &[u8], signatures: &[Vec<u8>]) -> Choice {
    let is_valid = |bytes: &Vec<u8>| {
        Signature::from_slice(bytes)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    };
    Choice::from(u8::from(signatures.iter().any(is_valid)))
}

/// Stops at the first valid signature, for the same reason.
fn verify_public(key: &UnparsedPublicKey<&[u8]>, message: &[u8], signatures: &[Vec<u8>]) -> Choice {
    let is_valid = |signature: &Vec<u8>| key.verify(message, signature).is_ok();
    Choice::from(u8::from(signatures.iter().any(is_valid)))
}

/// Decodes base64 with or without the lines around it that PEM has. An environment variable often has
/// them all in one line, or `\n` instead of line breaks.
fn decode_pem(text: &str) -> Option<Vec<u8>> {
    let text = text.replace("\\n", "\n");
    let is_label = |part: &&str| part.starts_with("BEGIN ") || part.starts_with("END ");
    let base64: String = text
        .split("-----")
        .filter(|part| !is_label(part))
        .flat_map(str::split_ascii_whitespace)
        .collect();
    SignatureEncoding::Base64.decode(&base64)
}

/// Returns the part of `der` that is an RSA public key: all of it, or the content of a public key
/// with its algorithm (RFC 5280, section 4.1).
fn rsa_public_key(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    /// Object id of RSA, and the parameter NULL.
    const RSA_ALGORITHM: &[u8] = &[
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];

    let (content, b"") = split_der(der, SEQUENCE)? else {
        return None;
    };
    if let Some((algorithm, rest)) = split_der(content, SEQUENCE) {
        let (bits, rest) = split_der(rest, BIT_STRING)?;
        let is_rsa = algorithm == RSA_ALGORITHM && rest.is_empty();
        // The first byte counts the unused bits of the last one.
        return rsa_public_key(bits.strip_prefix(&[0]).filter(|_| is_rsa)?);
    }
    let (modulus, rest) = split_der(content, INTEGER)?;
    let (_exponent, b"") = split_der(rest, INTEGER)? else {
        return None;
    };
    // A positive number whose first bit is set has a zero before it.
    let bytes = modulus.strip_prefix(&[0]).unwrap_or(modulus).len();
    (256..=1024).contains(&bytes).then_some(der)
}

/// Encodes an RSA public key in DER (RFC 8017, A.1.1).
fn encode_rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let encode = |tag: u8, content: &[u8]| {
        // Two bytes of length hold more than a key of 8,192 bits.
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        [&[tag, 0x82][..], &length.to_be_bytes(), content].concat()
    };
    let encode_integer = |bytes: &[u8]| {
        let start = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = &bytes[start..];
        // DER has a length below 128 in one byte, as that of every usual exponent.
        let sign: &[u8] = if digits.first().is_some_and(|byte| *byte >= 0x80) {
            &[0]
        } else {
            &[]
        };
        let content = [sign, digits].concat();
        match u8::try_from(content.len()) {
            Ok(length @ 0..=0x7f) => [&[0x02, length][..], &content].concat(),
            Ok(length) => [&[0x02, 0x81, length][..], &content].concat(),
            Err(_) => encode(0x02, &content),
        }
    };
    encode(
        0x30,
        &[encode_integer(modulus), encode_integer(exponent)].concat(),
    )
}

/// Splits the first value of `der` off, if it has this tag: its content, and what follows it.
fn split_der(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(
        key: &VerificationKey,
        algorithm: SignatureAlgorithm,
        signed: &str,
        signature: &str,
    ) -> bool {
        let signature = hex::decode(signature).expect("hex");
        key.matches_any(algorithm, &[Cow::Borrowed(signed.as_bytes())], &[signature])
            .into()
    }

    /// Case 2 of RFC 2202 (SHA-1) and of RFC 4231 (SHA-256, SHA-512).
    #[test]
    fn the_rfc_vectors_hold() {
        let key = VerificationKey::from_secret("Jefe").expect("a secret");
        let table = [
            (
                SignatureAlgorithm::HmacSha1,
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            ),
            (
                SignatureAlgorithm::HmacSha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                SignatureAlgorithm::HmacSha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ];
        for (algorithm, expected) in table {
            assert!(
                fits(&key, algorithm, "what do ya want for nothing?", expected),
                "{algorithm}"
            );
            assert!(
                !fits(&key, algorithm, "what do ya want for nothing!", expected),
                "{algorithm}"
            );
        }
    }

    /// Test 2 of RFC 8032, section 7.1.
    #[test]
    fn the_ed25519_vector_holds() {
        let public =
            hex::decode("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
                .expect("hex");
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        for text in [
            SignatureEncoding::Base64.encode(&public),
            format!("whpk_{}", SignatureEncoding::Base64.encode(&public)),
            SignatureEncoding::Hex.encode(&public),
            SignatureEncoding::Hex.encode(&public).to_uppercase(),
            format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
                SignatureEncoding::Base64.encode(&[&ED25519_KEY_PREFIX[..], &public].concat())
            ),
        ] {
            let key = VerificationKey::from_public(&text).expect("a public key");
            assert!(fits(&key, SignatureAlgorithm::Ed25519, "r", signature));
            assert!(!fits(&key, SignatureAlgorithm::Ed25519, "s", signature));
            assert!(
                !fits(&key, SignatureAlgorithm::Token, "", &hex::encode(&public)),
                "a public key is no secret"
            );
        }
    }

    /// Test vector of SendGrid's own libraries (sendgrid-nodejs, `eventwebhook.spec.js`).
    #[test]
    fn an_ecdsa_key_is_read_from_one_line_and_from_pem() {
        let signed = concat!(
            "1600112502",
            r#"[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","#,
            r#""sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","#,
            r#""sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","#,
            r#""smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]"#,
            "\r\n"
        );
        let signature = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
        let signature = SignatureEncoding::Base64.decode(signature).expect("base64");
        let (first, rest) = (
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfS",
            "mpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
        );
        for text in [
            format!("{first}{rest}"),
            format!("-----BEGIN PUBLIC KEY-----\n{first}\n{rest}\n-----END PUBLIC KEY-----\n"),
            format!("-----BEGIN PUBLIC KEY-----\\n{first}\\n{rest}\\n-----END PUBLIC KEY-----\\n"),
            format!("-----BEGIN PUBLIC KEY----- {first} {rest} -----END PUBLIC KEY-----"),
        ] {
            let key = VerificationKey::from_ecdsa(&text).expect("a public key");
            let fits = |signed: &str, signature: &[u8]| {
                let signed = [Cow::Borrowed(signed.as_bytes())];
                let signatures = [vec![0; 70], signature.to_vec()];
                bool::from(key.matches_any(SignatureAlgorithm::EcdsaP256, &signed, &signatures))
            };
            assert!(fits(signed, &signature));
            assert!(
                !fits(signed.trim_end(), &signature),
                "the line end is signed"
            );
            assert!(!fits(signed, &signature[1..]));
        }
        for text in [
            "",
            "MFkw",
            first,
            "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        ] {
            assert!(VerificationKey::from_ecdsa(text).is_err(), "{text}");
        }
    }

    /// Key and signature made by `openssl genrsa 2048` and `openssl dgst -sha256 -sign`.
    #[test]
    fn an_rsa_key_is_read_in_both_of_its_forms() {
        let (spki, pkcs1) = (
            include_str!("test_keys/rsa.spki.pem"),
            include_str!("test_keys/rsa.pkcs1.pem"),
        );
        let signature = include_str!("test_keys/rsa.signature");
        let one_line: String = spki.lines().filter(|line| !line.starts_with('-')).collect();
        for text in [spki, pkcs1, &one_line] {
            let key = VerificationKey::from_rsa(text).expect("a public key");
            let fits = |signed: &str| {
                fits(
                    &key,
                    SignatureAlgorithm::RsaSha256,
                    signed,
                    signature.trim(),
                )
            };
            assert!(fits("1764374400.{}"), "{text}");
            assert!(!fits("1764374401.{}"), "{text}");
        }
        for text in [
            "",
            "MIIB",
            &one_line[..one_line.len() / 2],
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
        ] {
            assert!(VerificationKey::from_rsa(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_verify_is_no_key() {
        for text in ["", " "] {
            assert!(VerificationKey::from_secret(text).is_err());
        }
        for text in ["user", "user:", ""] {
            assert!(VerificationKey::from_login(text).is_err(), "{text}");
        }
        // The last is the neutral point, under which one signature fits every message.
        let neutral = SignatureEncoding::Base64.encode(&[&[1][..], &[0; 31]].concat());
        for text in ["", "whpk_", "whpk_AAAA", "not base64", neutral.as_str()] {
            assert!(VerificationKey::from_public(text).is_err(), "{text}");
        }
        for text in ["", "whsec_", "whsec_!"] {
            assert!(VerificationKey::from_standard(text).is_err(), "{text}");
        }
        let private =
            VerificationKey::from_standard("whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=")
                .expect_err("the sender's own");
        assert!(
            private.to_string().contains("whpk_") && !private.to_string().contains("6Xb"),
            "{private}"
        );
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert_eq!(
            format!("{:?}", VerificationKey::from_secret("hunter2")),
            "Ok(…)"
        );
    }
}

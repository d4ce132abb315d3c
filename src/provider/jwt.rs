//! JSON Web Token in a header: signature scheme of senders that describe a call by signed claims
//! (RFC 7519, in the compact form of RFC 7515).
//!
//! ```text
//! Authorization: Bearer <header>.<claims>.<signature>      each in base64url
//!                        │        │
//!                        │        └ iat, nbf, exp: validity; iss, aud: as configured;
//!                        │          one claim, named in the configuration: SHA-256 of the body
//!                        └ alg: must be the configured one, whatever the token says
//! ```
//!
//! Without the claim for the body, the token proves who calls and nothing about the content.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::claim_error::ClaimError;
use super::claim_headers::require_header;
use super::encoding::SignatureEncoding;
use super::key::SignatureAlgorithm;
use super::request::RequestView;
use super::signature_claim::{SignatureClaim, SignatureSet, SignedContentLayout, SignedTime};
use super::signature_header::strip_prefix_ignore_case;
use super::signed_content::SignedContent;
use crate::event::Timestamp;

/// Description of the tokens of one sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtScheme {
    /// Name of the header with the token, in lower case.
    pub header: Cow<'static, str>,
    /// Text before the token, such as `Bearer `; may be empty.
    pub prefix: Cow<'static, str>,
    /// Algorithm of the signature; a token with another one is refused.
    pub algorithm: SignatureAlgorithm,
    /// Claim with the SHA-256 of the body, in hex or base64url. Without it, the body is not signed.
    pub body_hash: Option<Box<str>>,
    /// Required value of the claim `iss`.
    pub issuer: Option<Box<str>>,
    /// Required value of the claim `aud`, or one of its values.
    pub audience: Option<Box<str>>,
}

/// Members of the token's header that decide about its verification.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    /// Extensions that a verifier must know (RFC 7515, section 4.1.11). This one knows none.
    crit: Option<Value>,
}

impl JwtScheme {
    /// Returns the name of `algorithm` in a token (RFC 7518, section 3.1; RFC 8037); `None` if
    /// there is none.
    #[must_use]
    pub const fn algorithm_name(algorithm: SignatureAlgorithm) -> Option<&'static str> {
        match algorithm {
            SignatureAlgorithm::HmacSha256 => Some("HS256"),
            SignatureAlgorithm::HmacSha512 => Some("HS512"),
            SignatureAlgorithm::RsaSha256 => Some("RS256"),
            SignatureAlgorithm::EcdsaP256Fixed => Some("ES256"),
            SignatureAlgorithm::Ed25519 => Some("EdDSA"),
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::EcdsaP256
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Token => None,
        }
    }

    /// Reads the claim of `request`, without checking its signature.
    pub(super) fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        let malformed = |expected: &str| ClaimError::malformed(&self.header, expected);
        let value = require_header(request, &self.header)?;
        let token = strip_prefix_ignore_case(value, &self.prefix).map(str::trim);
        let token = token.ok_or_else(|| malformed("the prefix and a token"))?;

        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or_else(|| malformed("a token of three parts"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or_else(|| malformed("a token of three parts"))?;
        let signature = SignatureEncoding::Base64Url.decode(signature);
        let signature = signature.ok_or_else(|| malformed("a signature in base64url"))?;

        let header: TokenHeader =
            decode_part(header).ok_or_else(|| malformed("a token with a header in JSON"))?;
        if Self::algorithm_name(self.algorithm) != Some(header.alg.as_str()) {
            return Err(malformed("a token with the algorithm of the configuration"));
        }
        if header.crit.is_some() {
            return Err(malformed("a token without critical extensions"));
        }

        let claims: Map<String, Value> =
            decode_part(claims).ok_or_else(|| malformed("a token with claims in JSON"))?;
        self.check_parties(&claims)?;
        self.check_body(&claims, request.body)?;
        let time = read_validity(&claims).ok_or_else(|| malformed("times in Unix seconds"))?;

        Ok(SignatureClaim {
            header: &self.header,
            proofs: vec![SignatureSet {
                algorithm: self.algorithm,
                signatures: vec![signature],
            }],
            layout: SignedContentLayout::Fixed("header.claims of the token"),
            // The parts are base64url, in which no point occurs.
            signed: SignedContent::without_cut_check(vec![Cow::Borrowed(signed.as_bytes())]),
            alternatives: Vec::new(),
            time: Some(time),
            covers_body: self.body_hash.is_some(),
            others: Vec::new(),
        })
    }

    /// Checks who made the token, and for whom.
    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), ClaimError> {
        let names = |claim: &str, wanted: &str| match claims.get(claim) {
            Some(Value::String(text)) => text == wanted,
            Some(Value::Array(items)) => items.iter().any(|item| item == wanted),
            _ => false,
        };
        for (claim, wanted) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if wanted.as_ref().is_some_and(|wanted| !names(claim, wanted)) {
                let expected = format!("a token whose {claim} is the one of the configuration");
                return Err(ClaimError::malformed(&self.header, expected));
            }
        }
        Ok(())
    }

    /// Checks that the token was made for this `body`, if it tells.
    fn check_body(&self, claims: &Map<String, Value>, body: &[u8]) -> Result<(), ClaimError> {
        let Some(name) = &self.body_hash else {
            return Ok(());
        };
        let told = claims.get(&**name).and_then(Value::as_str);
        let told = told.ok_or(ClaimError::UnsignedBody)?;
        let hash = Sha256::digest(body);
        let is_same = [SignatureEncoding::Hex, SignatureEncoding::Base64Url]
            .into_iter()
            .filter_map(|encoding| encoding.decode(told))
            .any(|told| told == hash.as_slice());
        is_same.then_some(()).ok_or(ClaimError::OtherBody)
    }
}

/// Decodes one part of a token: JSON in base64url.
fn decode_part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = SignatureEncoding::Base64Url.decode(text)?;
    serde_json::from_slice(&bytes).ok()
}

/// Reads the times of a token; `None` if one of them is no time.
fn read_validity(claims: &Map<String, Value>) -> Option<SignedTime<'static>> {
    let read = |name| match claims.get(name) {
        Some(value) => parse_numeric_date(value).map(Some),
        None => Some(None),
    };
    let (issued_at, not_before) = (read("iat")?, read("nbf")?);
    Some(SignedTime::Period {
        made_at: issued_at.max(not_before),
        ends_at: read("exp")?,
    })
}

/// Parses a NumericDate: seconds since 1970, which may have a fraction (RFC 7519, section 2).
fn parse_numeric_date(value: &Value) -> Option<Timestamp> {
    /// End of the year 9999.
    const SECONDS_MAX: f64 = 253_402_300_799.0;
    let seconds = value.as_f64()?;
    let is_time = (0.0..=SECONDS_MAX).contains(&seconds);
    is_time.then(|| Timestamp::from_micros((seconds * 1_000_000.0) as i64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};
    use crate::provider::hmac::{HmacKey, HmacSha256};
    use crate::provider::key::VerificationKey;
    use crate::provider::signature_claim::VerificationError;

    const SECRET: &str = "test-secret-long-enough-for-any-node";
    const NOW_S: i64 = 1_764_374_400;
    const BODY: &str = r#"{"id":7}"#;

    fn scheme() -> JwtScheme {
        JwtScheme {
            header: "authorization".into(),
            prefix: "Bearer ".into(),
            algorithm: SignatureAlgorithm::HmacSha256,
            body_hash: Some("payload_hash".into()),
            issuer: Some("crm".into()),
            audience: Some("hooks".into()),
        }
    }

    fn token(header: &str, claims: &str) -> String {
        let encode = |text: &[u8]| {
            let padded = SignatureEncoding::Base64Url.encode(text);
            padded.trim_end_matches('=').to_owned()
        };
        let signed = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let tag = HmacKey::<HmacSha256>::new(SECRET.as_bytes()).tag(&[signed.as_bytes()]);
        format!("Bearer {signed}.{}", encode(tag.as_ref()))
    }

    fn check_with(scheme: &JwtScheme, value: &str, body: &str) -> Result<(), String> {
        let request = RequestView {
            method: "POST",
            url: "https://hooks.example.com/in/x",
            headers: vec![("authorization", value.as_bytes())],
            body: body.as_bytes(),
        };
        let keys = [VerificationKey::from_secret(SECRET).expect("a key")];
        let now = Timestamp::from_micros(NOW_S * 1_000_000);
        let claim = scheme
            .read_claim(&request)
            .map_err(|error| error.to_string())?;
        let checked = claim.check(&keys, Duration::from_secs(300), now);
        checked
            .map(drop)
            .map_err(|error: VerificationError| error.to_string())
    }

    fn check(header: &str, claims: &str, body: &str) -> Result<(), String> {
        check_with(&scheme(), &token(header, claims), body)
    }

    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn claims(more: &str) -> String {
        let hash = hex::encode(Sha256::digest(BODY));
        format!(r#"{{"iss":"crm","aud":["x","hooks"],"payload_hash":"{hash}"{more}}}"#)
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        /// A sender with the key may sign anything.
        #[test]
        fn any_token_is_read_or_refused(
            value in damaged_text(&[&token(HEADER, &claims(",\"iat\":1764374400"))]),
            header in damaged_text(&[HEADER, r#"{"alg":"HS256","crit":["b64"],"b64":false}"#]),
            claims in damaged_text(&[&claims(",\"exp\":1764374400.5,\"nbf\":-1e300"), "{\"aud\":{}}"]),
        ) {
            let _ = check_with(&scheme(), &value, BODY);
            let _ = check(&header, &claims, BODY);
        }
    }

    /// Examples of RFC 7515, appendices A.1 to A.3: one set of claims, signed by three algorithms.
    /// The first key is no text, the others are published as JSON.
    #[test]
    fn the_tokens_of_the_standard_verify() {
        const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let secret = SignatureEncoding::Base64Url
            .decode(secret)
            .expect("base64url");
        let rsa = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
        let ecdsa = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        let table = [
            (
                SignatureAlgorithm::HmacSha256,
                VerificationKey::Secret(zeroize::Zeroizing::new(secret)),
                "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            ),
            (
                SignatureAlgorithm::RsaSha256,
                VerificationKey::from_rsa(rsa).expect("a key"),
                "eyJhbGciOiJSUzI1NiJ9",
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            ),
            (
                SignatureAlgorithm::EcdsaP256Fixed,
                VerificationKey::from_ecdsa(ecdsa).expect("a key"),
                "eyJhbGciOiJFUzI1NiJ9",
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
        ];
        for (algorithm, key, header, signature) in table {
            let scheme = JwtScheme {
                header: "x-token".into(),
                prefix: "".into(),
                algorithm,
                body_hash: None,
                issuer: Some("joe".into()),
                audience: None,
            };
            let value = format!("{header}.{CLAIMS}.{signature}");
            let request = RequestView {
                method: "POST",
                url: "",
                headers: vec![("x-token", value.as_bytes())],
                body: b"",
            };
            let claim = scheme.read_claim(&request).expect("a claim");
            let check_at = |seconds: i64| {
                let now = Timestamp::from_micros(seconds * 1_000_000);
                let checked =
                    claim.check(std::slice::from_ref(&key), Duration::from_secs(300), now);
                checked.map(|found| found.key)
            };
            assert_eq!(check_at(1_300_819_380), Ok(0), "{algorithm}");
            assert_eq!(
                check_at(1_300_819_381),
                Err(VerificationError::StaleTimestamp),
                "{algorithm}"
            );
            let other = VerificationKey::from_secret(SECRET).expect("a key");
            let now = Timestamp::from_micros(1_300_819_380_000_000);
            assert_eq!(
                claim
                    .check(&[other], Duration::from_secs(300), now)
                    .map(drop),
                Err(VerificationError::InvalidSignature),
                "{algorithm}"
            );
        }
    }

    /// A tolerance of zero also switched off the end that the sender had signed.
    #[test]
    fn an_end_that_is_signed_holds_without_a_tolerance_too() {
        let keys = [VerificationKey::from_secret(SECRET).expect("a key")];
        let now = Timestamp::from_micros(NOW_S * 1_000_000);
        for (times, is_valid) in [
            (format!(r#","exp":{}"#, NOW_S - 1), false),
            (format!(r#","exp":{}"#, NOW_S + 1), true),
            (format!(r#","iat":{}"#, NOW_S - 9_000_000), true),
            (format!(r#","iat":1,"exp":{}"#, NOW_S + 9_000_000), true),
        ] {
            let value = token(HEADER, &claims(&times));
            let request = RequestView {
                method: "POST",
                url: "",
                headers: vec![("authorization", value.as_bytes())],
                body: BODY.as_bytes(),
            };
            let scheme = scheme();
            let claim = scheme.read_claim(&request).expect("a claim");
            let checked = claim.check(&keys, Duration::ZERO, now).map(drop);
            assert_eq!(checked.is_ok(), is_valid, "{times}: {checked:?}");
        }
    }

    #[test]
    fn a_token_holds_for_its_body_and_its_time_only() {
        let now = format!(r#","iat":{NOW_S}"#);
        assert_eq!(check(HEADER, &claims(&now), BODY), Ok(()));
        let other = check(HEADER, &claims(&now), r#"{"id":8}"#);
        assert!(other.is_err_and(|error| error.contains("hash")));

        for (times, is_valid) in [
            (format!(r#","iat":{}"#, NOW_S - 300), true),
            (format!(r#","iat":{}.5"#, NOW_S - 10), true),
            (format!(r#","iat":{}"#, NOW_S - 301), false),
            (format!(r#","iat":{}"#, NOW_S + 301), false),
            (
                format!(r#","iat":{},"exp":{}"#, NOW_S - 3_000, NOW_S + 1),
                true,
            ),
            (
                format!(r#","iat":{},"exp":{}"#, NOW_S - 10, NOW_S - 1),
                false,
            ),
            (
                format!(r#","iat":{},"exp":{}"#, NOW_S - 90_000, NOW_S + 90_000),
                false,
            ),
            (
                format!(r#","nbf":{},"exp":{}"#, NOW_S + 400, NOW_S + 900),
                false,
            ),
            (format!(r#","exp":{}"#, NOW_S + 60), true),
            (String::new(), false),
            (r#","iat":"now""#.to_owned(), false),
        ] {
            let outcome = check(HEADER, &claims(&times), BODY);
            assert_eq!(outcome.is_ok(), is_valid, "{times}: {outcome:?}");
        }
    }

    #[test]
    fn a_token_of_another_algorithm_sender_or_receiver_is_refused() {
        let claims = claims(&format!(r#","iat":{NOW_S}"#));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            "{",
        ] {
            assert!(check(header, &claims, BODY).is_err(), "{header}");
        }
        for (found, other) in [("crm", "evil"), ("hooks", "others"), ("payload_", "")] {
            let changed = claims.replace(found, other);
            assert!(check(HEADER, &changed, BODY).is_err(), "{changed}");
        }
        let genuine = token(HEADER, &claims);
        for value in [
            genuine.replace("Bearer", "Basic"),
            genuine.replace('.', ""),
            format!("{genuine}.x"),
            genuine[..genuine.len() - 4].to_owned(),
        ] {
            assert!(check_with(&scheme(), &value, BODY).is_err(), "{value}");
        }
        assert_eq!(check_with(&scheme(), &genuine, BODY), Ok(()));
    }
}

//! HubSpot, in the three versions of its signature.
//!
//! | version | headers | made of |
//! |---|---|---|
//! | v1 | `X-HubSpot-Signature`, `-Version: v1` | SHA-256 of secret, body |
//! | v2 | `X-HubSpot-Signature`, `-Version: v2` | SHA-256 of secret, method, URL, body |
//! | v3 | `X-HubSpot-Signature-v3`, `X-HubSpot-Request-Timestamp` | HMAC-SHA256 of method, URL, body, time |
//!
//! Where a request has the third it counts, since only that covers a time; a request that has the
//! time of the third must have that, or somebody took it away.
//!
//! The earlier two are no HMAC: who saw one request knows the hash of that followed by padding and
//! by anything else (length extension). The padding begins with the byte 0x80 behind a whole
//! character, and no UTF-8 has that, so they are believed of JSON only. A form would take the
//! padding for a part of its last value, and `Content-Type` is not signed.

use std::borrow::Cow;

use super::{PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE};
use crate::provider::body::{DocumentFormat, RequestDocument};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::no_claim::ClaimError;
use crate::provider::request::RequestView;
use crate::provider::scheme::require_header;
use crate::provider::signature_claim::{SignatureClaim, SignatureSet, SignedContentLayout};

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "hubspot",
    signing: PresetSigning::Own {
        key: VerificationKey::from_secret,
        claim,
    },
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::None,
};

const V3: &str = "x-hubspot-signature-v3";
const TIMESTAMP: &str = "x-hubspot-request-timestamp";
const EARLIER: &str = "x-hubspot-signature";
const VERSION: &str = "x-hubspot-signature-version";

/// The escapes that HubSpot undoes in a URL before it signs that (v3).
const UNDONE: [(&str, char); 11] = [
    ("%3A", ':'),
    ("%2F", '/'),
    ("%3F", '?'),
    ("%40", '@'),
    ("%21", '!'),
    ("%24", '$'),
    ("%27", '\''),
    ("%28", '('),
    ("%29", ')'),
    ("%2A", '*'),
    ("%2C", ','),
];

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let has = |wanted| request.headers.iter().any(|(name, _)| *name == wanted);
    if has(V3) {
        return claim_v3(request);
    }
    if has(TIMESTAMP) {
        return Err(ClaimError::Downgraded(TIMESTAMP.to_owned()));
    }
    claim_earlier(request)
}

fn claim_v3<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signature = SignatureEncoding::Base64.decode(require_header(request, V3)?);
    let signature = signature.ok_or_else(|| ClaimError::malformed(V3, "a signature in base64"))?;
    let time = require_header(request, TIMESTAMP)?;
    Ok(SignatureClaim {
        header: V3,
        proofs: vec![SignatureSet {
            algorithm: SignatureAlgorithm::HmacSha256,
            signatures: vec![signature],
        }],
        layout: SignedContentLayout::Fixed("{method}{url}{body}{timestamp}"),
        signed: vec![
            request.method.as_bytes().into(),
            decode_escapes(request.url),
            request.body.into(),
            time.as_bytes().into(),
        ],
        time: Some(time),
    })
}

fn claim_earlier<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signature = SignatureEncoding::Hex.decode(require_header(request, EARLIER)?);
    let signature =
        signature.ok_or_else(|| ClaimError::malformed(EARLIER, "a signature in hex"))?;
    if !RequestDocument::parse(request)
        .is_ok_and(|document| document.format() == DocumentFormat::Json)
    {
        return Err(ClaimError::Extensible);
    }
    let (layout, signed): (_, Vec<Cow<'r, [u8]>>) = match require_header(request, VERSION)? {
        "v1" => ("{body}", vec![request.body.into()]),
        "v2" => (
            "{method}{url}{body}",
            vec![
                request.method.as_bytes().into(),
                request.url.as_bytes().into(),
                request.body.into(),
            ],
        ),
        _ => return Err(ClaimError::malformed(VERSION, "v1 or v2")),
    };
    let proofs = vec![SignatureSet {
        algorithm: SignatureAlgorithm::Sha256,
        signatures: vec![signature],
    }];
    Ok(SignatureClaim {
        header: EARLIER,
        proofs,
        layout: SignedContentLayout::Fixed(layout),
        signed,
        time: None,
    })
}

fn decode_escapes(url: &str) -> Cow<'_, [u8]> {
    if !url.contains('%') {
        return Cow::Borrowed(url.as_bytes());
    }
    let mut plain = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = rest.get(..3).unwrap_or(rest);
        let undone = UNDONE
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(escape));
        let (text, length) = undone.map_or(('%', 1), |(_, character)| (*character, 3));
        plain.push(text);
        rest = &rest[length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_escapes_are_undone() {
        let table = [
            ("https://x.test/a", "https://x.test/a"),
            (
                "https://x.test/a%2fb%3Fc?d=%40e%20f",
                "https://x.test/a/b?c?d=@e%20f",
            ),
            ("%", "%"),
            ("%2", "%2"),
            ("%252F", "%252F"),
            ("%%2F", "%/"),
            ("%ä", "%ä"),
        ];
        for (url, expected) in table {
            assert_eq!(decode_escapes(url), expected.as_bytes(), "{url}");
        }
    }
}

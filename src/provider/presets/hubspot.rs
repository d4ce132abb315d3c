//! HubSpot, with the three versions of its signature.
//!
//! | version | headers | signature |
//! |---|---|---|
//! | v1 | `X-HubSpot-Signature`, `-Version: v1` | SHA-256 of secret, body |
//! | v2 | `X-HubSpot-Signature`, `-Version: v2` | SHA-256 of secret, method, URL, body |
//! | v3 | `X-HubSpot-Signature-v3`, `-Request-Timestamp` | HMAC-SHA256 of method, URL, body, time |
//!
//! If a request has version 3, only that signature counts, since it alone covers a time. A request
//! with the time header of version 3 but without its signature is refused as a downgrade.
//!
//! Versions 1 and 2 are plain hashes, open to length extension: from one observed request an
//! attacker computes the hash of its content followed by padding and by anything else. The padding
//! begins with the byte 0x80, which is not valid UTF-8 there, so a JSON body proves that nothing
//! was added. A form would accept the padding as part of its last value, and `Content-Type` is not
//! signed.

use std::borrow::Cow;

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::body::{DocumentFormat, RequestDocument};
use crate::provider::claim_error::ClaimError;
use crate::provider::claim_headers::require_header;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::request::RequestView;
use crate::provider::scheme::require_signatures;
use crate::provider::signature_claim::{
    SignatureClaim, SignatureSet, SignedContentLayout, SignedTime,
};
use crate::provider::signed_content::{SignedContent, SignedPartRole};

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "hubspot",
    signing: PresetSigning::Own {
        key: VerificationKey::from_secret,
        claim,
    },
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &["./objectId", "./fromObjectId", "portal:{./portalId}"],
        event: &["./subscriptionType"],
        // An event id alone is not unique, as HubSpot says: what tells two events of one id apart
        // counts too, as far as it is there. A merge has an object of its own besides.
        idempotency_key: &[
            "{./eventId}:{?./subscriptionId}:{./subscriptionType}:{?./objectId}:{?./propertyName}:\
             {?./fromObjectId}:{?./toObjectId}:{?./associationType}:{?./associationRemoved}:\
             {?./primaryObjectId}:{?./messageId}:{?./occurredAt}",
        ],
        occurred_at: &["./occurredAt"],
        items: &[""],
        volatile: &["attemptNumber"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts {
        untimed: Some("signatures of versions 1 and 2"),
        ..PresetFacts::USUAL
    },
};

const V3: &str = "x-hubspot-signature-v3";
const TIMESTAMP: &str = "x-hubspot-request-timestamp";
const EARLIER: &str = "x-hubspot-signature";
const VERSION: &str = "x-hubspot-signature-version";

/// Percent-escapes that HubSpot decodes in the URL before it signs version 3.
/// Source: <https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>
const DECODED_ESCAPES: [(&str, char); 12] = [
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
    ("%3B", ';'),
];

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let has = |header| request.headers.iter().any(|(name, _)| *name == header);
    if has(V3) {
        return claim_v3(request);
    }
    if has(TIMESTAMP) {
        return Err(ClaimError::Downgraded(TIMESTAMP.to_owned()));
    }
    claim_earlier(request)
}

fn claim_v3<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signatures = require_signatures(request, V3, SignatureEncoding::Base64)?;
    let time = require_header(request, TIMESTAMP)?;
    Ok(SignatureClaim {
        header: V3,
        proofs: vec![SignatureSet {
            algorithm: SignatureAlgorithm::HmacSha256,
            signatures,
        }],
        layout: SignedContentLayout::Fixed("{method}{url}{body}{timestamp}"),
        signed: [
            (SignedPartRole::Method, request.method.as_bytes().into()),
            (SignedPartRole::Url, decode_escapes(request.url)),
            (SignedPartRole::Body, request.body.into()),
            (SignedPartRole::Time, time.as_bytes().into()),
        ]
        .into_iter()
        .collect(),
        alternatives: Vec::new(),
        time: Some(SignedTime::Sent(time)),
        covers_body: true,
        others: Vec::new(),
    })
}

fn claim_earlier<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signatures = require_signatures(request, EARLIER, SignatureEncoding::Hex)?;
    if !RequestDocument::parse_json(request)
        .is_ok_and(|document| document.format() == DocumentFormat::Json)
    {
        // An extended body is never valid JSON, but may be a valid form.
        return Err(ClaimError::Extensible);
    }
    let body = (SignedPartRole::Body, request.body.into());
    let (layout, signed): (_, SignedContent<'r>) = match require_header(request, VERSION)? {
        "v1" => ("{body}", [body].into_iter().collect()),
        "v2" => (
            "{method}{url}{body}",
            [
                (SignedPartRole::Method, request.method.as_bytes().into()),
                (SignedPartRole::Url, request.url.as_bytes().into()),
                body,
            ]
            .into_iter()
            .collect(),
        ),
        _ => return Err(ClaimError::malformed(VERSION, "v1 or v2")),
    };
    let proofs = vec![SignatureSet {
        algorithm: SignatureAlgorithm::Sha256,
        signatures,
    }];
    Ok(SignatureClaim {
        header: EARLIER,
        proofs,
        layout: SignedContentLayout::Fixed(layout),
        signed,
        alternatives: Vec::new(),
        time: None,
        covers_body: true,
        others: Vec::new(),
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
        let decoded = DECODED_ESCAPES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(escape));
        let (text, length) = decoded.map_or(('%', 1), |(_, character)| (*character, 3));
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
            (
                "%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B%3b%26%3D%23%25",
                ":/?@!$'()*,;;%26%3D%23%25",
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

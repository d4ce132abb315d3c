//! Twilio signs the URL and, for a form, every field. Another body is covered by its hash, which
//! the URL holds as `bodySHA256`.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::preset::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::body::DocumentFormat;
use crate::provider::claim_error::ClaimError;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::request::RequestView;
use crate::provider::scheme::require_header;
use crate::provider::signature_claim::{SignatureClaim, SignatureSet, SignedContentLayout};
use crate::provider::signed_content::SignedContent;

const HEADER: &str = "x-twilio-signature";

/// Most fields of a form that are sorted before the sender is authenticated. Twilio sends some
/// dozens.
const FIELDS_MAX: usize = 1_000;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "twilio",
    signing: PresetSigning::Own {
        key: VerificationKey::from_secret,
        claim,
    },
    sends_forms: true,
    tolerance: None,
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::None,
};

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signature = SignatureEncoding::Base64.decode(require_header(request, HEADER)?);
    let signature =
        signature.ok_or_else(|| ClaimError::malformed(HEADER, "a signature in base64"))?;
    let (layout, fields) = match (body_hash(request), DocumentFormat::from_request(request)) {
        (Some(hash), _) => {
            check_hash(&hash, request.body)?;
            ("{url}, with the body's hash in it", String::new())
        }
        (None, Some(DocumentFormat::Form)) => {
            ("{url} and the fields by name", sort_fields(request.body)?)
        }
        (None, Some(DocumentFormat::Json) | None) => return Err(ClaimError::UnsignedBody),
    };
    Ok(SignatureClaim {
        header: HEADER,
        proofs: vec![SignatureSet {
            algorithm: SignatureAlgorithm::HmacSha1,
            signatures: vec![signature],
        }],
        layout: SignedContentLayout::Fixed(layout),
        signed: SignedContent::from_bytes(vec![
            request.url.as_bytes().into(),
            fields.into_bytes().into(),
        ]),
        time: None,
    })
}

fn body_hash<'r>(request: &RequestView<'r>) -> Option<Cow<'r, str>> {
    let mut parameters = form_urlencoded::parse(request.query().as_bytes());
    parameters
        .find(|(name, _)| name == "bodySHA256")
        .map(|(_, hash)| hash)
}

fn check_hash(hash: &str, body: &[u8]) -> Result<(), ClaimError> {
    let expected = SignatureEncoding::Hex
        .decode(hash)
        .ok_or(ClaimError::OtherBody)?;
    let is_match = bool::from(Sha256::digest(body).ct_eq(expected.as_slice()));
    if is_match {
        Ok(())
    } else {
        Err(ClaimError::OtherBody)
    }
}

/// Returns the names and values of the form as Twilio signs them: sorted, without separators, each
/// pair once.
fn sort_fields(body: &[u8]) -> Result<String, ClaimError> {
    let mut fields: Vec<_> = form_urlencoded::parse(body).take(FIELDS_MAX + 1).collect();
    if fields.len() > FIELDS_MAX {
        return Err(ClaimError::TooManyFields);
    }
    fields.sort();
    fields.dedup();
    Ok(fields
        .into_iter()
        .flat_map(|(name, value)| [name, value])
        .collect())
}

//! Stripe: one header holds the time and the signatures, `t=1492774577,v1=…,v1=…`; several during a
//! rotation. The key is the text `whsec_…` as it is, not its decoded base64.

use super::preset::{PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE};
use crate::provider::claim_error::ClaimError;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::request::RequestView;
use crate::provider::scheme::require_header;
use crate::provider::signature_claim::{
    SIGNATURES_MAX, SignatureClaim, SignatureSet, SignedContentLayout,
};
use crate::provider::signed_content::SignedPartRole;

const HEADER: &str = "stripe-signature";

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "stripe",
    signing: PresetSigning::Own {
        key: VerificationKey::from_secret,
        claim,
    },
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &["/data/object/id"],
        event: &["/type"],
        idempotency_key: &["/id"],
        occurred_at: &["/created"],
        volatile: &["pending_webhooks"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
};

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let value = require_header(request, HEADER)?;
    let items = || {
        value
            .split(',')
            .filter_map(|item| item.trim().split_once('='))
    };
    let time = items().find(|(name, _)| *name == "t").map(|(_, time)| time);
    let signatures = items()
        .filter(|(name, _)| *name == "v1")
        .filter_map(|(_, text)| SignatureEncoding::Hex.decode(text));
    let signatures: Vec<_> = signatures.take(SIGNATURES_MAX).collect();
    let malformed =
        || ClaimError::malformed(HEADER, "`t=` with a time and `v1=` with a signature in hex");
    let time = time
        .filter(|_| !signatures.is_empty())
        .ok_or_else(malformed)?;
    Ok(SignatureClaim {
        header: HEADER,
        proofs: vec![SignatureSet {
            algorithm: SignatureAlgorithm::HmacSha256,
            signatures,
        }],
        layout: SignedContentLayout::Fixed("{timestamp}.{body}"),
        signed: [
            (SignedPartRole::Time, time.as_bytes().into()),
            (SignedPartRole::Literal, b".".into()),
            (SignedPartRole::Body, request.body.into()),
        ]
        .into_iter()
        .collect(),
        time: Some(time),
    })
}

//! Linear signs the body, in hex without a prefix. The body holds the time of the call, which may be
//! a minute old by Linear's advice; the tolerance is larger, since clocks differ.
//!
//! Source: <https://linear.app/developers/webhooks>

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::claim_error::ClaimError;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::pointer::JsonPointer;
use crate::provider::request::RequestView;
use crate::provider::scheme::require_signatures;
use crate::provider::signature_claim::{
    SignatureClaim, SignatureSet, SignedContentLayout, SignedTime,
};
use crate::provider::signed_content::SignedPartRole;

const HEADER: &str = "linear-signature";

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "linear",
    signing: PresetSigning::Own {
        key: VerificationKey::from_secret,
        claim,
    },
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &[
            "/data/id",
            "/agentSession/id",
            "/issueData/id",
            "/notification/issueId",
            "/notification/id",
            "/appUserId",
            "organization:{/organizationId}",
            "organization",
        ],
        event: &["{/type}.{/action}", "Linear-Event"],
        idempotency_key: &["Linear-Delivery"],
        occurred_at: &["/createdAt", "/webhookTimestamp"],
        // It is the time of sending, not that of the event.
        volatile: &["webhookTimestamp"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signatures = require_signatures(request, HEADER, SignatureEncoding::Hex)?;
    let json = serde_json::from_slice(request.body).ok();
    let time = json.and_then(|json| JsonPointer::from_static("/webhookTimestamp").resolve(json));
    Ok(SignatureClaim {
        header: HEADER,
        proofs: vec![SignatureSet {
            algorithm: SignatureAlgorithm::HmacSha256,
            signatures,
        }],
        layout: SignedContentLayout::Fixed("{body}, with the time in it"),
        signed: std::iter::once((SignedPartRole::Body, request.body.into())).collect(),
        alternatives: Vec::new(),
        time: time.map(|time| SignedTime::Sent(time.get())),
        covers_body: true,
        others: Vec::new(),
    })
}

//! Svix: Standard Webhooks with the header names that Svix used before the standard. Events of Svix
//! itself are about an endpoint or an application of it.
//!
//! Source: <https://docs.svix.com/incoming-webhooks>

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use super::standard::StandardHeaderNames;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::VerificationKey;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "svix",
    signing: PresetSigning::Own {
        key: VerificationKey::from_standard,
        claim: |request| HEADERS.read_claim(request),
    },
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &[
            "/data/id",
            "/data/object/id",
            "/data/email_id",
            "/object/id",
            "/data/endpointId",
            "/data/appId",
            "/id",
        ],
        event: &["/type", "/event_type", "/eventType", "/event"],
        idempotency_key: &["svix-id"],
        occurred_at: &["/timestamp", "/created_at"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts {
        signed_headers: &["svix-id"],
        ..PresetFacts::USUAL
    },
};

const HEADERS: StandardHeaderNames = StandardHeaderNames {
    id: "svix-id",
    timestamp: "svix-timestamp",
    signature: "svix-signature",
};

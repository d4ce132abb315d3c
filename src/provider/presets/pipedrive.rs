//! Pipedrive signs nothing. It sends the user and password with which the webhook was created.
//!
//! Version 1 of its webhooks has the id of the entity where version 2 has the id of the event.
//! Sources: <https://pipedrive.readme.io/docs/guide-for-webhooks-v2>,
//! <https://pipedrive.readme.io/docs/guide-for-webhooks>

use std::borrow::Cow;

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::handshake::ProviderHandshake;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "pipedrive",
    signing: PresetSigning::Scheme(SignatureScheme::Basic {
        header: Cow::Borrowed("authorization"),
    }),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "{/meta/entity}:{/meta/entity_id}",
            "{/meta/object}:{/meta/id}",
            "company:{/meta/company_id}",
            "company",
        ],
        event: &[
            "{/meta/entity}.{/meta/action}",
            "/event",
            "{/meta/object}.{/meta/action}",
        ],
        idempotency_key: &[
            "{/meta/id}:{/meta/entity_id}",
            "{/meta/object}:{/meta/id}:{/meta/action}:{/meta/timestamp_micro}",
        ],
        occurred_at: &["/meta/timestamp"],
        // It numbers the attempts in `meta`.
        volatile: &["meta"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};

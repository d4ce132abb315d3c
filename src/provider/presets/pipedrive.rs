//! Pipedrive signs nothing. It sends the user and password with which the webhook was created.

use std::borrow::Cow;

use super::preset::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::handshake::ProviderHandshake;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "pipedrive",
    signing: PresetSigning::Scheme(SignatureScheme::Basic {
        header: Cow::Borrowed("authorization"),
    }),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::None,
};

//! Pipedrive. Signs nothing; sends the user and password that the webhook was created with.

use std::borrow::Cow;

use super::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::handshake::ProviderHandshake;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "pipedrive",
    signing: PresetSigning::Scheme(SignatureScheme::Basic {
        header: Cow::Borrowed("authorization"),
    }),
    tolerance: None,
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::None,
};

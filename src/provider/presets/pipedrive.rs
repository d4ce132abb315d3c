//! Pipedrive. Signs nothing; sends the user and password that the webhook was created with.

use std::borrow::Cow;

use super::{Defaults, Preset, Signing};
use crate::provider::handshake::Handshake;
use crate::provider::scheme::Scheme;

pub(super) static PRESET: Preset = Preset {
    name: "pipedrive",
    signing: Signing::Scheme(Scheme::Basic { header: Cow::Borrowed("authorization") }),
    tolerance: None,
    defaults: Defaults::NONE,
    handshake: Handshake::None,
};

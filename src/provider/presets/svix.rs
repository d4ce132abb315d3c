//! Svix: Standard Webhooks under the names that its headers had before there was a standard.

use super::standard::Headers;
use super::{Defaults, Preset, Signing, USUAL_TOLERANCE};
use crate::provider::handshake::Handshake;
use crate::provider::key::Key;
use crate::provider::locator::Locator;

pub(super) static PRESET: Preset = Preset {
    name: "svix",
    signing: Signing::Own { key: Key::standard, claim: |request| HEADERS.claim(request) },
    tolerance: Some(USUAL_TOLERANCE),
    defaults: Defaults {
        entity: None,
        event: Some(Locator::pointer("/type")),
        idempotency_key: Some(Locator::header("svix-id")),
        occurred_at: None,
    },
    handshake: Handshake::None,
};

const HEADERS: Headers = Headers { id: "svix-id", timestamp: "svix-timestamp", signature: "svix-signature" };

//! GitHub. An entity is an issue or pull request, `octo/repo#7`, or else the repository.

use super::{Defaults, Preset, Signing};
use crate::provider::body::Document;
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::Algorithm;
use crate::provider::locator::{Locator, text_of};
use crate::provider::pointer::Pointer;
use crate::provider::scheme::Scheme;

pub(super) static PRESET: Preset = Preset {
    name: "github",
    signing: Signing::Scheme(Scheme::of_body("x-hub-signature-256", "sha256=", Algorithm::HmacSha256, Encoding::Hex)),
    tolerance: None,
    defaults: Defaults {
        entity: Some(Locator::Rule("at /repository/full_name", entity)),
        event: Some(Locator::header("x-github-event")),
        idempotency_key: Some(Locator::header("x-github-delivery")),
        occurred_at: None,
    },
    handshake: Handshake::None,
};

fn entity(document: &Document<'_>) -> Option<String> {
    let text = |pointer| text_of(Pointer::fixed(pointer).find(document.json())).ok();
    let repository = text("/repository/full_name")?;
    let number = text("/issue/number").or_else(|| text("/pull_request/number"));
    Some(number.map_or_else(|| repository.clone(), |number| format!("{repository}#{number}")))
}

//! GitHub signs the body. The entity is an issue or pull request, `octo/repo#7`, else the
//! repository.

use super::preset::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::body::RequestDocument;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::locator::{FieldLocator, parse_text_value};
use crate::provider::pointer::JsonPointer;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "github",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-hub-signature-256",
        "sha256=",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Hex,
    )),
    sends_forms: true,
    tolerance: None,
    defaults: PresetFields {
        entity: Some(FieldLocator::Rule("at /repository/full_name", entity)),
        event: Some(FieldLocator::header("x-github-event")),
        idempotency_key: Some(FieldLocator::header("x-github-delivery")),
        occurred_at: None,
    },
    handshake: ProviderHandshake::None,
};

fn entity(document: &RequestDocument<'_>) -> Option<String> {
    let text =
        |pointer| parse_text_value(JsonPointer::from_static(pointer).resolve(document.json())).ok();
    let repository = text("/repository/full_name")?;
    let number = text("/issue/number").or_else(|| text("/pull_request/number"));
    Some(number.map_or_else(
        || repository.clone(),
        |number| format!("{repository}#{number}"),
    ))
}

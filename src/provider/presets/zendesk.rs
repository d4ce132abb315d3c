//! Zendesk. Signs the time, spelt as ISO 8601, and the body; the secret counts as it is shown, although it looks like base64.

use super::{Defaults, Preset, Signing, USUAL_TOLERANCE};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::scheme::Scheme;
use crate::provider::template::Part;

pub(super) static PRESET: Preset = Preset {
    name: "zendesk",
    signing: Signing::Scheme(Scheme::timed(
        "x-zendesk-webhook-signature",
        "",
        Encoding::Base64,
        "x-zendesk-webhook-signature-timestamp",
        &[Part::Timestamp, Part::Body],
    )),
    tolerance: Some(USUAL_TOLERANCE),
    defaults: Defaults::NONE,
    handshake: Handshake::None,
};

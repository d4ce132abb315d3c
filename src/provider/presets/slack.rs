//! Slack. Signs a version, the time and the body; asks for a challenge when the URL is entered.

use std::borrow::Cow;

use super::{Defaults, Preset, Signing, USUAL_TOLERANCE};
use crate::provider::body::Document;
use crate::provider::encoding::Encoding;
use crate::provider::handshake::{self, Handshake, Reply};
use crate::provider::scheme::Scheme;
use crate::provider::template::Part;

pub(super) static PRESET: Preset = Preset {
    name: "slack",
    signing: Signing::Scheme(Scheme::timed(
        "x-slack-signature",
        "v0=",
        Encoding::Hex,
        "x-slack-request-timestamp",
        &[Part::Literal(Cow::Borrowed("v0:")), Part::Timestamp, Part::Literal(Cow::Borrowed(":")), Part::Body],
    )),
    tolerance: Some(USUAL_TOLERANCE),
    defaults: Defaults::NONE,
    handshake: Handshake::Signed(url_verification),
};

fn url_verification(document: &Document<'_>) -> Option<Reply> {
    handshake::challenge(document, "/type", "url_verification", "/challenge")
}

//! Intercom. Signs the body with the app's client secret; its `ping` only asks whether anyone is there.

use super::{Defaults, Preset, Signing};
use crate::provider::body::Document;
use crate::provider::encoding::Encoding;
use crate::provider::handshake::{self, Handshake, Reply};
use crate::provider::key::Algorithm;
use crate::provider::scheme::Scheme;

pub(super) static PRESET: Preset = Preset {
    name: "intercom",
    signing: Signing::Scheme(Scheme::of_body("x-hub-signature", "sha1=", Algorithm::HmacSha1, Encoding::Hex)),
    tolerance: None,
    defaults: Defaults::NONE,
    handshake: Handshake::Signed(ping),
};

fn ping(document: &Document<'_>) -> Option<Reply> {
    (handshake::text(document, "/topic")? == "ping").then_some(Reply::Pong)
}

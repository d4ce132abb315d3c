//! Twilio. Signs the URL it called, and of the body either every field, if that is a form, or its hash, which then stands
//! in the URL as `bodySHA256`.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Defaults, Preset, Signing};
use crate::provider::body::Format;
use crate::provider::claim::{Claim, Layout, Proof};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::{Algorithm, Key};
use crate::provider::no_claim::NoClaim;
use crate::provider::request::Request;
use crate::provider::scheme::needed;

const HEADER: &str = "x-twilio-signature";

/// The most fields of a form that are sorted for a sender who has proved nothing yet; Twilio sends some dozens.
const FIELDS_MAX: usize = 1_000;

pub(super) static PRESET: Preset = Preset {
    name: "twilio",
    signing: Signing::Own { key: Key::secret, claim },
    tolerance: None,
    defaults: Defaults::NONE,
    handshake: Handshake::None,
};

fn claim<'r>(request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
    let signature = Encoding::Base64.decode(needed(request, HEADER)?);
    let signature = signature.ok_or_else(|| NoClaim::malformed(HEADER, "a signature in base64"))?;
    let (layout, fields) = match (body_hash(request), Format::of_request(request)) {
        (Some(hash), _) => {
            check_hash(&hash, request.body)?;
            ("{url}, with the body's hash in it", String::new())
        }
        (None, Some(Format::Form)) => ("{url} and the fields by name", fields(request.body)?),
        (None, Some(Format::Json) | None) => return Err(NoClaim::UnsignedBody),
    };
    Ok(Claim {
        header: HEADER,
        proofs: vec![Proof { algorithm: Algorithm::HmacSha1, signatures: vec![signature] }],
        layout: Layout::Fixed(layout),
        signed: vec![request.url.as_bytes().into(), fields.into_bytes().into()],
        time: None,
    })
}

fn body_hash<'r>(request: &Request<'r>) -> Option<Cow<'r, str>> {
    let mut parameters = form_urlencoded::parse(request.query().as_bytes());
    parameters.find(|(name, _)| name == "bodySHA256").map(|(_, hash)| hash)
}

fn check_hash(given: &str, body: &[u8]) -> Result<(), NoClaim> {
    let given = Encoding::Hex.decode(given).ok_or(NoClaim::OtherBody)?;
    let is_ours = bool::from(Sha256::digest(body).ct_eq(given.as_slice()));
    if is_ours { Ok(()) } else { Err(NoClaim::OtherBody) }
}

/// Every name and value one after the other, in their order, each pair once.
fn fields(body: &[u8]) -> Result<String, NoClaim> {
    let mut fields: Vec<_> = form_urlencoded::parse(body).take(FIELDS_MAX + 1).collect();
    if fields.len() > FIELDS_MAX {
        return Err(NoClaim::TooManyFields);
    }
    fields.sort();
    fields.dedup();
    Ok(fields.into_iter().flat_map(|(name, value)| [name, value]).collect())
}

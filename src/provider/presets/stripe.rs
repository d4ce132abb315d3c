//! Stripe. One header holds the time and the signatures: `t=1492774577,v1=…,v1=…`, several while a secret is rolled.
//! The key is the whole `whsec_…`, not what it spells.

use super::{Defaults, Preset, Signing, USUAL_TOLERANCE};
use crate::provider::claim::{Claim, Layout, Proof, SIGNATURES_MAX};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::{Algorithm, Key};
use crate::provider::locator::Locator;
use crate::provider::no_claim::NoClaim;
use crate::provider::request::Request;
use crate::provider::scheme::needed;

const HEADER: &str = "stripe-signature";

pub(super) static PRESET: Preset = Preset {
    name: "stripe",
    signing: Signing::Own { key: Key::secret, claim },
    tolerance: Some(USUAL_TOLERANCE),
    defaults: Defaults {
        entity: Some(Locator::pointer("/data/object/id")),
        event: Some(Locator::pointer("/type")),
        idempotency_key: Some(Locator::pointer("/id")),
        occurred_at: Some(Locator::pointer("/created")),
    },
    handshake: Handshake::None,
};

fn claim<'r>(request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
    let given = needed(request, HEADER)?;
    let items = || given.split(',').filter_map(|item| item.trim().split_once('='));
    let time = items().find(|(name, _)| *name == "t").map(|(_, time)| time);
    let signatures = items().filter(|(name, _)| *name == "v1").filter_map(|(_, text)| Encoding::Hex.decode(text));
    let signatures: Vec<_> = signatures.take(SIGNATURES_MAX).collect();
    let malformed = || NoClaim::malformed(HEADER, "`t=` with a time and `v1=` with a signature in hex");
    let time = time.filter(|_| !signatures.is_empty()).ok_or_else(malformed)?;
    Ok(Claim {
        header: HEADER,
        proofs: vec![Proof { algorithm: Algorithm::HmacSha256, signatures }],
        layout: Layout::Fixed("{timestamp}.{body}"),
        signed: vec![time.as_bytes().into(), b".".into(), request.body.into()],
        time: Some(time),
    })
}

//! Standard Webhooks. One header holds the signatures: `v1,…` (HMAC) and `v1a,…` (Ed25519), with spaces between.

use super::{Defaults, Preset, Signing, USUAL_TOLERANCE};
use crate::provider::claim::{Claim, Layout, Proof, SIGNATURES_MAX};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::{Algorithm, Key};
use crate::provider::locator::Locator;
use crate::provider::no_claim::NoClaim;
use crate::provider::request::Request;
use crate::provider::scheme::needed;

pub(super) static PRESET: Preset = Preset {
    name: "standard",
    signing: Signing::Own { key: Key::standard, claim: |request| HEADERS.claim(request) },
    tolerance: Some(USUAL_TOLERANCE),
    defaults: Defaults {
        entity: None,
        event: Some(Locator::pointer("/type")),
        idempotency_key: Some(Locator::header("webhook-id")),
        occurred_at: None,
    },
    handshake: Handshake::None,
};

const HEADERS: Headers = Headers { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };

/// The names of the three headers, which Svix spells in its own way.
pub(super) struct Headers {
    pub(super) id: &'static str,
    pub(super) timestamp: &'static str,
    pub(super) signature: &'static str,
}

impl Headers {
    pub(super) fn claim<'r>(&self, request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
        let header = |name: &'static str| needed(request, name);
        let given = header(self.signature)?;
        let (id, time) = (header(self.id)?, header(self.timestamp)?);
        let proofs: Vec<_> = [("v1", Algorithm::HmacSha256), ("v1a", Algorithm::Ed25519)]
            .into_iter()
            .map(|(version, algorithm)| Proof { algorithm, signatures: signatures(given, version) })
            .filter(|proof| !proof.signatures.is_empty())
            .collect();
        if proofs.is_empty() {
            return Err(NoClaim::malformed(self.signature, "`v1,` or `v1a,` with a signature in base64"));
        }
        Ok(Claim {
            header: self.signature,
            proofs,
            layout: Layout::Fixed("{id}.{timestamp}.{body}"),
            signed: vec![id.as_bytes().into(), b".".into(), time.as_bytes().into(), b".".into(), request.body.into()],
            time: Some(time),
        })
    }
}

fn signatures(given: &str, version: &str) -> Vec<Vec<u8>> {
    let versions = given.split_ascii_whitespace().filter_map(|item| item.split_once(','));
    let ours = versions.filter(|(given, _)| *given == version);
    ours.filter_map(|(_, text)| Encoding::Base64.decode(text)).take(SIGNATURES_MAX).collect()
}

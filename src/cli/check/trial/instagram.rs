//! A request against Instagram's contract: the updates of one call. Its handshake is that of every subscription.

use bytes::Bytes;
use tracing::Span;

use super::{Half, SHOWN_MAX, line, proof, undecoded};
use crate::config::Instagram;
use crate::edge::instagram::{decode, signature};
use crate::edge::signature::Verifier;
use crate::entity::Command;
use crate::provider::Request;

const SIGNATURE: &str = "x-hub-signature-256";

pub(super) fn judge(config: &Instagram, request: &Request<'_>) -> [Half; 2] {
    let given = request.header(SIGNATURE).unwrap_or_default().as_bytes();
    let body = signature::verify(&Verifier::new(&config.app_secrets), &Bytes::copy_from_slice(request.body), given);
    let verification = Half { is_good: body.is_some(), text: line(SIGNATURE, proof(body.is_some())) };
    let decoding = match body.map(|body| decode(&body, &Span::none())) {
        Some(Ok(updates)) => Half::good(shown(&updates)),
        Some(Err(error)) => error.into(),
        None => undecoded(),
    };
    [verification, decoding]
}

fn shown(updates: &[Command]) -> String {
    let first = updates.iter().take(SHOWN_MAX);
    let first = first.map(|update| line("event", format!("{} of {}", update.event_type, update.entity.id())));
    line("updates", updates.len()) + &first.collect::<String>()
}

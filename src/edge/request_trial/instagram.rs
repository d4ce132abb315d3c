//! Checks a request against Instagram's contract: the updates of one call. The subscription
//! handshake is checked in `handshake.rs`.

use bytes::Bytes;
use tracing::Span;

use super::finding::{SHOWN_MAX, TrialFinding, describe_proof, format_line, not_decoded};
use crate::config::InstagramConfig;
use crate::edge::instagram::{decode_instagram_call, signature};
use crate::edge::signature::SignatureVerifier;
use crate::entity::Command;
use crate::provider::RequestView;

const SIGNATURE: &str = "x-hub-signature-256";

pub(super) fn check_instagram(
    config: &InstagramConfig,
    request: &RequestView<'_>,
) -> [TrialFinding; 2] {
    let verifier = SignatureVerifier::new(&config.app_secrets);
    let body = Bytes::copy_from_slice(request.body);
    let body = request
        .header_lines(SIGNATURE)
        .find_map(|line| signature::verify_instagram_body(&verifier, &body, line.as_bytes()));
    let verification = TrialFinding {
        is_good: body.is_some(),
        text: format_line(
            SIGNATURE,
            describe_proof(body.is_some(), request, SIGNATURE),
        ),
    };
    let decoding = match body.map(|body| decode_instagram_call(&body, &Span::none())) {
        Some(Ok(updates)) => TrialFinding::passed(describe_updates(&updates)),
        Some(Err(error)) => error.into(),
        None => not_decoded(),
    };
    [verification, decoding]
}

fn describe_updates(updates: &[Command]) -> String {
    let first = updates.iter().take(SHOWN_MAX);
    let first = first.map(|update| {
        format_line(
            "event",
            format!("{} of {}", update.event_type, update.entity.id()),
        )
    });
    format_line("updates", updates.len()) + &first.collect::<String>()
}

//! Checks a request against the support contract.

use bytes::Bytes;

use super::finding::{TrialFinding, describe_command, describe_proof, format_lines, not_decoded};
use crate::config::SupportConfig;
use crate::edge::signature::{SignatureVerifier, VerifiedBody};
use crate::edge::support::{self, SupportRequestContext};
use crate::event::{Timestamp, find_members};
use crate::provider::RequestView;

pub(super) fn check_support(
    config: &SupportConfig,
    request: &RequestView<'_>,
    now: Timestamp,
) -> [TrialFinding; 2] {
    let header = |name| request.single_header(name);
    let in_body = || {
        let [timestamp] =
            find_members(std::str::from_utf8(request.body).ok()?, ["timestamp"]).ok()?;
        serde_json::from_str::<String>(timestamp?.get()).ok()
    };
    let timestamp = match request.header_lines("x-crm-timestamp").next() {
        Some(_) => header("x-crm-timestamp").map(str::to_owned),
        None => in_body(),
    };
    let timestamp = timestamp.unwrap_or_default();
    let body = Bytes::copy_from_slice(request.body);
    let key = header("x-crm-api-key").unwrap_or_default().as_bytes();
    let is_known = config
        .api_keys
        .iter()
        .any(|known| !known.is_empty() && known.matches(key));
    let verifier = SignatureVerifier::new(&config.secrets);
    let verified = request
        .header_lines("x-crm-signature")
        .find_map(|line| verifier.verify(&body, timestamp.as_bytes(), line.as_bytes()));
    let at = Timestamp::parse(&timestamp);
    let is_fresh = at.is_some_and(|at| at.distance(now) <= config.tolerance);
    let verification = TrialFinding {
        is_good: is_known && verified.is_some() && is_fresh,
        text: format_lines(&[
            (
                "x-crm-api-key",
                describe_proof(is_known, request, "x-crm-api-key"),
            ),
            (
                "x-crm-signature",
                describe_proof(verified.is_some(), request, "x-crm-signature"),
            ),
            (
                "time",
                &match at {
                    Some(at) => at.to_string(),
                    None if timestamp.is_empty() => "missing".to_owned(),
                    None => "not RFC 3339".to_owned(),
                },
            ),
            ("time is recent", if is_fresh { "yes" } else { "no" }),
        ]),
    };
    let decoding = match verified {
        Some(body) => decode_event(config, request, &body, at),
        None => not_decoded(),
    };
    [verification, decoding]
}

fn decode_event(
    config: &SupportConfig,
    request: &RequestView<'_>,
    body: &VerifiedBody,
    at: Option<Timestamp>,
) -> TrialFinding {
    let idempotency_key = request
        .header("idempotency-key")
        .or_else(|| request.header("x-idempotency-key"));
    let context = SupportRequestContext {
        idempotency_key: idempotency_key.map(str::as_bytes),
        at,
        unknown_entity: config.unknown_entity,
    };
    support::decode_support_event(body, context, tracing::Span::none())
        .map_or_else(TrialFinding::from, |found| describe_command(&found))
}

//! Checks a request against a configured source.

use super::{
    NO_KEY, TrialFinding, check_subscription, describe_missing_time, format_line, format_lines,
};
use crate::config::CustomSourceConfig;
use crate::event::Timestamp;
use crate::provider::{HandshakeReply, ProviderHandshake, RequestView, VerificationOutcome};

pub(super) fn check_custom(
    custom: &CustomSourceConfig,
    request: &RequestView<'_>,
    now: Timestamp,
) -> [TrialFinding; 2] {
    let has_subscription_handshake = matches!(
        custom.source.signing.handshake(),
        ProviderHandshake::Subscription
    );
    if request.method == "GET" && has_subscription_handshake {
        return check_subscription(request, &custom.verify_token);
    }
    let explanation = custom.source.explain(request, now);
    let verification = TrialFinding {
        is_good: explanation.outcome == VerificationOutcome::Verified,
        text: explanation.to_string(),
    };
    [verification, decode_event(custom, request)]
}

fn decode_event(custom: &CustomSourceConfig, request: &RequestView<'_>) -> TrialFinding {
    let document = match custom.source.signing.parse_document(request) {
        Ok(document) => document,
        Err(wrong) => {
            return TrialFinding {
                is_good: false,
                text: format_line("reason", wrong),
            };
        }
    };
    if let Some(reply) = custom.source.answer_handshake(&document) {
        let answer = match reply {
            HandshakeReply::Challenge(_) => "a challenge, which a node returns; no event",
            HandshakeReply::Pong => "a ping; no event",
        };
        return TrialFinding {
            is_good: true,
            text: format_line("handshake", answer),
        };
    }
    // Reads the fields even of an unverified request: the report is for the operator, not for the
    // journal.
    match custom.source.fields.extract(request, &document) {
        Ok(found) => TrialFinding {
            is_good: true,
            text: format_lines(&[
                ("entity", &format!("{} {}", custom.kind, found.entity)),
                ("event", &format!("{}.{}", custom.name, found.event)),
                ("key", found.idempotency_key.as_deref().unwrap_or(NO_KEY)),
                (
                    "time",
                    &found
                        .occurred_at
                        .map_or_else(describe_missing_time, |at| at.to_string()),
                ),
            ]),
        },
        Err(missing) => TrialFinding {
            is_good: false,
            text: missing
                .iter()
                .map(|missing| format_line(missing.field, &missing.problem))
                .collect(),
        },
    }
}

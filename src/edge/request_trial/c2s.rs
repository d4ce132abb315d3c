//! Checks a request against Contact2Sale's contract: one event, or a list of events.

use bytes::Bytes;

use super::finding::{TrialFinding, describe_events, describe_proof, format_line, format_lines};
use crate::config::C2sConfig;
use crate::edge::body::strip_byte_order_mark;
use crate::edge::c2s::{C2sEvent, C2sRequest, decode_c2s_request};
use crate::edge::error::ApiError;
use crate::edge::field_error::FieldError;
use crate::provider::RequestView;

const TOKEN: &str = "x-webhook-token";

pub(super) fn check_c2s(config: &C2sConfig, request: &RequestView<'_>) -> [TrialFinding; 2] {
    let presented = request.single_header(TOKEN).unwrap_or_default().as_bytes();
    let is_known = config
        .tokens
        .iter()
        .any(|token| !token.is_empty() && token.matches(presented));
    let mut text = format_line(TOKEN, describe_proof(is_known, request, TOKEN));
    if !config.ip_allowlist.is_empty() {
        text += &format_line(
            "address",
            "not checked; a node accepts only addresses in sources.c2s.ip_allowlist",
        );
    }
    let decoding =
        match decode_c2s_request(&strip_byte_order_mark(Bytes::copy_from_slice(request.body))) {
            Ok(C2sRequest::Single(event)) => event.map_or_else(
                |faults| ApiError::InvalidFields(faults).into(),
                |event| describe_event(&event),
            ),
            Ok(C2sRequest::Batch(events)) => {
                describe_events(&events.into_iter().map(describe_member).collect::<Vec<_>>())
            }
            Err(error) => error.into(),
        };
    [
        TrialFinding {
            is_good: is_known,
            text,
        },
        decoding,
    ]
}

fn describe_event(event: &C2sEvent) -> TrialFinding {
    TrialFinding::passed(format_lines(&[
        (
            "entity",
            &format!("{} {}", event.entity.kind(), event.entity.id()),
        ),
        ("key", "its lead_id and its time"),
        ("time", &event.at.to_string()),
    ]))
}

fn describe_member(event: Result<C2sEvent, Vec<FieldError>>) -> Result<String, Vec<String>> {
    event
        .map(|event| {
            format!(
                "{} {} at {}",
                event.entity.kind(),
                event.entity.id(),
                event.at
            )
        })
        .map_err(|faults| faults.into_iter().map(|fault| fault.detail).collect())
}

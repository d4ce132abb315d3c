//! Findings of the report on a captured request, and the wording of their lines.

use std::fmt::Display;

use crate::edge::error::ApiError;
use crate::entity::Command;
use crate::provider::RequestView;

/// Most events of one request that the report shows.
pub(super) const SHOWN_MAX: usize = 20;

pub(super) const NO_KEY: &str = "none, so no event is a duplicate";

/// One half of the report: its result and its lines.
#[derive(Debug)]
pub struct TrialFinding {
    /// True if a node would find no fault here.
    pub is_good: bool,
    /// Lines of the report, each with its line end.
    pub text: String,
}

impl TrialFinding {
    pub(super) fn passed(text: String) -> Self {
        Self {
            is_good: true,
            text,
        }
    }

    pub(super) fn failed(reason: impl Display) -> Self {
        Self {
            is_good: false,
            text: format_line("reason", reason),
        }
    }
}

impl From<ApiError> for TrialFinding {
    /// Shows the answer of a node; invalid fields get a line each.
    fn from(error: ApiError) -> Self {
        let ApiError::InvalidFields(faults) = error else {
            return Self::failed(error);
        };
        Self {
            is_good: false,
            text: faults
                .iter()
                .map(|fault| format_line("reason", &fault.detail))
                .collect(),
        }
    }
}

/// Describes the result for the header `name`, which proves the sender of `request`.
pub(super) fn describe_proof(is_good: bool, request: &RequestView<'_>, name: &str) -> &'static str {
    match (is_good, request.header_lines(name).next()) {
        (true, _) => "valid",
        (false, Some(_)) => "wrong",
        (false, None) => "missing",
    }
}

/// Stands for the decoded event of a request with a wrong signature: like a node, the trial decodes
/// only verified bodies.
pub(super) fn not_decoded() -> TrialFinding {
    TrialFinding::failed("not decoded, because the signature is wrong")
}

pub(super) fn describe_command(command: &Command) -> TrialFinding {
    TrialFinding::passed(format_lines(&[
        (
            "entity",
            &format!("{} {}", command.entity.kind(), command.entity.id()),
        ),
        ("event", &command.event_type),
        ("key", command.idempotency_key.as_deref().unwrap_or(NO_KEY)),
        (
            "time",
            &command
                .at
                .map_or_else(describe_missing_time, |at| at.to_string()),
        ),
    ]))
}

/// Describes a list of events, each with its content or its problems. A node accepts the valid
/// events of a list.
pub(super) fn describe_events(events: &[Result<String, Vec<String>>]) -> TrialFinding {
    let wrong = events.iter().filter(|event| event.is_err()).count();
    let mut text = format_line(
        "events",
        format!("{}, of which {wrong} would be refused", events.len()),
    );
    for (index, event) in events.iter().enumerate().take(SHOWN_MAX) {
        text += &match event {
            Ok(event) => format_line("event", format!("[{index}] {event}")),
            Err(problems) => problems
                .iter()
                .map(|problem| format_line("reason", format!("[{index}] {problem}")))
                .collect(),
        };
    }
    TrialFinding {
        is_good: wrong < events.len(),
        text,
    }
}

pub(super) fn describe_missing_time() -> String {
    "none; the time of arrival counts".to_owned()
}

pub(super) fn format_line(name: &str, text: impl Display) -> String {
    format!("  {name:<15} {text}\n")
}

pub(super) fn format_lines(lines: &[(&str, &str)]) -> String {
    lines
        .iter()
        .map(|(name, text)| format_line(name, text))
        .collect()
}

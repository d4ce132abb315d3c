//! Findings of `hookyard doctor`: each thing that was looked at, its state, and what to do.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

/// State of a thing that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FindingState {
    Ok,
    Warning,
    Problem,
}

/// Thing that was looked at, with its state.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DoctorFinding {
    /// Name of the check, such as `free space`.
    pub(super) check: &'static str,
    pub(super) state: FindingState,
    pub(super) detail: String,
    /// Steps for the operator, unless all is well.
    pub(super) advice: Option<String>,
}

impl DoctorFinding {
    pub(super) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            state: FindingState::Ok,
            detail: detail.into(),
            advice: None,
        }
    }

    pub(super) fn warning(
        check: &'static str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            check,
            state: FindingState::Warning,
            detail: detail.into(),
            advice: Some(advice.into()),
        }
    }

    pub(super) fn problem(
        check: &'static str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state: FindingState::Problem,
            ..Self::warning(check, detail, advice)
        }
    }
}

/// Returns the number of findings in `state`.
pub(super) fn count_in_state(findings: &[DoctorFinding], state: FindingState) -> u64 {
    findings.iter().filter(|found| found.state == state).count() as u64
}

/// Prints the findings, one after the other.
pub(super) fn print_findings(findings: &[DoctorFinding], out: &mut impl Write) -> io::Result<()> {
    for finding in findings {
        let state = match finding.state {
            FindingState::Ok => "ok",
            FindingState::Warning => "warning",
            FindingState::Problem => "problem",
        };
        writeln!(out, "{state:8} {}: {}", finding.check, finding.detail)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "         {advice}")?;
        }
    }
    Ok(())
}

/// Prints the findings as one JSON object.
pub(super) fn print_findings_as_json(
    findings: &[DoctorFinding],
    out: &mut impl Write,
) -> io::Result<()> {
    let report = json!({
        "is_healthy": count_in_state(findings, FindingState::Problem) == 0,
        "findings": findings,
    });
    writeln!(out, "{report}")
}

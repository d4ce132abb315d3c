//! Entry in the call log for a call to a server: the endpoint and the status, but no data about the
//! person.

use std::time::Duration;

use super::client::ServerCallOutcome;
use super::lanes::StepFailureCount;
use super::steps::{EnrichmentStep, StepCall};
use crate::call_log::{CallDirection, CallEntry, CallLog};
use crate::config;
use crate::event::{EventId, Record, Timestamp};

/// Call that has been made, with its outcome.
pub(super) struct LoggedStepCall<'a> {
    pub(super) call: &'a StepCall,
    /// Number of earlier failures of the same step.
    pub(super) failures: StepFailureCount,
    pub(super) outcome: &'a ServerCallOutcome,
    /// HTTP status of the answer, if there was an answer.
    pub(super) status: Option<u16>,
    pub(super) at: Timestamp,
    pub(super) duration: Duration,
}

impl LoggedStepCall<'_> {
    /// Appends the call to `log` as a call for the event `id`, whose record is `record`.
    ///
    /// The row contains neither the answer nor the values in the URL, because both are data about a
    /// person.
    pub(super) fn append_to_log(
        &self,
        log: &CallLog,
        config: &config::EnrichmentConfig,
        record: &Record,
        id: EventId,
    ) {
        let url = url_template(self.call.step, config);
        let entry = CallEntry {
            at: self.at,
            direction: CallDirection::Outgoing,
            source: &record.source,
            method: if self.call.body.is_some() {
                "POST"
            } else {
                "GET"
            },
            path: url_path(&url),
            status: self.status,
            code: self.error_code(),
            duration: self.duration,
            client: None,
            event_ids: &[id],
            body_bytes: self.call.body.as_ref().map(|body| body.len() as u64),
            answer: None,
            answer_bytes: None,
            attempt: Some(self.failures + 1),
            event_type: Some(&record.event_type),
            next_attempt_at: None,
            warning: None,
            token: None,
        };
        log.append(&entry, []);
    }

    fn error_code(&self) -> Option<&'static str> {
        match self.outcome {
            ServerCallOutcome::Good(_) | ServerCallOutcome::Missing => None,
            ServerCallOutcome::Transient { .. } | ServerCallOutcome::Refused { .. } => {
                Some(match self.status {
                    None => "no_answer",
                    Some(200..300) => "bad_answer",
                    Some(_) => "status",
                })
            }
        }
    }
}

/// Returns the configured URL of `step`, with its placeholders unfilled.
fn url_template(step: EnrichmentStep, config: &config::EnrichmentConfig) -> String {
    let named =
        |template: &config::TextTemplate| template.fill(|name| format!("{{{name}}}").into());
    match step {
        EnrichmentStep::LookupByEmail | EnrichmentStep::LookupByPhone => {
            config.lookup_url.as_ref().map(named).unwrap_or_default()
        }
        EnrichmentStep::Person => named(&config.person_url),
        EnrichmentStep::Reply => config.reply_url.clone().unwrap_or_default(),
    }
}

/// Returns the path of `url`, without query and fragment.
fn url_path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |start| &rest[start..]);
    path.split(['?', '#']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_between_the_server_and_the_query() {
        let table = [
            ("https://people.example/v1/{cpf}", "/v1/{cpf}"),
            (
                "https://people.example/find?email={email}&phone={phone}",
                "/find",
            ),
            ("https://people.example?email={email}", "/"),
            ("https://people.example", "/"),
            ("", "/"),
        ];
        for (url, expected) in table {
            assert_eq!(url_path(url), expected, "{url}");
        }
    }
}

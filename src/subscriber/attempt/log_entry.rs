//! The entry of one attempt in the call log.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::super::SubscriberId;
use super::connection::RESPONSE_READ_MAX_BYTES;
use super::context::AttemptContext;
use crate::call_log::{CallDirection, CallEntry, CallLog, REDACTED};
use crate::event::{EventId, Timestamp};

/// Bytes of a response that are logged at most.
const RESPONSE_LOG_MAX_BYTES: usize = 2 * 1024;

/// Entry of one attempt for the call log.
#[derive(Clone, Debug)]
pub struct AttemptLogEntry {
    pub(super) at: Timestamp,
    pub(super) source: String,
    pub(super) url: String,
    pub(super) status: Option<u16>,
    pub(super) code: Option<&'static str>,
    pub(super) duration: Duration,
    pub(super) event_id: Option<EventId>,
    pub(super) event_type: String,
    /// Headers of the request; none for an accepted one, of which nobody looks for a fault.
    pub(super) headers: HeaderMap,
    pub(super) body_bytes: usize,
    pub(super) answer: Bytes,
    pub(super) attempt: u32,
}

impl AttemptLogEntry {
    /// Creates the entry of an attempt that has no response yet.
    pub(super) fn new(subscriber: &SubscriberId, context: &AttemptContext<'_>) -> Self {
        Self {
            at: context.at,
            source: subscriber.to_string(),
            url: String::new(),
            status: None,
            code: None,
            duration: Duration::ZERO,
            event_id: context.event_id,
            event_type: context.event.to_owned(),
            headers: HeaderMap::new(),
            body_bytes: 0,
            answer: Bytes::new(),
            attempt: context.number.attempt,
        }
    }

    /// Duration from the start to the end of the attempt.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// Status of the response; `None` if none arrived.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Beginning of the response's body.
    #[must_use]
    pub const fn answer(&self) -> &Bytes {
        &self.answer
    }

    /// Appends the entry to `log`. The next attempt is due at `next_attempt_at`; `None` if there is
    /// no other.
    pub fn append_to_log(&self, log: &CallLog, next_attempt_at: Option<Timestamp>) {
        let entry = CallEntry {
            at: self.at,
            direction: CallDirection::Outgoing,
            source: &self.source,
            method: "POST",
            path: &self.url,
            status: self.status,
            code: self.code,
            duration: self.duration,
            client: None,
            event_ids: self.event_id.as_slice(),
            body_bytes: Some(self.body_bytes as u64),
            answer: Some(response_excerpt(&self.answer)).filter(|answer| !answer.is_empty()),
            // Unknown for a longer response, of which only the beginning was read.
            answer_bytes: (self.answer.len() < RESPONSE_READ_MAX_BYTES)
                .then_some(self.answer.len() as u64),
            attempt: Some(self.attempt),
            event_type: Some(&self.event_type),
            next_attempt_at,
            warning: None,
            token: None,
        };
        log.append(&entry, redact_sensitive(&self.headers));
    }
}

/// Redacts the values that a subscription holds as secrets.
fn redact_sensitive(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| {
        let value = if value.is_sensitive() {
            REDACTED.as_bytes()
        } else {
            value.as_bytes()
        };
        (name.as_str(), value)
    })
}

/// Returns the beginning of `answer`. Text is cut between two characters.
fn response_excerpt(answer: &[u8]) -> &[u8] {
    if answer.len() <= RESPONSE_LOG_MAX_BYTES {
        return answer;
    }
    let is_start = |at: &usize| answer[*at] & 0xc0 != 0x80;
    let end = (RESPONSE_LOG_MAX_BYTES - 3..=RESPONSE_LOG_MAX_BYTES)
        .rev()
        .find(is_start)
        .unwrap_or(RESPONSE_LOG_MAX_BYTES);
    &answer[..end]
}

//! Options of the event to send, and the request built from them.

use super::data::JsonObject;
use super::event::SendableEvent;
use crate::config::Secret;
use crate::event::Timestamp;

/// Time argument, with its original spelling.
#[derive(Clone, Debug)]
pub(super) struct TimeArg {
    pub(super) text: String,
    pub(super) time: Timestamp,
}

/// Event to send, with the options of the command line.
pub(super) struct EventOptions {
    pub(super) event: SendableEvent,
    pub(super) entity: Option<String>,
    pub(super) data: Option<JsonObject>,
    pub(super) key: Option<String>,
    pub(super) at: Option<TimeArg>,
    pub(super) now: Timestamp,
    /// Random characters for ids, unique to this call.
    pub(super) random: String,
}

/// Request that a sender of the event's source would send.
pub(in crate::cli) struct SignedEventRequest {
    /// Path with a leading slash.
    pub(in crate::cli) path: String,
    /// Headers beside the content type. All are treated as secret, because some are.
    pub(in crate::cli) headers: Vec<(&'static str, Secret)>,
    pub(in crate::cli) body: Vec<u8>,
}

impl EventOptions {
    /// Returns the time of the event, in the spelling of `--at`.
    pub(super) fn time_text(&self) -> String {
        self.at
            .as_ref()
            .map_or_else(|| self.now.to_string(), |at| at.text.clone())
    }

    pub(super) fn take_key(&mut self) -> String {
        self.key.take().unwrap_or_else(|| self.random.clone())
    }

    pub(super) fn take_data(&mut self) -> JsonObject {
        self.data.take().unwrap_or_else(|| self.event.sample())
    }
}

/// Serializes `body`, which contains only texts and parsed JSON.
pub(super) fn to_json(body: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("texts, and JSON that was parsed before")
}

pub(super) fn parse_time_arg(text: &str) -> Result<TimeArg, String> {
    let expected = || "expected an RFC 3339 time such as 2025-12-04T10:30:00Z".to_owned();
    Timestamp::parse(text)
        .map(|time| TimeArg {
            text: text.to_owned(),
            time,
        })
        .ok_or_else(expected)
}

//! Sender of many events to one node, for other commands: each event is signed as its source
//! requires.

use serde_json::Value;

use super::error::SendCommandError;
use super::event::find_sendable_event;
use super::post::{NodeAnswer, build_client, post_event};
use super::request::{EventOptions, SignedEventRequest};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;

/// Sender with the secrets of a node's configuration.
pub(in crate::cli) struct EventSender {
    config: Config,
    base: String,
    client: reqwest::Client,
    clock: SystemClock,
}

/// Event to send, before it is signed.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct SenderEvent {
    pub(in crate::cli) name: &'static str,
    /// Id of the entity; `None` for the sample's, or if the node determines it.
    pub(in crate::cli) entity: Option<String>,
    /// Data of the event, a JSON object; `None` for a sample.
    pub(in crate::cli) data: Option<Value>,
    /// Text that is unique to the event, and the same in its repetitions.
    pub(in crate::cli) key: String,
}

impl EventSender {
    pub(in crate::cli) fn try_new(config: &Config, base: &str) -> Result<Self, SendCommandError> {
        Ok(Self {
            config: config.clone(),
            base: base.to_owned(),
            client: build_client(true)?,
            clock: SystemClock::default(),
        })
    }

    /// Signs `event` and sends it.
    pub(in crate::cli) async fn send_event(
        &self,
        event: SenderEvent,
    ) -> Result<NodeAnswer, SendCommandError> {
        let data = event.data.map(|data| data.to_string().parse());
        let options = EventOptions {
            event: find_sendable_event(event.name, &self.config)?,
            entity: event.entity,
            data: data.and_then(Result::ok),
            key: None,
            at: None,
            now: self.clock.wall(),
            random: event.key,
        };
        self.send_request(options.build_request(&self.config)?)
            .await
    }

    /// Sends a request that is signed already.
    pub(in crate::cli) async fn send_request(
        &self,
        request: SignedEventRequest,
    ) -> Result<NodeAnswer, SendCommandError> {
        post_event(&self.client, &self.base, request).await
    }
}

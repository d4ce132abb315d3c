//! `hookyard send`: builds an event as its sender would, signs it, and sends it to a running node.
//! One file for each source.

use std::io::Write;
use std::path::PathBuf;

use super::dev_mode;
use super::error::CliError;
use super::node_url::{parse_url, sender_base};
use super::random_secret::random_bytes;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigDraft, ConfigPurpose};
use crate::event::Timestamp;
use data::JsonObject;
use event::SenderContract;

mod c2s;
mod crm;
mod data;
mod error;
mod event;
mod instagram;
mod leads;
mod post;
mod request;
mod sender;
mod support;

pub(super) use error::SendCommandError;
pub(super) use post::NodeAnswer;
pub(super) use request::SignedEventRequest;
use request::{EventOptions, TimeArg, parse_time_arg};
pub(super) use sender::{EventSender, SenderEvent};
pub(super) use support::SAMPLE_TICKET;

/// Send a signed sample event to a running node
///
/// Signs as the event's source requires, with the first secret of the configuration, or with a
/// secret that `hookyard serve --dev` generated.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = event::format_help(EXAMPLES))]
pub(super) struct SendCommand {
    /// Event to send; --help lists all events
    #[arg(default_value = "message.created")]
    event: String,
    /// Id of the entity: a ticket, or as --help describes for the event's source [default: the
    /// sample's]
    #[arg(long, value_name = "ID")]
    entity: Option<String>,
    /// Configuration file of the node, for its address and secrets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Base URL of the node, such as https://hooks.example.com [default: server.bind of the
    /// configuration]
    #[arg(long, value_parser = parse_url)]
    url: Option<String>,
    /// Idempotency key; for Instagram the message's mid [default: a random one]
    #[arg(long)]
    key: Option<String>,
    /// Data of the event, a JSON object; for Contact2Sale the whole event, for Instagram the
    /// messaging item [default: a sample]
    #[arg(long, value_name = "JSON")]
    data: Option<JsonObject>,
    /// Time of the event [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = parse_time_arg)]
    at: Option<TimeArg>,
}

const EXAMPLES: &str = "\
Examples:
  hookyard send
  hookyard send status.changed --entity SUP-7 --data '{\"status\": \"closed\"}'
  hookyard send lead.created
  hookyard send lead.status_changed --entity 1 --data '{\"lead_status\": \"won\"}'";

impl SendCommand {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), CliError> {
        let mut draft = ConfigDraft::from_toml(self.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev_mode::read_secrets(&draft.store_path())? {
            draft.fill_missing_secrets(&secrets);
        }
        let config = draft.finish(ConfigPurpose::Tool)?;

        let base = self.url.clone().unwrap_or_else(|| sender_base(&config));

        let client = post::build_client(self.url.is_none());

        let random = hex::encode(&random_bytes()?[..16]);
        let options = self.into_options(&config, SystemClock::default().wall(), random)?;
        let source = options.event.source.name();
        let request = options.build_request(&config)?;

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SendCommandError::Runtime)?;
        runtime
            .block_on(async { post::post_event(&client?, &base, request).await })?
            .report(source, out)
    }

    fn into_options(
        self,
        config: &Config,
        now: Timestamp,
        random: String,
    ) -> Result<EventOptions, SendCommandError> {
        let event = event::find_sendable_event(&self.event, config)?;
        Ok(EventOptions {
            event,
            entity: self.entity,
            data: self.data,
            key: self.key,
            at: self.at,
            now,
            random,
        })
    }
}

impl EventOptions {
    /// Builds the request as the event's sender would.
    fn build_request(self, config: &Config) -> Result<SignedEventRequest, SendCommandError> {
        let sources = &config.sources;
        match self.event.source {
            SenderContract::Support => support::build_support_request(self, &sources.support),
            SenderContract::Leads(event) => leads::build_leads_request(self, event, &sources.leads),
            SenderContract::C2s => c2s::build_c2s_request(self, &sources.c2s),
            SenderContract::Instagram => {
                instagram::build_instagram_request(self, &sources.instagram)
            }
            SenderContract::Crm => crm::build_crm_request(self, &sources.crm, &config.admin.token),
        }
    }
}

#[cfg(test)]
mod tests;

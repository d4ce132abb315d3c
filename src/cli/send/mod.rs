//! `hookyard send`: makes an event as its sender would, signs it, and sends it to a running node. One file for each source.

use std::io::Write;
use std::path::PathBuf;

use super::{dev, secret};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Draft, Purpose};
use crate::event::Timestamp;
use data::Data;
use event::Source;

mod c2s;
mod crm;
mod data;
mod error;
mod event;
mod instagram;
mod leads;
mod post;
mod request;
mod support;

pub(super) use error::Error;
pub(super) use post::{base_url, parse_url};
use request::{Moment, Request, Wanted, parse_time};
pub(super) use support::SAMPLE_TICKET;

/// Sign a sample event and send it to a running node
///
/// Signs as the event's source wants it, with the first secret of the configuration, or with one that
/// `hookyard serve --dev` made.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = event::help(EXAMPLES))]
pub(super) struct Send {
    /// Event to send; --help lists them all
    #[arg(default_value = "message.created")]
    event: String,
    /// Whom it is for: a ticket, or what --help says of the event's source [default: the sample's]
    #[arg(long, value_name = "ID")]
    entity: Option<String>,
    /// Configuration file of the node, for its address and secrets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Node to send to, such as https://hooks.example.com [default: server.bind of the configuration]
    #[arg(long, value_parser = parse_url)]
    url: Option<String>,
    /// Idempotency key; of Instagram the message's mid [default: a random one]
    #[arg(long)]
    key: Option<String>,
    /// The event's data, a JSON object; of Contact2Sale the whole event, of Instagram the messaging item [default: a sample]
    #[arg(long, value_name = "JSON")]
    data: Option<Data>,
    /// The event's own time [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    at: Option<Moment>,
}

const EXAMPLES: &str = "\
Examples:
  hookyard send
  hookyard send status.changed --entity SUP-7 --data '{\"status\": \"closed\"}'
  hookyard send lead.created
  hookyard send lead.status_changed --entity 1 --data '{\"lead_status\": \"won\"}'";

impl Send {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), super::Error> {
        let mut draft = Draft::read(self.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev::read(&draft.store_path())? {
            draft.fill_secrets(&secrets);
        }
        let config = draft.finish(Purpose::Tool)?;
        let base = self.url.clone().unwrap_or_else(|| base_url(&config.server.bind));
        let random = hex::encode(&secret::random()?[..16]);
        let wanted = self.wanted(&config, SystemClock::default().wall(), random)?;
        let source = wanted.event.source.name();
        let request = wanted.request(&config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        runtime.block_on(post::post(&base, request))?.report(source, out)
    }

    fn wanted(self, config: &Config, now: Timestamp, random: String) -> Result<Wanted, Error> {
        let event = event::find(&self.event, config)?;
        Ok(Wanted { event, entity: self.entity, data: self.data, key: self.key, at: self.at, now, random })
    }
}

impl Wanted {
    /// The request as its sender would make it.
    fn request(self, config: &Config) -> Result<Request, Error> {
        let sources = &config.sources;
        match self.event.source {
            Source::Support => support::request(self, &sources.support),
            Source::Leads(event) => leads::request(self, event, &sources.leads),
            Source::C2s => c2s::request(self, &sources.c2s),
            Source::Instagram => instagram::request(self, &sources.instagram),
            Source::Crm => crm::request(self, &sources.crm, &config.admin.token),
        }
    }
}

#[cfg(test)]
mod tests;

//! `hookyard send`: makes an event as its sender would, signs it, and sends it to a running node. One file for each source.

use std::io::{self, Write};
use std::path::PathBuf;

use reqwest::StatusCode;

use super::{dev, secret};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Draft, Purpose, Secret};
use crate::event::Timestamp;
use data::Data;
use event::{Event, Source};

mod c2s;
mod crm;
mod data;
mod event;
mod instagram;
mod leads;
mod post;
mod support;

pub(super) use post::{base_url, parse_url};
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

/// Why an event did not get through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Unknown(#[from] event::Unknown),
    #[error(
        "to sign this event takes {}: start `hookyard serve --dev` in this folder first, name the node's configuration \
         with --config, or set {}",
        .0.join(" and "),
        .0.iter().map(|key| variable(key)).collect::<Vec<_>>().join(" and ")
    )]
    NoSecrets(&'static [&'static str]),
    #[error(
        "{event} is for a {kind} that is there: give its number with --entity, as the answer to {kind}.created had it"
    )]
    NoEntity { event: &'static str, kind: &'static str },
    #[error("the node knows by itself whom {event} is for: leave out --entity")]
    NamelessEntity { event: &'static str },
    #[error("{event} has no key of its own, as {known_by} tells it from others: leave out --key")]
    NoKey { event: &'static str, known_by: &'static str },
    #[error("no node answers at {url}; start one with `hookyard serve --dev`, or name another with --url")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("something answers at {url}, but it does not speak TLS; try http://")]
    NoTls { url: String, source: reqwest::Error },
    #[error("the event could not be sent, or its answer not be read; it may have been accepted")]
    Broken(#[from] reqwest::Error),
    #[error(
        "the node answered {status}: nothing takes events of {source_name} there; is sources.{source_name}.enabled set?"
    )]
    Closed { status: StatusCode, source_name: &'static str },
    #[error("the node answered {0}")]
    Refused(StatusCode),
    #[error("the asynchronous runtime cannot be started")]
    Runtime(#[source] io::Error),
}

/// A time, and how it was spelt.
#[derive(Clone, Debug)]
struct Moment {
    text: String,
    time: Timestamp,
}

/// The event that is wanted, as far as it was said.
struct Wanted {
    event: Event,
    entity: Option<String>,
    data: Option<Data>,
    key: Option<String>,
    at: Option<Moment>,
    now: Timestamp,
    /// Characters that no other event has.
    random: String,
}

/// What a sender of the event's source would send.
struct Request {
    /// With its slash at the beginning.
    path: String,
    /// Beside the content's type. Some are secrets, so all are treated as such.
    headers: Vec<(&'static str, Secret)>,
    body: Vec<u8>,
}

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

    /// The event's own time, as it was spelt.
    fn at(&self) -> String {
        self.at.as_ref().map_or_else(|| self.now.to_string(), |at| at.text.clone())
    }

    fn take_key(&mut self) -> String {
        self.key.take().unwrap_or_else(|| self.random.clone())
    }

    fn take_data(&mut self) -> Data {
        self.data.take().unwrap_or_else(|| self.event.sample())
    }
}

/// `body` in JSON.
fn json(body: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("texts, and JSON that was parsed before")
}

/// The environment's name of the key `key` of the configuration.
fn variable(key: &str) -> String {
    format!("HOOKYARD_{}", key.replace('.', "__").to_uppercase())
}

fn parse_time(text: &str) -> Result<Moment, String> {
    let expected = || "expected an RFC 3339 time such as 2025-12-04T10:30:00Z".to_owned();
    Timestamp::parse(text).map(|time| Moment { text: text.to_owned(), time }).ok_or_else(expected)
}

#[cfg(test)]
mod tests;

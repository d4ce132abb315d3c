//! A request against a source, without a node: whether it verifies, and apart from that, what would be read from it. One file
//! for each source.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::raw::{Malformed, Raw};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Custom, Secret};
use crate::edge::{self, body};
use crate::entity::{Command, c2s_lead};
use crate::event::Timestamp;
use crate::provider::{Request, subscribe};

mod c2s;
mod crm;
mod custom;
mod instagram;
mod leads;
mod support;

/// The most events of one request that are shown.
const SHOWN_MAX: usize = 20;

/// Why a request is not taken, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} is no request", .0.display())]
    Malformed(PathBuf, #[source] Malformed),
    #[error("there is no source {name:?}; there are {}", .known.join(", "))]
    NoSource { name: String, known: Vec<String> },
    #[error("a node would refuse this request")]
    Refused,
}

/// What is to be tried.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    pub(super) source: &'a str,
    pub(super) request: &'a Path,
    pub(super) url: Option<&'a str>,
    /// When it arrives; now, if nothing is said.
    pub(super) at: Option<Timestamp>,
}

impl Trial<'_> {
    /// Reports on the request; an error unless it verifies and decodes.
    pub(super) fn run(&self, config: &Config, out: &mut impl Write) -> Result<(), crate::cli::Error> {
        let file = fs::read(self.request).map_err(|error| Error::Unreadable(self.request.to_owned(), error))?;
        let raw = Raw::parse(&file).map_err(|wrong| Error::Malformed(self.request.to_owned(), wrong))?;
        let url = self.url.map_or_else(|| url(config, &raw), str::to_owned);
        let request = raw.request(&url);
        let now = self.at.unwrap_or_else(|| SystemClock::default().wall());
        let target = self.find(config)?;
        let [verification, decoding] = target.judge(config, &request, now);
        writeln!(out, "source        {} ({})", self.source, target.contract())?;
        writeln!(out, "request       {} {url}, {} bytes", raw.method, raw.body.len())?;
        for (name, half) in [("verification", &verification), ("decoding", &decoding)] {
            let word = if half.is_good { "ok" } else { "failed" };
            write!(out, "{name:<13} {word}\n{}", half.text)?;
        }
        if verification.is_good && decoding.is_good { Ok(()) } else { Err(Error::Refused.into()) }
    }

    fn find<'c>(&self, config: &'c Config) -> Result<Target<'c>, Error> {
        let custom = &config.sources.custom;
        let built_in = BUILT_IN.into_iter().find(|(name, _)| *name == self.source).map(|(_, target)| target);
        let found = built_in.or_else(|| custom.iter().find(|custom| *custom.name == *self.source).map(Target::Custom));
        found.ok_or_else(|| {
            let known =
                BUILT_IN.into_iter().map(|(name, _)| name).chain(custom.iter().map(|custom| custom.name.as_str()));
            Error::NoSource { name: self.source.to_owned(), known: known.map(str::to_owned).collect() }
        })
    }
}

/// What a request is tried against.
#[derive(Clone, Copy)]
enum Target<'c> {
    Support,
    Leads,
    C2s,
    Instagram,
    Crm,
    Custom(&'c Custom),
}

const BUILT_IN: [(&str, Target<'static>); 5] = [
    (edge::support::SOURCE.as_str(), Target::Support),
    (edge::leads::SOURCE.as_str(), Target::Leads),
    (c2s_lead::SOURCE.as_str(), Target::C2s),
    (edge::instagram::SOURCE.as_str(), Target::Instagram),
    (edge::crm::SOURCE.as_str(), Target::Crm),
];

impl Target<'_> {
    fn contract(self) -> String {
        match self {
            Self::Support => "the support contract".to_owned(),
            Self::Leads => "the leads contract".to_owned(),
            Self::C2s => "Contact2Sale's contract".to_owned(),
            Self::Instagram => "Instagram's contract".to_owned(),
            Self::Crm => "the CRM's event bus".to_owned(),
            Self::Custom(custom) => custom.source.signing.to_string(),
        }
    }

    fn judge(self, config: &Config, request: &Request<'_>, now: Timestamp) -> [Half; 2] {
        let sources = &config.sources;
        let [verification, decoding] = match self {
            Self::Support => support::judge(&sources.support, request, now),
            Self::Leads => leads::judge(&sources.leads, request),
            Self::C2s => c2s::judge(&sources.c2s, request),
            Self::Instagram if request.method == "GET" => {
                return subscription(request, &sources.instagram.verify_token);
            }
            Self::Instagram => instagram::judge(&sources.instagram, request),
            Self::Crm => crm::judge(&sources.crm, &config.admin.token, request),
            Self::Custom(custom) => return custom::judge(custom, request, now),
        };
        [verification, unreadable(request).unwrap_or(decoding)]
    }
}

/// Half of a verdict: whether it is a good one, and what there is to say of it, in lines.
struct Half {
    is_good: bool,
    text: String,
}

impl Half {
    fn good(text: String) -> Self {
        Self { is_good: true, text }
    }

    fn wrong(reason: impl Display) -> Self {
        Self { is_good: false, text: line("reason", reason) }
    }
}

impl From<edge::error::Error> for Half {
    /// What a node would answer, with every wrong field.
    fn from(error: edge::error::Error) -> Self {
        let edge::error::Error::Invalid(faults) = error else { return Self::wrong(error) };
        Self { is_good: false, text: faults.iter().map(|fault| line("reason", &fault.detail)).collect() }
    }
}

/// Why nothing of `request` would be read by a contract that takes JSON by POST; `None` if it would be.
fn unreadable(request: &Request<'_>) -> Option<Half> {
    if request.method != "POST" {
        return Some(Half::wrong("the method is not POST, which alone is taken"));
    }
    let mut headers = HeaderMap::new();
    let content_type = request.headers.iter().find(|(name, _)| *name == "content-type");
    if let Some(Ok(value)) = content_type.map(|(_, value)| HeaderValue::from_bytes(value)) {
        headers.insert(CONTENT_TYPE, value);
    }
    body::check_is_json(&headers).err().map(Half::from)
}

/// A GET that wants to know whether the address is ours.
fn subscription(request: &Request<'_>, token: &Secret) -> [Half; 2] {
    let verification = match subscribe(request.query(), token.expose()) {
        Ok(_) => Half::good(line("token", "hub.verify_token is the configured one")),
        Err(wrong) => Half::wrong(wrong),
    };
    [verification, Half::good(line("handshake", "a subscription; its challenge is the answer"))]
}

/// What is said of a header that has to prove who the sender is.
fn proof(is_good: bool) -> &'static str {
    if is_good { "fits" } else { "is missing or does not fit" }
}

/// Only a body whose signature fits is decoded, here as in a node.
fn undecoded() -> Half {
    Half::wrong("only a body whose signature fits is decoded")
}

fn command(command: &Command) -> Half {
    Half::good(lines(&[
        ("entity", &format!("{} {}", command.entity.kind(), command.entity.id())),
        ("event", &command.event_type),
        ("key", command.idempotency_key.as_deref().unwrap_or(NO_KEY)),
        ("time", &command.at.map_or_else(no_time, |at| at.to_string())),
    ]))
}

/// A list of events, each shown or with what is wrong with it. A node takes those that are valid, if any is.
fn list(events: &[Result<String, Vec<String>>]) -> Half {
    let wrong = events.iter().filter(|event| event.is_err()).count();
    let mut text = line("events", format!("{}, of which {wrong} would be refused", events.len()));
    for (index, event) in events.iter().enumerate().take(SHOWN_MAX) {
        text += &match event {
            Ok(event) => line("event", format!("[{index}] {event}")),
            Err(problems) => problems.iter().map(|problem| line("reason", format!("[{index}] {problem}"))).collect(),
        };
    }
    Half { is_good: wrong < events.len(), text }
}

const NO_KEY: &str = "none, so no event is a duplicate";

fn no_time() -> String {
    "none, so that of its arrival".to_owned()
}

fn line(name: &str, text: impl Display) -> String {
    format!("  {name:<15} {text}\n")
}

fn lines(lines: &[(&str, &str)]) -> String {
    lines.iter().map(|(name, text)| line(name, text)).collect()
}

/// The URL that the sender called, as a node would find it out.
fn url(config: &Config, raw: &Raw<'_>) -> String {
    if raw.target.contains("://") {
        return raw.target.to_owned();
    }
    let base = config.server.public_url.clone();
    base.unwrap_or_else(|| format!("http://{}", raw.header("host").unwrap_or_default())) + raw.target
}

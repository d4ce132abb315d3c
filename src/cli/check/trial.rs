//! A request against a source, without a node: whether it verifies, and apart from that, what would be read from it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::raw::{Malformed, Raw};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Custom, Support};
use crate::edge::signature::{Verified, Verifier};
use crate::edge::support::{self, Given, decode};
use crate::event::{Timestamp, members};
use crate::provider::{Document, Handshake, Reply, Request, Verdict, subscribe};

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

/// One half of the report.
struct Half {
    is_good: bool,
    text: String,
}

impl Trial<'_> {
    /// Reports on the request; an error unless it verifies and decodes.
    pub(super) fn run(&self, config: &Config, out: &mut impl Write) -> Result<(), super::Error> {
        let file = fs::read(self.request).map_err(|error| Error::Unreadable(self.request.to_owned(), error))?;
        let raw = Raw::parse(&file).map_err(|wrong| Error::Malformed(self.request.to_owned(), wrong))?;
        let url = self.url.map_or_else(|| url(config, &raw), str::to_owned);
        let request = raw.request(&url);
        let now = self.at.unwrap_or_else(|| SystemClock::default().wall());
        let (what, [verification, decoding]) = match self.find(config)? {
            Target::Support(support) => ("the support contract".to_owned(), try_support(support, &request, now)),
            Target::Custom(custom) => (custom.source.signing.to_string(), try_custom(custom, &request, now)),
        };
        writeln!(out, "source        {} ({what})", self.source)?;
        writeln!(out, "request       {} {url}, {} bytes", raw.method, raw.body.len())?;
        for (name, half) in [("verification", &verification), ("decoding", &decoding)] {
            let word = if half.is_good { "ok" } else { "failed" };
            write!(out, "{name:<13} {word}\n{}", half.text)?;
        }
        if verification.is_good && decoding.is_good { Ok(()) } else { Err(Error::Refused.into()) }
    }

    fn find<'c>(&self, config: &'c Config) -> Result<Target<'c>, Error> {
        if self.source == support::SOURCE.as_str() {
            return Ok(Target::Support(&config.sources.support));
        }
        let custom = &config.sources.custom;
        let found = custom.iter().find(|custom| custom.name.as_str() == self.source).map(Target::Custom);
        found.ok_or_else(|| {
            let known = custom.iter().map(|custom| custom.name.to_string());
            Error::NoSource {
                name: self.source.to_owned(),
                known: [support::SOURCE.to_string()].into_iter().chain(known).collect(),
            }
        })
    }
}

/// A source of the configuration.
enum Target<'c> {
    Support(&'c Support),
    Custom(&'c Custom),
}

/// The URL that the sender called, as a node would find it out.
fn url(config: &Config, raw: &Raw<'_>) -> String {
    if raw.target.contains("://") {
        return raw.target.to_owned();
    }
    let base = config.server.public_url.clone();
    base.unwrap_or_else(|| format!("http://{}", raw.header("host").unwrap_or_default())) + raw.target
}

fn try_custom(custom: &Custom, request: &Request<'_>, now: Timestamp) -> [Half; 2] {
    let subscribes = matches!(custom.source.signing.handshake(), Handshake::Subscription);
    if request.method == "GET" && subscribes {
        return try_subscription(custom, request);
    }
    let explanation = custom.source.explain(request, now);
    let verification = Half { is_good: explanation.verdict == Verdict::Verified, text: explanation.to_string() };
    [verification, decode_custom(custom, request)]
}

fn try_subscription(custom: &Custom, request: &Request<'_>) -> [Half; 2] {
    let result = subscribe(request.query(), custom.verify_token.expose());
    let text = result
        .as_ref()
        .map_or_else(|wrong| line("reason", wrong), |_| line("token", "hub.verify_token is the configured one"));
    let verification = Half { is_good: result.is_ok(), text };
    [verification, Half { is_good: true, text: line("handshake", "a subscription; its challenge is the answer") }]
}

fn decode_custom(custom: &Custom, request: &Request<'_>) -> Half {
    let document = match Document::read(request) {
        Ok(document) => document,
        Err(wrong) => return Half { is_good: false, text: line("reason", wrong) },
    };
    if let Some(reply) = custom.source.handshake(&document) {
        let answer = match reply {
            Reply::Challenge(_) => "a question for a challenge, which is the answer; no event",
            Reply::Pong => "a ping; no event",
        };
        return Half { is_good: true, text: line("handshake", answer) };
    }
    // A person may see what a node would only read after it has verified the request.
    match custom.source.fields.extract(request, &document) {
        Ok(found) => Half {
            is_good: true,
            text: lines(&[
                ("entity", &format!("{} {}", custom.kind, found.entity)),
                ("event", &format!("{}.{}", custom.name, found.event)),
                ("key", found.idempotency_key.as_deref().unwrap_or("none, so no event is a duplicate")),
                ("time", &found.occurred_at.map_or_else(no_time, |at| at.to_string())),
            ]),
        },
        Err(lost) => Half { is_good: false, text: lost.iter().map(|lost| line(lost.field, &lost.problem)).collect() },
    }
}

fn no_time() -> String {
    "none, so that of its arrival".to_owned()
}

fn try_support(config: &Support, request: &Request<'_>, now: Timestamp) -> [Half; 2] {
    let header = |name| request.header(name);
    let in_body = || {
        let [timestamp] = members(std::str::from_utf8(request.body).ok()?, ["timestamp"]).ok()?;
        serde_json::from_str::<String>(timestamp?.get()).ok()
    };
    let timestamp = header("x-crm-timestamp").map(str::to_owned).or_else(in_body).unwrap_or_default();
    let body = Bytes::copy_from_slice(request.body);
    let key = header("x-crm-api-key").unwrap_or_default().as_bytes();
    let is_known = config.api_keys.iter().any(|known| !known.is_empty() && known.matches(key));
    let signature = header("x-crm-signature").unwrap_or_default().as_bytes();
    let verified = Verifier::new(&config.secrets).verify(&body, timestamp.as_bytes(), signature);
    let at = Timestamp::parse(&timestamp);
    let is_fresh = at.is_some_and(|at| at.distance(now) <= config.tolerance);
    let word = |is_good: bool| if is_good { "fits" } else { "is missing or does not fit" };
    let verification = Half {
        is_good: is_known && verified.is_some() && is_fresh,
        text: lines(&[
            ("x-crm-api-key", word(is_known)),
            ("x-crm-signature", word(verified.is_some())),
            ("time", &at.map_or_else(|| "not RFC 3339".to_owned(), |at| at.to_string())),
            ("time is near", if is_fresh { "yes" } else { "no" }),
        ]),
    };
    let decoding = match verified {
        Some(body) => decode_support(config, request, &body, at),
        None => Half { is_good: false, text: line("reason", "only a body whose signature fits is decoded") },
    };
    [verification, decoding]
}

fn decode_support(config: &Support, request: &Request<'_>, body: &Verified, at: Option<Timestamp>) -> Half {
    let idempotency_key = request.header("idempotency-key").or_else(|| request.header("x-idempotency-key"));
    let given =
        Given { idempotency_key: idempotency_key.map(str::as_bytes), at, unknown_entity: config.unknown_entity };
    match decode(body, given, tracing::Span::none()) {
        Ok(command) => Half {
            is_good: true,
            text: lines(&[
                ("entity", &format!("{} {}", command.entity.kind(), command.entity.id())),
                ("event", &command.event_type),
                ("key", command.idempotency_key.as_deref().unwrap_or_default()),
                ("time", &command.at.map_or_else(no_time, |at| at.to_string())),
            ]),
        },
        Err(error) => Half { is_good: false, text: line("reason", error) },
    }
}

fn line(name: &str, text: impl std::fmt::Display) -> String {
    format!("  {name:<15} {text}\n")
}

fn lines(lines: &[(&str, &str)]) -> String {
    lines.iter().map(|(name, text)| line(name, text)).collect()
}

//! Errors of `hookyard send`: an event that did not get through.

use std::io;

use reqwest::StatusCode;

use super::event;

/// Why an event did not get through.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SendCommandError {
    #[error(transparent)]
    Unknown(#[from] event::UnknownEventError),
    #[error(
        "to sign this event takes {}: start `hookyard serve --dev` in this folder first, name the node's configuration \
         with --config, or set {}",
        .0.join(" and "),
        .0.iter().map(|key| env_variable_name(key)).collect::<Vec<_>>().join(" and ")
    )]
    NoSecrets(&'static [&'static str]),
    #[error(
        "{event} is for a {kind} that is there: give its number with --entity, as the answer to {kind}.created had it"
    )]
    NoEntity {
        event: &'static str,
        kind: &'static str,
    },
    #[error("the node knows by itself whom {event} is for: leave out --entity")]
    NamelessEntity { event: &'static str },
    #[error("{event} has no key of its own, as {known_by} tells it from others: leave out --key")]
    NoKey {
        event: &'static str,
        known_by: &'static str,
    },
    #[error(
        "no node answers at {url}; start one with `hookyard serve --dev`, or name another with --url"
    )]
    Unreachable { url: String, source: reqwest::Error },
    #[error("something answers at {url}, but it does not speak TLS; try http://")]
    NoTls { url: String, source: reqwest::Error },
    #[error("the event could not be sent, or its answer not be read; it may have been accepted")]
    Broken(#[from] reqwest::Error),
    #[error(
        "the node answered {status}: nothing takes events of {source_name} there; is sources.{source_name}.enabled set?"
    )]
    Closed {
        status: StatusCode,
        source_name: &'static str,
    },
    #[error("the node answered {0}")]
    Refused(StatusCode),
    #[error("the asynchronous runtime cannot be started")]
    Runtime(#[source] io::Error),
}

/// The environment's name of the key `key` of the configuration.
fn env_variable_name(key: &str) -> String {
    format!("HOOKYARD_{}", key.replace('.', "__").to_uppercase())
}

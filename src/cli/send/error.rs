//! Errors of `hookyard send`.

use std::io;

use reqwest::StatusCode;

use super::event;
use crate::config::env_variable_name;

/// Reasons for which an event could not be sent or was refused.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SendCommandError {
    #[error(transparent)]
    Unknown(#[from] event::UnknownEventError),
    #[error(
        "signing this event requires {}: start `hookyard serve --dev` in this folder first, name \
         the node's configuration with --config, or set {}",
        .0.join(" and "),
        .0.iter().map(|key| env_variable_name(key)).collect::<Vec<_>>().join(" and ")
    )]
    NoSecrets(&'static [&'static str]),
    #[error(
        "{event} needs an existing {kind}: give its id with --entity, as returned for \
         {kind}.created"
    )]
    NoEntity {
        event: &'static str,
        kind: &'static str,
    },
    #[error("the node determines the entity of {event}: leave out --entity")]
    NamelessEntity { event: &'static str },
    #[error("{event} has no idempotency key, because {known_by} identifies it: leave out --key")]
    NoKey {
        event: &'static str,
        known_by: &'static str,
    },
    #[error(
        "no node answers at {url}; start one with `hookyard serve --dev`, or name another with \
         --url"
    )]
    Unreachable { url: String, source: reqwest::Error },
    #[error("the server at {url} does not speak TLS; try http://")]
    NoTls { url: String, source: reqwest::Error },
    #[error("sending the event or reading the answer failed; the event may have been accepted")]
    Broken(#[from] reqwest::Error),
    #[error(
        "the node answered {status}: it has no endpoint for events of {source_name}; is \
         sources.{source_name}.enabled set?"
    )]
    Closed {
        status: StatusCode,
        source_name: &'static str,
    },
    #[error("the node answered {0}")]
    Refused(StatusCode),
    #[error("cannot start the asynchronous runtime")]
    Runtime(#[source] io::Error),
}

//! Errors of `hookyard bench`, and its verdict.

use std::io;
use std::path::PathBuf;

use reqwest::StatusCode;

use super::template::MissingVariable;

/// Failures of the benchmark, and faults of what it measured.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum BenchError {
    #[error("cannot use the temporary folder; --folder names another")]
    Folder(#[source] io::Error),
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    #[error("cannot start the threads of the senders")]
    Threads(#[source] io::Error),
    #[error("a thread of the senders panicked")]
    Panicked,
    #[error("cannot listen for deliveries on {address}")]
    Listen { address: String, source: io::Error },
    #[error("cannot start the server process")]
    Spawn(#[source] io::Error),
    #[error("the server process ended before it was ready:\n{log}")]
    Ended { log: String },
    #[error("the server process was not ready within {after_s} s:\n{log}")]
    NotReady { after_s: u64, log: String },
    #[error("{url} is no URL of a server: it needs http:// or https:// and a host")]
    NoServer { url: String },
    #[error("{name} is no name of a header, or its value has characters that no header may have")]
    Header { name: String },
    #[error("the target refused an event: {status}, {body}")]
    Refused { status: StatusCode, body: String },
    #[error(
        "the target took the first request with the key {key} for a repetition; was it used before?"
    )]
    KeyInUse { key: String },
    #[error("the target accepted no event for {after_s} s; the last problem: {problem}")]
    NoAnswer { after_s: u64, problem: String },
    #[error("cannot read the adapter {}", path.display())]
    AdapterFile { path: PathBuf, source: io::Error },
    #[error("the adapter {} cannot be used", path.display())]
    Adapter {
        path: PathBuf,
        source: AdapterFileError,
    },
    #[error("cannot register a receiver")]
    Register(#[source] reqwest::Error),
    #[error("a receiver was not registered: {status}, {body}")]
    NotRegistered { status: StatusCode, body: String },
    #[error("cannot write {}", path.display())]
    ReportFile { path: PathBuf, source: io::Error },
    #[error(
        "this sends {events} events to {target}, which keeps them; give --yes if that is what you \
         want"
    )]
    Unconfirmed { events: u64, target: String },
    #[error(
        "the target's configuration has no secrets of the source support: name it with --config, or \
         set sources.support.api_keys and sources.support.secrets in the environment"
    )]
    NoSecrets,
    #[error("TLS cannot be set up")]
    Tls(#[from] tokio_rustls::rustls::Error),
    #[error("{0}")]
    Faults(String),
}

/// Problem in an adapter file.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum AdapterFileError {
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    #[error(transparent)]
    Variable(#[from] MissingVariable),
    #[error("{0} is no JSON pointer: it begins with a slash")]
    Pointer(String),
}

//! Errors of `hookyard entity`.

use std::io;
use std::path::PathBuf;

use reqwest::StatusCode;

/// Errors of the calls to the node.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum EntityCommandError {
    #[error("no node answers at {base}; name it with --url")]
    Unreachable {
        base: String,
        source: reqwest::Error,
    },
    #[error("the node answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the answer of {base} is not that of a node; name it with --url")]
    NoNode { base: String },
    #[error("the connection broke before the end of the node's answer")]
    Broken(#[source] reqwest::Error),
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("cannot write {}", file.display())]
    File { file: PathBuf, source: io::Error },
}

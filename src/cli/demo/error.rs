//! Errors of `hookyard demo`.

use std::io;

use reqwest::StatusCode;

/// Failures of the demo, and its verdict on the promises.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DemoError {
    #[error("cannot use the temporary folder; TMPDIR names another")]
    Folder(#[source] io::Error),
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    #[error("the node refused {event}: {status}, {body}")]
    Refused {
        event: &'static str,
        status: StatusCode,
        body: String,
    },
    #[error("in vain after {after_s} s: {expected}")]
    InVain {
        expected: &'static str,
        after_s: u64,
    },
    #[error(
        "a promise was broken: {swaps} out of order, {lost} not delivered, {wrongly_signed} wrongly \
         signed"
    )]
    Broken {
        swaps: u64,
        lost: u64,
        wrongly_signed: u64,
    },
}

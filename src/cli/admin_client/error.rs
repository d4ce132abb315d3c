//! Errors of the calls to the admin API of a running node.

use reqwest::StatusCode;

/// Failures of a call, and refusals of the node.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum AdminCallError {
    #[error(
        "no node answers at {base}; start it, or name another address or its configuration \
         with --config"
    )]
    Unreachable {
        base: String,
        source: reqwest::Error,
    },
    #[error("the node answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the answer of {base} is not that of a node; name another address")]
    NoNode { base: String },
    #[error("the connection broke before the end of the node's answer")]
    Broken(#[source] reqwest::Error),
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

impl AdminCallError {
    /// Words the node's reason for a refusal anew.
    pub(in crate::cli) fn map_detail(self, word: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Refused { status, detail } => Self::Refused {
                status,
                detail: word(detail),
            },
            other => other,
        }
    }

    /// Tells if the same call may succeed soon: the node is starting, or opens its store again.
    pub(in crate::cli) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken(_) => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::NoNode { .. } | Self::Client(_) => false,
        }
    }
}

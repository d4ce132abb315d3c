//! Node of the benchmark's own: its configuration, its secrets, and the times of its kills.

use std::path::Path;

use super::child_server::{ServerProgram, find_free_port};
use super::error::BenchError;
use super::target::SupportSigner;
use crate::cli::error::CliError;
use crate::cli::random_secret::generate_secret;
use crate::config::Secret;

/// Settings that only a benchmark with failing subscribers needs: with the pauses of a real node, the
/// run would be spent waiting.
const SHORT_PAUSES: [(&str, &str); 4] = [
    ("HOOKYARD_DELIVERY__TIMEOUT_S", "2"),
    (
        "HOOKYARD_DELIVERY__RETRY_SCHEDULE_S",
        "0.2,0.5,1,1,2,2,4,4,8,8,16,16,30,30,60,60",
    ),
    ("HOOKYARD_DELIVERY__BREAKER__OPEN_S", "1"),
    ("HOOKYARD_DELIVERY__BREAKER__OPEN_MAX_S", "2"),
];

/// Secrets of a node that the benchmark starts.
pub(super) struct OwnNodeSecrets {
    pub(super) admin_token: Secret,
    pub(super) signer: SupportSigner,
}

impl OwnNodeSecrets {
    pub(super) fn generate() -> Result<Self, CliError> {
        Ok(Self {
            admin_token: generate_secret()?,
            signer: SupportSigner {
                api_key: generate_secret()?,
                secret: generate_secret()?,
            },
        })
    }
}

/// Describes a node with the defaults of a real one, except that no rate is limited. Its store is in
/// `folder`.
pub(super) fn node_program(
    folder: &Path,
    secrets: &OwnNodeSecrets,
    has_faults: bool,
) -> Result<ServerProgram, BenchError> {
    let port = find_free_port()?;
    let signer = &secrets.signer;
    let mut environment = vec![
        ("SERVER__BIND", format!("127.0.0.1:{port}")),
        ("STORE__PATH", folder.join("data").display().to_string()),
        ("ADMIN__TOKEN", secrets.admin_token.expose().to_owned()),
        ("DELIVERY__ALLOW_TARGETS", "127.0.0.0/8".to_owned()),
        ("SOURCES__SUPPORT__ENABLED", "true".to_owned()),
        (
            "SOURCES__SUPPORT__API_KEYS",
            signer.api_key.expose().to_owned(),
        ),
        (
            "SOURCES__SUPPORT__SECRETS",
            signer.secret.expose().to_owned(),
        ),
        ("SOURCES__SUPPORT__RATE_PER_MINUTE", "0".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (format!("HOOKYARD_{name}"), value))
    .collect::<Vec<_>>();
    if has_faults {
        let short = SHORT_PAUSES.map(|(name, value)| (name.to_owned(), value.to_owned()));
        environment.extend(short);
    }
    Ok(ServerProgram {
        arguments: vec!["serve".to_owned()],
        environment,
        port,
        ready_path: "/readyz",
        log_file: folder.join("node.log"),
    })
}

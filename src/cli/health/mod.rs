//! `hookyard health`: asks a running node for its health, so that a container needs no other tool.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::node_url::{admin_base, client_builder, parse_url};
use crate::config::ConfigPurpose;

mod error;

pub(super) use error::HealthError;

/// Limit of the whole call: shorter than the pauses of any supervisor.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Ask a running node for its health; the exit code is 1 unless it is ready
///
/// A node is ready if it accepts events (/readyz). Needs no token.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard health\n  hookyard health --url http://127.0.0.1:8080 --live"
)]
pub(super) struct HealthCommand {
    /// URL of the node [default: admin.bind or server.bind of the configuration]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask only if the process answers (/healthz), whatever the state of its store
    #[arg(long)]
    live: bool,
}

impl HealthCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let base = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => admin_base(&self.config.load(ConfigPurpose::Tool)?.config),
        };
        let status = actix_rt::System::new().block_on(self.ask(base))?;
        writeln!(out, "{status}")?;
        Ok(())
    }

    /// Returns the word for the node's health.
    async fn ask(&self, base: String) -> Result<&'static str, HealthError> {
        let (path, word) = match self.live {
            true => ("healthz", "ok"),
            false => ("readyz", "ready"),
        };
        let client = client_builder(self.url.is_none()).timeout(TIMEOUT).build();
        let client = client.map_err(HealthError::Client)?;
        let answer = client.get(format!("{base}/{path}")).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(source) => {
                let source = source.without_url();
                return Err(HealthError::Unreachable { base, source });
            }
        };

        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        match (body["status"].as_str(), body["reason"].as_str()) {
            (Some(found), _) if found == word && status.is_success() => Ok(word),
            (Some("not_ready"), reason) => {
                let reason = reason.unwrap_or("no reason given").to_owned();
                Err(HealthError::NotReady { base, reason })
            }
            _ => Err(HealthError::NoNode { base, status }),
        }
    }
}

//! `hookyard reload`: makes a running node read its configuration again.

use std::io::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::error::CliError;
use super::node_args::NodeArgs;
use super::terminal_text::sanitize_text;

/// Make a running node read its configuration again
///
/// The node reads its own file, its environment and the files of its secrets, and goes on without losing
/// a request. If the configuration has a problem, nothing changes. The exit code is 1 then.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard reload --config hookyard.toml")]
pub(super) struct ReloadCommand {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Answer of the node to a reload that changed something or nothing.
#[derive(Deserialize)]
struct ReloadAnswer {
    changed: Vec<String>,
    restart_required: Vec<String>,
    warnings: Vec<String>,
    /// Absent in answers of earlier versions.
    #[serde(default)]
    certificate_ends_at: Option<String>,
}

impl ReloadCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        actix_rt::System::new().block_on(self.reload(out))
    }

    async fn reload(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let answer: ReloadAnswer = node.post(&["reload"], None).await?;
        if self.json {
            let answer: Value = json!({
                "changed": answer.changed,
                "restart_required": answer.restart_required,
                "warnings": answer.warnings,
                "certificate_ends_at": answer.certificate_ends_at,
            });
            writeln!(out, "{answer}")?;
            return Ok(());
        }

        match answer.changed.is_empty() {
            true => writeln!(out, "configuration reloaded; no key has changed")?,
            false => writeln!(out, "configuration reloaded; changed:")?,
        }
        let lists = [
            ("  ", "", &answer.changed),
            ("", " needs a restart", &answer.restart_required),
        ];
        for (before, after, keys) in lists {
            for key in keys {
                writeln!(out, "{before}{}{after}", sanitize_text(key))?;
            }
        }
        if let Some(end) = &answer.certificate_ends_at {
            let end = sanitize_text(end);
            writeln!(out, "a renewed certificate is in force; it ends at {end}")?;
        }
        for warning in &answer.warnings {
            writeln!(out, "warning: {}", sanitize_text(warning))?;
        }
        Ok(())
    }
}

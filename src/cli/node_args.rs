//! Options of the commands that use the admin API of a running node, and the node they select.

use std::path::PathBuf;

use clap::Args;

use super::dev_mode;
use super::error::CliError;
use super::node_url::{base_url, parse_url};
use crate::config::{ConfigDraft, ConfigPurpose, Secret};

/// Options that select a running node.
#[derive(Args, Debug)]
#[command(next_help_heading = "The node")]
pub(super) struct NodeArgs {
    /// URL of the node [default: server.bind of the configuration]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<String>,
    /// Admin token of the node [default: admin.token of the configuration]
    #[arg(long, value_name = "TOKEN", value_parser = parse_secret)]
    token: Option<Secret>,
    /// Configuration file of the node, for its address and token
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// URL and admin token of a running node.
pub(super) struct SelectedNode {
    pub(super) base: String,
    pub(super) token: Secret,
}

impl NodeArgs {
    /// Returns the selected node. Without options it is the one of this folder, with the secrets of
    /// `hookyard serve --dev` if there are any.
    pub(super) fn resolve_node(&self) -> Result<SelectedNode, CliError> {
        if let (Some(url), Some(token)) = (&self.url, &self.token) {
            return Ok(SelectedNode {
                base: url.trim_end_matches('/').to_owned(),
                token: token.clone(),
            });
        }
        let mut draft = ConfigDraft::from_toml(self.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev_mode::read_secrets(&draft.store_path())? {
            draft.fill_missing_secrets(&secrets);
        }
        let config = draft.finish(ConfigPurpose::Tool)?;
        let token = self.token.as_ref().unwrap_or(&config.admin.token);
        if token.is_empty() {
            return Err(CliError::NoToken);
        }
        let from_config = || base_url(&config.server.bind);
        let base = self.url.clone().unwrap_or_else(from_config);
        Ok(SelectedNode {
            base: base.trim_end_matches('/').to_owned(),
            token: token.clone(),
        })
    }
}

fn parse_secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

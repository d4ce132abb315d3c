//! Options of the commands that use the admin API of a running node, and the node they select.

use clap::Args;

use super::config_args::ConfigArgs;
use super::dev_mode;
use super::error::CliError;
use super::node_url::{admin_base, parse_url};
use crate::config::{Config, ConfigDraft, ConfigPurpose, Secret};

/// Options that select a running node.
#[derive(Args, Debug)]
pub(super) struct NodeArgs {
    /// URL of the node [default: admin.bind or server.bind of the configuration]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<String>,
    /// Token of the node, with a role that may do this [default: admin.token of the configuration]
    #[arg(long, value_name = "TOKEN", value_parser = parse_token)]
    token: Option<Secret>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// URL and admin token of a running node.
pub(super) struct SelectedNode {
    pub(super) base: String,
    pub(super) token: Secret,
    /// True if the node is that of the configuration, on this machine.
    pub(super) is_own: bool,
}

impl NodeArgs {
    /// Returns `true` if an option names the node itself.
    pub(super) fn names_node(&self) -> bool {
        self.url.is_some() || self.token.is_some()
    }

    /// Returns the selected node. Without options it is the one of this folder.
    pub(super) fn resolve_node(&self) -> Result<SelectedNode, CliError> {
        if let (Some(url), Some(token)) = (&self.url, &self.token) {
            return Ok(select_node(url, token, false));
        }
        self.resolve_node_of(&self.load_config()?)
    }

    /// Returns the selected node, whose configuration is `config`.
    pub(super) fn resolve_node_of(&self, config: &Config) -> Result<SelectedNode, CliError> {
        let token = self.token.as_ref().unwrap_or(&config.admin.token);
        if token.is_empty() {
            return Err(CliError::NoToken);
        }
        let base = self.url.clone().unwrap_or_else(|| admin_base(config));
        Ok(select_node(&base, token, self.url.is_none()))
    }

    /// Returns the configuration of the node, with the secrets of `hookyard serve --dev` if there
    /// are any.
    pub(super) fn load_config(&self) -> Result<Config, CliError> {
        if self.config.dev {
            return Ok(self.config.load(ConfigPurpose::Tool)?.config);
        }
        let mut draft = ConfigDraft::from_toml(self.config.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev_mode::read_secrets(&draft.store_path())? {
            draft.fill_missing_secrets(&secrets);
        }
        Ok(draft.finish(ConfigPurpose::Tool)?)
    }
}

fn select_node(base: &str, token: &Secret, is_own: bool) -> SelectedNode {
    SelectedNode {
        base: base.trim_end_matches('/').to_owned(),
        token: token.clone(),
        is_own,
    }
}

fn parse_token(text: &str) -> Result<Secret, &'static str> {
    match text.is_empty() {
        true => Err("expected a token, not an empty one"),
        false => Ok(Secret::new(text)),
    }
}

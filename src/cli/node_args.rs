//! Options of the commands that use the admin API of a running node, and the node they select.

use std::path::Path;

use clap::Args;

use super::config_args::ConfigArgs;
use super::dev_mode;
use super::error::CliError;
use super::node_url::{admin_base, parse_url};
use super::selected_node::SelectedNode;
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

impl NodeArgs {
    /// Returns `true` if an option names the node itself.
    pub(super) fn names_node(&self) -> bool {
        self.url.is_some() || self.token.is_some()
    }

    /// Returns the selected node. Without options it is the one of this folder.
    pub(super) fn resolve_node(&self) -> Result<SelectedNode, CliError> {
        let selected = select_node(self.url.as_deref(), self.token.as_ref(), || {
            self.load_config()
        });
        selected.map_err(|error| match (error, &self.config.config) {
            (CliError::NoToken, Some(file)) => CliError::NoTokenInFile(file.clone()),
            (error, _) => error,
        })
    }

    /// Returns the configuration of the node, with the secrets of `hookyard serve --dev` if there
    /// are any.
    pub(super) fn load_config(&self) -> Result<Config, CliError> {
        if self.config.dev {
            return Ok(self.config.load(ConfigPurpose::Tool)?.config);
        }
        load_folder_config(self.config.config.as_deref())
    }
}

/// Returns the node at `url` with `token`; what is not given is that of the node's configuration.
pub(super) fn select_node(
    url: Option<&str>,
    token: Option<&Secret>,
    load_config: impl FnOnce() -> Result<Config, CliError>,
) -> Result<SelectedNode, CliError> {
    let (base, token) = match (url, token) {
        (Some(url), Some(token)) => (url.to_owned(), token.clone()),
        _ => {
            let config = load_config()?;
            let base = url.map_or_else(|| admin_base(&config), str::to_owned);
            (base, token.unwrap_or(&config.admin.token).clone())
        }
    };
    if token.is_empty() {
        return Err(CliError::NoToken);
    }
    Ok(SelectedNode {
        base: base.trim_end_matches('/').to_owned(),
        token,
        is_own: url.is_none(),
    })
}

/// Loads the configuration in `file`, or of this folder, with the secrets of `hookyard serve --dev` if
/// there are any.
pub(super) fn load_folder_config(file: Option<&Path>) -> Result<Config, CliError> {
    let mut draft = ConfigDraft::from_toml(file, std::env::vars_os());
    if let Some(secrets) = dev_mode::read_secrets(&draft.store_path())? {
        draft.fill_missing_secrets(&secrets);
    }
    Ok(draft.finish(ConfigPurpose::Tool)?)
}

/// Parses a `--token` argument: any text but an empty one.
pub(super) fn parse_token(text: &str) -> Result<Secret, &'static str> {
    match text.is_empty() {
        true => Err("expected a token, not an empty one"),
        false => Ok(Secret::new(text)),
    }
}

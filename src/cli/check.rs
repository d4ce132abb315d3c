//! `hookyard check`: says what is wrong with a configuration, or what it comes to.

use std::io::Write;

use super::{ConfigArgs, Error, count};
use crate::config::{Config, Purpose};

/// Check a configuration: everything that is wrong with it, or a summary without secrets
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard check --config hookyard.toml")]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Check {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), Error> {
        let config = self.config.load(Purpose::Node)?.config;
        write!(out, "configuration is valid\n{}\n{}", summary(&config), warning(&config))?;
        Ok(())
    }
}

/// What is valid and yet hardly meant; nothing, or a line.
fn warning(config: &Config) -> &'static str {
    match config.sources.support.enabled {
        true => "",
        false => "warning: no source is enabled, so every webhook gets 404; set sources.support.enabled = true\n",
    }
}

fn summary(config: &Config) -> String {
    let support = &config.sources.support;
    let sources = match support.enabled {
        true => format!(
            "support ({}, {})",
            count(support.api_keys.len(), "API key", "API keys"),
            count(support.secrets.len(), "secret", "secrets"),
        ),
        false => "none enabled".to_owned(),
    };
    format!(
        "  listens on  {}\n  stores in   {} (sync = {})\n  sources     {sources}\n  logs        {}",
        config.server.bind,
        config.store.path.display(),
        format!("{:?}", config.store.sync).to_lowercase(),
        config.telemetry.level,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_no_secret() {
        let env = [
            ("HOOKYARD_ADMIN__TOKEN", "hunter22"),
            ("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true"),
            ("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "hunter22"),
            ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "hunter22,hunter22"),
        ];
        let config = crate::config::load(None, env).expect("valid");
        let summary = summary(&config);
        assert!(!summary.contains("hunter2"), "{summary}");
        assert!(summary.contains("support (1 API key, 2 secrets)"), "{summary}");
        assert!(summary.contains("hookyard-data (sync = commit)"), "{summary}");
        assert_eq!(warning(&config), "");
    }

    #[test]
    fn a_node_that_takes_no_webhooks_is_warned_of() {
        let config = crate::config::load(None, [("HOOKYARD_ADMIN__TOKEN", "test-token")]).expect("valid");
        assert!(summary(&config).contains("none enabled"));
        assert!(warning(&config).contains("set sources.support.enabled = true"));
    }
}

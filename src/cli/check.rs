//! `hookyard check`: says what is wrong with a configuration, or what it comes to.

use std::io::Write;

use super::{ConfigArgs, Error};
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
        writeln!(out, "configuration is valid\n{}", summary(&config))?;
        Ok(())
    }
}

fn summary(config: &Config) -> String {
    let support = &config.sources.support;
    let sources = match support.enabled {
        true => format!("support ({} API keys, {} secrets)", support.api_keys.len(), support.secrets.len()),
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
            ("HOOKYARD_ADMIN__TOKEN", "hunter2"),
            ("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true"),
            ("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "hunter2"),
            ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "hunter2,hunter2"),
        ];
        let summary = summary(&crate::config::load(None, env).expect("valid"));
        assert!(!summary.contains("hunter2"), "{summary}");
        assert!(summary.contains("support (1 API keys, 2 secrets)"), "{summary}");
        assert!(summary.contains("hookyard-data (sync = commit)"), "{summary}");
    }
}

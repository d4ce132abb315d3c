//! `hookyard config print`: the configuration in force, each key with the place that set it.
//! `hookyard config default`: every key with its default and the reason.

use std::io::Write;

use serde_json::json;

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::terminal_text::sanitize_text;
use crate::config::{ConfigPurpose, DEFAULTS, EffectiveSetting};

/// Look at the configuration in force, or at every key that there is
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  hookyard config print --config hookyard.toml --changed\n  \
    hookyard config default | less"
)]
pub(super) enum ConfigCommand {
    Print(PrintConfigCommand),
    /// Print every key with its default and the reason, as a configuration file
    #[command(after_help = "Example:\n  hookyard config default | less")]
    Default,
}

/// Print every key with its value and the place that set it, secrets masked
///
/// Marks the keys that a reload cannot change.
/// Reads the file and the environment as `hookyard serve` would. `hookyard check` says what is wrong
/// with them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard config print --config hookyard.toml --changed")]
pub(super) struct PrintConfigCommand {
    /// Only the keys that differ from the defaults
    #[arg(long)]
    changed: bool,
    /// Print JSON, one key per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ConfigCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Self::Print(print) => print.run(out),
            Self::Default => Ok(out.write_all(DEFAULTS.as_bytes())?),
        }
    }
}

impl PrintConfigCommand {
    fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let config = self.config.load(ConfigPurpose::Tool)?.config;
        let all = config.settings.iter();
        for setting in all.filter(|setting| !self.changed || !setting.is_default) {
            self.print_setting(setting, out)?;
        }
        Ok(())
    }

    fn print_setting(
        &self,
        setting: &EffectiveSetting,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let EffectiveSetting {
            key,
            value,
            origin,
            is_default,
            needs_restart,
        } = setting;
        if self.json {
            let setting = json!({
                "key": key,
                "value": value,
                "origin": origin,
                "is_default": is_default,
                "needs_restart": needs_restart,
            });
            writeln!(out, "{setting}")?;
            return Ok(());
        }
        let origin = (!is_default).then_some(origin.as_str());
        let mark = needs_restart.then_some("needs a restart");
        let notes: Vec<_> = origin.into_iter().chain(mark).collect();
        let notes = match notes.is_empty() {
            true => String::new(),
            false => format!("    # {}", notes.join("; ")),
        };
        writeln!(out, "{key} = {}{notes}", sanitize_text(value))?;
        Ok(())
    }
}

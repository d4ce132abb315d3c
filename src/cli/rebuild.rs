//! `hookyard rebuild`: derives all tables of the projection again from the journal.

use std::io::Write;

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::existing_store::check_store;
use super::logging;
use super::plural::format_count;
use crate::app;
use crate::config::ConfigPurpose;

/// Rebuild the read tables (snapshots, timelines, event status) from the journal; the node must be
/// stopped
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard rebuild --config hookyard.toml")]
pub(super) struct RebuildCommand {
    #[command(flatten)]
    config: ConfigArgs,
}

impl RebuildCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let config = self.config.load(ConfigPurpose::Tool)?.config;
        check_store(&config.store.path)?;
        logging::start_logging(&config.telemetry)?;
        let app::RebuildSummary { records, entities } = app::rebuild_store(&config)?;
        let (records, entities) = (
            format_count(records, "record", "records"),
            format_count(entities, "entity", "entities"),
        );
        writeln!(out, "rebuilt from {records} of {entities}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_use_singular_and_plural() {
        assert_eq!(format_count(1_u64, "entity", "entities"), "1 entity");
        assert_eq!(format_count(0_u64, "entity", "entities"), "0 entities");
    }
}

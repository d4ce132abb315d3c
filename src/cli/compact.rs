//! `hookyard compact`: encrypts everything that is stored with the configured key, and drops
//! superseded table changes.

use std::io::Write;

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::existing_store::check_store;
use super::logging;
use super::plural::format_count;
use super::progress_line::ProgressLine;
use crate::app;
use crate::config::ConfigPurpose;

/// Encrypt everything that is stored with store.encryption_key, or decrypt it if the key is empty;
/// the node must be stopped
///
/// Without a retention, changes of the node's own tables that later ones have superseded go from the
/// journal too, such as former definitions and checkpoints of deliveries.
///
/// Set or change the key first, with the former one in store.former_encryption_keys. Afterwards
/// nothing in the data folder needs a former key. Backups made before still do. The command needs
/// free space for a copy of the derived data, and can be repeated if it was interrupted.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard compact --config hookyard.toml")]
pub(super) struct CompactCommand {
    #[command(flatten)]
    config: ConfigArgs,
}

impl CompactCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let config = self.config.load(ConfigPurpose::Tool)?.config;
        check_store(&config.store.path)?;
        logging::start_logging(&config.telemetry)?;

        let mut progress = None;
        let summary = app::compact_store(&config, &mut |done, all| {
            let line = progress.get_or_insert_with(|| ProgressLine::of_units("segment", all));
            line.report(done);
        })?;
        drop(progress);
        let segments = format_count(summary.segments, "segment", "segments");
        let state = match config.store.encryption_key {
            Some(_) => "encrypted with store.encryption_key",
            None => "not encrypted",
        };
        writeln!(
            out,
            "{} of {segments} written anew; everything stored is {state}",
            summary.rewritten
        )?;
        Ok(())
    }
}

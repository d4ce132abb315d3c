//! `hookyard rebuild`: recreates everything that is derived from the journal.

use std::io::Write;

use super::{ConfigArgs, Error, logging};
use crate::app;
use crate::config::Purpose;

/// Recreate what readers ask for (snapshots, timelines, event status) from the log; the node must be stopped
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard rebuild --config hookyard.toml")]
pub(super) struct Rebuild {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Rebuild {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), Error> {
        let config = self.config.load(Purpose::Tool)?.config;
        logging::start(&config.telemetry)?;
        let app::Rebuilt { records, entities } = app::rebuild(&config)?;
        writeln!(out, "rebuilt from {records} records of {entities} entities")?;
        Ok(())
    }
}

//! `hookyard restore`: creates a store from a backup and its increments.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::progress_line::ProgressLine;
use crate::config::ConfigPurpose;
use crate::journal::{ArchiveInput, ContentCipher, RestoreSummary, restore_store};

mod error;

pub(super) use error::RestoreCommandError;

/// Restore a store from a backup into an empty or absent data folder
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard restore monday.backup --config hookyard.toml\n  \
    hookyard restore monday.backup tuesday.backup --data /var/lib/hookyard-new"
)]
pub(super) struct RestoreCommand {
    /// Full backup, then its increments in order; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    archives: Vec<PathBuf>,
    /// Data folder of the new store [default: store.path]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl RestoreCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let store = self.config.load(ConfigPurpose::Tool)?.config.store;
        let folder = self.data.as_ref().unwrap_or(&store.path);
        let archives: Result<_, _> = self
            .archives
            .iter()
            .map(|path| open_archive(path))
            .collect();

        let mut progress = ProgressLine::without_end();
        let restored = restore_store(
            folder,
            archives?,
            &ContentCipher::from_config(&store),
            store.segment_bytes,
            &mut |position| progress.report(position),
        );
        drop(progress);
        let summary = restored.map_err(RestoreCommandError::Restore)?;
        self.print_summary(folder, &summary, out)?;
        Ok(())
    }

    fn print_summary(
        &self,
        folder: &Path,
        summary: &RestoreSummary,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let folder = folder.display();
        let end = summary.end.position;
        if self.json {
            let summary = json!({
                "folder": folder.to_string(),
                "end_position": end.get(),
                "incarnation": summary.incarnations.to_string(),
            });
            return writeln!(out, "{summary}");
        }
        writeln!(
            out,
            "restored into {folder}; the next event has position {end}\n\
             The first start derives the read tables again. Events after the backup are not in it: \
             senders may send them again."
        )
    }
}

fn open_archive(path: &Path) -> Result<ArchiveInput, RestoreCommandError> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path).map_err(|source| RestoreCommandError::Open {
            path: path.to_owned(),
            source,
        })?;
        Box::new(BufReader::new(file))
    };
    Ok(ArchiveInput {
        name: path.display().to_string(),
        input,
    })
}

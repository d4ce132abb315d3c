//! `hookyard verify`: reads every byte of a store's journal or of a backup, and names each damaged
//! place.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::existing_store::check_store;
use super::plural::format_count;
use super::progress_line::ProgressLine;
use crate::config::ConfigPurpose;
use crate::error_chain;
use crate::journal::{
    ArchiveError, ArchiveReader, ContentCipher, JournalReport, LogDamage, VerifiedPart,
    verify_journal,
};

mod error;

pub(super) use error::VerifyError;

/// Verify every byte of a store's journal, or of a backup
///
/// Nothing is changed. A journal can be verified while its node runs. The exit code is 1 if
/// anything is damaged.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard verify --config hookyard.toml\n  \
    hookyard verify monday.backup")]
pub(super) struct VerifyCommand {
    /// Backup to verify, in place of the store; `-` is standard input
    #[arg(value_name = "FILE", conflicts_with = "data")]
    archive: Option<PathBuf>,
    /// Data folder to verify [default: store.path]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl VerifyCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        if let Some(path) = &self.archive {
            return self.verify_archive(path, out);
        }
        let store = self.config.load(ConfigPurpose::Tool)?.config.store;
        let cipher = ContentCipher::from_config(&store);
        let folder = self.data.clone().unwrap_or(store.path);
        check_store(&folder)?;
        match verify_journal(&folder, &cipher, VerifiedPart::Everything) {
            Ok(report) => {
                self.print_report(&folder, &report, out)?;
                match report.damage.len() as u64 {
                    0 => Ok(()),
                    damaged => Err(VerifyError::Damaged(damaged).into()),
                }
            }
            Err(error) => {
                if self.json {
                    let problem = error_chain::format_error_chain(&error);
                    let folder = folder.display().to_string();
                    let report = json!({"folder": folder, "is_whole": false, "problem": problem});
                    writeln!(out, "{report}")?;
                }
                Err(VerifyError::Store(error).into())
            }
        }
    }

    fn verify_archive(&self, path: &Path, out: &mut impl Write) -> Result<(), CliError> {
        let store = self.config.load(ConfigPurpose::Tool)?.config.store;
        let read = read_archive(path, &ContentCipher::from_config(&store));
        let file = path.display();
        if self.json {
            let report = match &read {
                Ok(report) => report.clone(),
                Err(error) => {
                    let problem = error_chain::format_error_chain(error);
                    json!({"file": file.to_string(), "is_whole": false, "problem": problem})
                }
            };
            writeln!(out, "{report}")?;
        } else if let Ok(report) = &read {
            let kind = match report["is_full"] == true {
                true => "full backup",
                false => "increment",
            };
            writeln!(
                out,
                "{file} is whole: {kind} of positions {} to before {}, {} events and {} other \
                 changes, of {}",
                report["first_position"],
                report["end_position"],
                report["records"],
                report["table_changes"],
                report["created_at"].as_str().unwrap_or_default(),
            )?;
        }
        let path = path.to_owned();
        read.map_err(|source| VerifyError::Archive { path, source })?;
        Ok(())
    }

    fn print_report(
        &self,
        folder: &Path,
        report: &JournalReport,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", report_as_json(folder, report));
        }
        for damage in &report.damage {
            writeln!(out, "{}", describe_damage(damage))?;
        }
        if let Some((file, offset)) = &report.torn_tail {
            writeln!(
                out,
                "{}, byte {offset}: an incomplete commit that nobody was told of; the next start \
                 drops it",
                file.display()
            )?;
        }
        let (events, changes) = (
            format_count(report.records, "event", "events"),
            format_count(report.changes, "other change", "other changes"),
        );
        if report.encrypted_parts > 0 {
            let parts = format_count(report.encrypted_parts, "part", "parts");
            writeln!(
                out,
                "the content of {parts} was not checked, only the checksum: no configured key \
                 decrypts it; set store.encryption_key or store.former_encryption_keys"
            )?;
        }
        let is_whole = match report.damage.is_empty() {
            true => "is whole",
            false => "is damaged",
        };
        writeln!(
            out,
            "the journal in {} {is_whole}: read {events} and {changes}, up to position {}",
            folder.display(),
            report.end,
        )
    }
}

/// Says where the damage is, and which events it affects.
fn describe_damage(damage: &LogDamage) -> String {
    let LogDamage {
        file,
        offset,
        position,
        readable_from,
        problem,
    } = damage;
    let affected = match readable_from {
        Some(from) if from > position => {
            format!("events from position {position} to before {from} cannot be read from it")
        }
        Some(_) => "no event is in the damaged part, but changes of the node's own tables".into(),
        None => format!("events from position {position} on cannot be read from it"),
    };
    format!(
        "{}, byte {offset}: {problem}; {affected}. The node does not use a damaged journal: \
         restore a backup",
        file.display()
    )
}

fn report_as_json(folder: &Path, report: &JournalReport) -> Value {
    let damage: Vec<_> = report.damage.iter().map(damage_as_json).collect();
    let torn_tail = report
        .torn_tail
        .as_ref()
        .map(|(file, offset)| json!({"file": file.display().to_string(), "byte": offset}));
    json!({
        "folder": folder.display().to_string(),
        "is_whole": report.damage.is_empty(),
        "records": report.records,
        "table_changes": report.changes,
        "end_position": report.end.get(),
        "damage": damage,
        "torn_tail": torn_tail,
        "outdated_blocks": report.outdated_blocks,
        "encrypted_parts": report.encrypted_parts,
    })
}

fn damage_as_json(damage: &LogDamage) -> Value {
    json!({
        "file": damage.file.display().to_string(),
        "byte": damage.offset,
        "position": damage.position.get(),
        "readable_from": damage.readable_from.map(|position| position.get()),
        "problem": damage.problem,
    })
}

/// Reads the whole archive, and describes it.
fn read_archive(path: &Path, cipher: &ContentCipher) -> Result<Value, ArchiveError> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(
            File::open(path).map_err(ArchiveError::Read)?,
        ))
    };
    let mut reader = ArchiveReader::open(input, cipher)?;
    let header = reader.header().clone();
    let mut progress = ProgressLine::new(header.end.position.get());
    let summary = reader.check_to_end(&mut |position| progress.report(position))?;
    Ok(json!({
        "file": path.display().to_string(),
        "is_whole": true,
        "is_full": header.is_full,
        "created_at": header.created_at,
        "first_position": header.first.position.get(),
        "end_position": header.end.position.get(),
        "records": summary.records,
        "table_changes": summary.changes,
        "is_content_checked": !reader.has_skipped(),
    }))
}

//! `hookyard backup`: writes an archive of a store, of a running node or of a stopped one.
//!
//! ```text
//!  running node ──HTTP──> check each chunk ──┐
//!  stopped node's folder ────────────────────┴──> temporary file ──sync, rename──> FILE
//! ```

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::admin_client::AdminClient;
use super::error::CliError;
use super::existing_store::check_store;
use super::node_args::NodeArgs;
use super::plural::format_count;
use super::progress_line::ProgressLine;
use super::unfinished_file::UnfinishedFile;
use crate::clock::{Clock, SystemClock};
use crate::event::Position;
use crate::journal::{
    ArchiveError, ArchiveHeader, ArchiveReader, ArchiveSummary, BackupStart, ContentCipher,
    DataFolder, StoreImage, StoreImageError, StoreOpenError,
};
use archive_tee::{ArchiveTee, CountedOutput};
use node_archive::NodeArchive;

mod archive_tee;
mod error;
mod node_archive;

pub(super) use error::BackupCommandError;

/// Back up a store, of a running node or of a stopped one
///
/// Without --data or --url, the command backs up the store of the configuration: through the admin
/// API of the node that uses it, or from the folder if no node does.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard backup monday.backup --config hookyard.toml\n  \
    hookyard backup tuesday.backup --since monday.backup --config hookyard.toml\n  \
    hookyard backup - --config hookyard.toml | ssh host 'cat > hookyard.backup'"
)]
pub(super) struct BackupCommand {
    /// File to write; an earlier one of this name is replaced at the end. `-` is standard output
    #[arg(value_name = "FILE")]
    output: PathBuf,
    /// Only what came after an earlier backup, given as its file, or from a position on
    #[arg(long, value_name = "FILE|POSITION")]
    since: Option<String>,
    /// Data folder of a stopped node [default: store.path]
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["url", "token"])]
    data: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Store that is backed up, by the way to it.
enum BackupSource {
    Node(AdminClient),
    Folder(Arc<DataFolder>),
}

/// Header, totals and size of a written backup.
struct WrittenBackup {
    header: ArchiveHeader,
    summary: ArchiveSummary,
    bytes: u64,
}

impl BackupCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let base = self.read_base()?;
        let source = self.find_source()?;
        if self.output == Path::new("-") {
            let written = back_up(&source, base.as_ref(), &mut *out)?;
            out.flush()?;
            // Ignored: without a terminal there is no reader.
            let _ = self.print_summary(&written, &mut io::stderr());
            return Ok(());
        }

        let is_base = |base: &SinceBackup| match base {
            SinceBackup::File { path, .. } => is_same_file(path, &self.output),
            SinceBackup::Position(_) => false,
        };
        if base.as_ref().is_some_and(is_base) {
            return Err(BackupCommandError::OverBase(self.output.clone()).into());
        }
        let file_error = |source| BackupCommandError::File {
            path: self.output.clone(),
            source,
        };
        let mut file = UnfinishedFile::create(&self.output).map_err(file_error)?;
        let written = back_up(&source, base.as_ref(), &mut file)?;
        file.publish().map_err(file_error)?;
        self.print_summary(&written, out)?;
        Ok(())
    }

    /// Reads the earlier backup that `--since` names.
    fn read_base(&self) -> Result<Option<SinceBackup>, BackupCommandError> {
        let Some(text) = &self.since else {
            return Ok(None);
        };
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number: Option<u64> = text.parse().ok().filter(|number| *number > 0);
            let number = number.ok_or(BackupCommandError::ZeroPosition)?;
            return Ok(Some(SinceBackup::Position(Position::new(number))));
        }
        let path = PathBuf::from(text);
        let error = |source| BackupCommandError::Archive {
            archive: path.display().to_string(),
            source,
        };
        let file = File::open(&path).map_err(|source| error(ArchiveError::Read(source)))?;
        // The header is not encrypted.
        let reader = ArchiveReader::open(BufReader::new(file), &ContentCipher::default());
        let reader = reader.map_err(error)?;
        Ok(Some(SinceBackup::File {
            header: reader.header().clone(),
            path,
        }))
    }

    fn find_source(&self) -> Result<BackupSource, CliError> {
        let config = self.node.load_config()?;
        let cipher = ContentCipher::from_config(&config.store);
        if let Some(folder) = &self.data {
            check_store(folder)?;
            let folder = DataFolder::open_encrypted(folder, cipher).map_err(StoreImageError::from);
            return Ok(BackupSource::Folder(
                folder.map_err(BackupCommandError::Image)?,
            ));
        }
        if !self.node.names_node() {
            check_store(&config.store.path)?;
            match DataFolder::open_encrypted(&config.store.path, cipher.clone()) {
                Ok(folder) => return Ok(BackupSource::Folder(folder)),
                // A node uses it, so the node makes the backup.
                Err(StoreOpenError::InUse(_)) => {}
                Err(error) => return Err(BackupCommandError::Image(error.into()).into()),
            }
        }
        let node = self.node.resolve_node()?;
        let client = AdminClient::try_new(node).map_err(BackupCommandError::Call)?;
        Ok(BackupSource::Node(client))
    }

    fn print_summary(&self, written: &WrittenBackup, out: &mut dyn Write) -> io::Result<()> {
        let WrittenBackup {
            header,
            summary,
            bytes,
        } = written;
        if self.json {
            let summary = json!({
                "file": self.output.display().to_string(),
                "is_full": header.is_full,
                "created_at": header.created_at,
                "first_position": header.first.position.get(),
                "end_position": header.end.position.get(),
                "records": summary.records,
                "table_changes": summary.changes,
                "bytes": bytes,
            });
            return writeln!(out, "{summary}");
        }
        let kind = if header.is_full {
            "full backup"
        } else {
            "increment"
        };
        writeln!(
            out,
            "{kind} written to {}: {} from position {}, and {}; the next event has position {}\n\
             It holds the events and secrets of the store: keep it as safe as the store itself.",
            self.output.display(),
            format_count(summary.records, "event", "events"),
            header.first.position,
            format_count(summary.changes, "other change", "other changes"),
            header.end.position,
        )
    }
}

/// Earlier backup that an increment continues.
enum SinceBackup {
    Position(Position),
    File {
        path: PathBuf,
        header: ArchiveHeader,
    },
}

/// Writes the archive of `source` to `out`.
fn back_up(
    source: &BackupSource,
    since: Option<&SinceBackup>,
    out: &mut dyn Write,
) -> Result<WrittenBackup, BackupCommandError> {
    let start = match since {
        None => BackupStart::Everything,
        Some(SinceBackup::Position(position)) => BackupStart::Position(*position),
        Some(SinceBackup::File { header, .. }) => BackupStart::Place(header.end),
    };
    let mut out = CountedOutput::new(out);
    let (header, summary) = match source {
        BackupSource::Folder(folder) => {
            let image = StoreImage::of_stopped_store(folder).map_err(BackupCommandError::Image)?;
            let created_at = SystemClock::default().wall();
            let header = image.header_from(start, created_at);
            let header = header.map_err(BackupCommandError::Image)?;
            check_base(since, &header)?;
            let mut progress = ProgressLine::new(header.end.position.get());
            let summary = image
                .write_archive(&header, &mut out, &mut |position| progress.report(position))
                .map_err(BackupCommandError::Write)?;
            (header, summary)
        }
        BackupSource::Node(node) => {
            let archive = NodeArchive::request(node, start)?;
            copy_from_node(archive, node.base(), since, &mut out)?
        }
    };
    Ok(WrittenBackup {
        header,
        summary,
        bytes: out.bytes(),
    })
}

/// Copies the archive that a node sends, and checks it on the way.
fn copy_from_node(
    archive: NodeArchive,
    url: &str,
    since: Option<&SinceBackup>,
    out: &mut CountedOutput<'_>,
) -> Result<(ArchiveHeader, ArchiveSummary), BackupCommandError> {
    let mut tee = ArchiveTee::new(archive, out);
    let copied = (|| {
        let mut reader = ArchiveReader::open(&mut tee, &ContentCipher::default())?;
        let header = reader.header().clone();
        if check_base(since, &header).is_ok() {
            let mut progress = ProgressLine::new(header.end.position.get());
            let summary = reader.check_to_end(&mut |position| progress.report(position))?;
            return Ok((header, summary));
        }
        Ok((header, ArchiveSummary::default()))
    })();
    if let Some(error) = tee.take_write_error() {
        return Err(BackupCommandError::Output(error));
    }
    let (header, summary) = copied.map_err(|source| BackupCommandError::Archive {
        archive: format!("the answer of {url}"),
        source,
    })?;
    check_base(since, &header)?;
    Ok((header, summary))
}

/// Refuses an increment of a backup of another store.
fn check_base(
    since: Option<&SinceBackup>,
    header: &ArchiveHeader,
) -> Result<(), BackupCommandError> {
    match since {
        Some(SinceBackup::File { header: base, path }) if !base.is_continued_by(header) => {
            Err(BackupCommandError::OtherStore(path.clone()))
        }
        _ => Ok(()),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

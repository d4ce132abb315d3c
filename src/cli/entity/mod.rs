//! `hookyard entity`: the state of an entity of a running node, and what a person may ask for who is
//! known to the node.

mod error;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

pub(super) use error::EntityCommandError;

use super::admin_client::{AdminCallError, AdminClient};
use super::error::CliError;
use super::node_args::NodeArgs;
use super::terminal_text::print_answer;
use super::unfinished_file::UnfinishedFile;

/// Pause between two questions for the progress of an erasure.
const POLL_PAUSE: Duration = Duration::from_millis(500);

/// Show, export or erase what is stored of one entity, at a running node
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Example:\n  hookyard entity show ticket SUP-1042")]
pub(super) enum EntityCommand {
    Show(ShowEntityCommand),
    Erase(EraseCommand),
    Export(ExportCommand),
}

/// Show the state of an entity, with its first and last event
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard entity show ticket SUP-1042")]
pub(super) struct ShowEntityCommand {
    #[command(flatten)]
    entity: EntityArgs,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Erase the content of all events of an entity so far; this is final
///
/// Once the command has begun the erasure, no read of the node shows the content any more. It waits
/// until the content is in no file of the store either. Backups made before still hold it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard entity erase ticket SUP-1042")]
pub(super) struct EraseCommand {
    #[command(flatten)]
    entity: EntityArgs,
    /// Return as soon as the content is hidden; the node cleans the files in the background
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Write everything that is stored of an entity as JSON lines: its state, then each event
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard entity export ticket SUP-1042 --output ticket.jsonl")]
pub(super) struct ExportCommand {
    #[command(flatten)]
    entity: EntityArgs,
    /// File to write, readable for its owner only [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Arguments that name an entity.
#[derive(clap::Args, Debug)]
struct EntityArgs {
    /// Kind of the entity, such as ticket or custom:invoice; or kind and id as lists print them, such as
    /// ticket/SUP-1042
    #[arg(value_name = "KIND")]
    kind: String,
    /// Id of the entity, as its sender spells it
    #[arg(value_name = "ID")]
    id: Option<String>,
}

impl EntityArgs {
    /// Returns the kind and the id.
    ///
    /// # Errors
    /// [`EntityCommandError::NoId`] for one word without a slash, which no kind has.
    fn parts(&self) -> Result<(&str, &str), EntityCommandError> {
        let both = match &self.id {
            Some(id) => Some((self.kind.as_str(), id.as_str())),
            None => self.kind.split_once('/'),
        };
        both.ok_or_else(|| EntityCommandError::NoId(self.kind.clone()))
    }
}

/// Erasure as returned by the node.
#[derive(Deserialize)]
struct RemoteErasure {
    id: u64,
    state: String,
}

impl EntityCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        match self {
            Self::Show(show) => system.block_on(show.run(out)),
            Self::Erase(erase) => system.block_on(erase.run(out)),
            Self::Export(export) => system.block_on(export.run(out)),
        }
    }
}

impl ShowEntityCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let (kind, id) = self.entity.parts()?;
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let segments = ["entities", kind, id];
        let entity: Value = node.get(&segments, &[]).await?;
        Ok(print_answer(&entity, self.json, out)?)
    }
}

impl EraseCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let (kind, name) = self.entity.parts()?;
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let url = node.url(&["entities", kind, name], &[("erase", "true")])?;
        let answer = node.call(Method::DELETE, url, None).await?;
        let RemoteErasure { id, .. } = node.read(answer).await?;
        writeln!(out, "{kind} {name}: the content is hidden (erasure {id})")?;
        if self.no_wait {
            return Ok(());
        }

        while !is_erasure_done(&node, id).await? {
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing says when an erasure is done: the node is asked now and then"
            )]
            tokio::time::sleep(POLL_PAUSE).await;
        }
        writeln!(
            out,
            "{kind} {name}: the content is erased from all files of the store"
        )?;
        Ok(())
    }
}

impl ExportCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let (kind, id) = self.entity.parts()?;
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let segments = ["entities", kind, id, "export"];
        let answer = node
            .call(Method::GET, node.url(&segments, &[])?, None)
            .await?;
        let Some(path) = &self.output else {
            return copy_answer(answer, out, CliError::Output).await;
        };

        let file_error = |source| {
            let file = path.clone();
            CliError::Entity(EntityCommandError::File { file, source })
        };
        let mut file = UnfinishedFile::create(path).map_err(file_error)?;
        copy_answer(answer, &mut file, file_error).await?;
        file.publish().map_err(file_error)?;
        writeln!(out, "{kind} {id}: exported to {}", path.display())?;
        Ok(())
    }
}

async fn copy_answer(
    mut answer: Response,
    out: &mut impl Write,
    write_error: impl Fn(io::Error) -> CliError,
) -> Result<(), CliError> {
    while let Some(part) = answer.chunk().await.map_err(AdminCallError::Broken)? {
        out.write_all(&part).map_err(&write_error)?;
    }
    Ok(())
}

/// Tells if the erasure `id` is done. While the node opens its store again, it is not.
async fn is_erasure_done(node: &AdminClient, id: u64) -> Result<bool, AdminCallError> {
    match node.get(&["erasures", &id.to_string()], &[]).await {
        Ok(RemoteErasure { state, .. }) => Ok(state == "done"),
        Err(AdminCallError::Refused { status, .. })
            if status == StatusCode::SERVICE_UNAVAILABLE =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

//! `hookyard dead-letters`: deliveries of a running node that failed for good.

use std::io::Write;

use clap::ArgGroup;
use reqwest::Method;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, given_filters};
use super::error::CliError;
use super::node_args::NodeArgs;
use super::plural::format_count;
use super::terminal_text::{cell_text, entity_text, print_answer, print_table};

/// See, retry and discard the deliveries that failed for good, at a running node
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Examples:\n  hookyard dead-letters list --webhook 1\n  \
    hookyard dead-letters retry --webhook 1")]
pub(super) enum DeadLettersCommand {
    List(ListDeadLettersCommand),
    Show(ShowDeadLetterCommand),
    Retry(RetryDeadLettersCommand),
    Discard(DiscardDeadLettersCommand),
}

/// List the dead letters, the newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard dead-letters list --kind ticket --json")]
pub(super) struct ListDeadLettersCommand {
    /// Only those of this subscription
    #[arg(long, value_name = "ID")]
    webhook: Option<u64>,
    /// Only events of this kind of entity
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only events of the entity with this id
    #[arg(long, value_name = "ID")]
    entity: Option<String>,
    /// Only events with this name
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Print JSON, one dead letter per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Show a dead letter: its reason, the last answer, and the event
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard dead-letters show 1")]
pub(super) struct ShowDeadLetterCommand {
    /// Id of the dead letter
    #[arg(value_name = "ID")]
    id: u64,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Deliver dead letters again
///
/// The node delivers them in a job, which the command names and does not wait for.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard dead-letters retry 1\n  \
    hookyard dead-letters retry --all")]
pub(super) struct RetryDeadLettersCommand {
    #[command(flatten)]
    selection: DeadLetterSelection,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Discard dead letters; this is final
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard dead-letters discard 1\n  \
    hookyard dead-letters discard --webhook 1")]
pub(super) struct DiscardDeadLettersCommand {
    #[command(flatten)]
    selection: DeadLetterSelection,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Dead letters to act on: one of the three must be given.
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("selection").required(true).args(["id", "webhook", "all"]))]
struct DeadLetterSelection {
    /// Id of one dead letter
    #[arg(value_name = "ID")]
    id: Option<u64>,
    /// All dead letters of this subscription
    #[arg(long, value_name = "ID")]
    webhook: Option<u64>,
    /// All dead letters of the node
    #[arg(long)]
    all: bool,
}

impl DeadLettersCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        system.block_on(async {
            match self {
                Self::List(list) => list.run(out).await,
                Self::Show(show) => show.run(out).await,
                Self::Retry(retry) => retry.run(out).await,
                Self::Discard(discard) => discard.run(out).await,
            }
        })
    }
}

impl ListDeadLettersCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let webhook = self.webhook.map(|id| id.to_string());
        let filter = given_filters([
            ("webhook_id", webhook.as_deref()),
            ("kind", self.kind.as_deref()),
            ("entity", self.entity.as_deref()),
            ("event", self.event.as_deref()),
        ]);
        let all = node.list_all(&["dead-letters"], &filter).await?;
        if self.json {
            all.iter().try_for_each(|item| writeln!(out, "{item}"))?;
            return Ok(());
        }
        if all.is_empty() {
            writeln!(out, "there are no such dead letters")?;
            return Ok(());
        }
        let rows: Vec<_> = all.iter().map(list_row).collect();
        let heading = ["ID", "SUBSCRIBER", "REASON", "EVENT", "ENTITY", "DETAIL"];
        Ok(print_table(heading, &rows, out)?)
    }
}

fn list_row(letter: &Value) -> [String; 6] {
    let event = match &letter["range"]["count"] {
        Value::Null => cell_text(&letter["event"]),
        count => format!("{count} events"),
    };
    [
        cell_text(&letter["id"]),
        cell_text(&letter["subscriber"]),
        cell_text(&letter["reason"]),
        event,
        entity_text(&letter["entity"]),
        cell_text(&letter["detail"]),
    ]
}

impl ShowDeadLetterCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let id = self.id.to_string();
        let letter: Value = node.get(&["dead-letters", &id], &[]).await?;
        Ok(print_answer(&letter, self.json, out)?)
    }
}

impl RetryDeadLettersCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let job: Value = match &self.selection {
            DeadLetterSelection { id: Some(id), .. } => {
                let segments = ["dead-letters", &id.to_string(), "retry"];
                node.post(&segments, None).await?
            }
            selection => {
                let filter = match selection.webhook {
                    Some(webhook) => json!({"webhook_id": webhook}),
                    None => json!({}),
                };
                node.post(&["dead-letters", "retry"], Some(&filter)).await?
            }
        };
        if self.json {
            writeln!(out, "{job}")?;
            return Ok(());
        }
        let total = job["total"].as_u64().unwrap_or_default();
        let number = &job["id"];
        writeln!(
            out,
            "job {number} delivers {} again; GET /api/v1/jobs/{number} shows its progress",
            format_count(total, "event", "events"),
        )?;
        Ok(())
    }
}

impl DiscardDeadLettersCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let discarded = match &self.selection {
            DeadLetterSelection { id: Some(id), .. } => {
                let url = node.url(&["dead-letters", &id.to_string()], &[])?;
                node.call(Method::DELETE, url, None).await?;
                1
            }
            selection => {
                let webhook = selection.webhook.map(|id| id.to_string());
                let all = selection.all.then_some("true");
                let filter = given_filters([("webhook_id", webhook.as_deref()), ("all", all)]);
                let url = node.url(&["dead-letters"], &filter)?;
                let answer: Value = node
                    .read(node.call(Method::DELETE, url, None).await?)
                    .await?;
                answer["discarded"].as_u64().unwrap_or_default()
            }
        };
        match self.json {
            true => writeln!(out, "{}", json!({"discarded": discarded}))?,
            false => writeln!(
                out,
                "{} discarded",
                format_count(discarded, "dead letter", "dead letters")
            )?,
        }
        Ok(())
    }
}

//! `hookyard dead-letters`: deliveries of a running node that failed for good.

use std::io::Write;

use clap::ArgGroup;
use reqwest::Method;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::error::CliError;
use super::jobs::{WaitArgs, report_job};
use super::node_args::NodeArgs;
use super::plural::format_count;
use super::terminal_text::{cell_text, entity_text, print_answer, print_list};
use super::webhooks::parse_webhook_id;

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
    #[command(flatten)]
    filter: DeadLetterFilterArgs,
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
/// The node delivers them in a job, which the command names, or awaits with --wait.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard dead-letters retry 1\n  \
    hookyard dead-letters retry --event lead.created --wait\n  \
    hookyard dead-letters retry --all",
    group = selection_group()
)]
pub(super) struct RetryDeadLettersCommand {
    #[command(flatten)]
    selection: DeadLetterSelection,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Discard dead letters; this is final
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard dead-letters discard 1\n  \
    hookyard dead-letters discard --webhook 1 --reason expired",
    group = selection_group()
)]
pub(super) struct DiscardDeadLettersCommand {
    #[command(flatten)]
    selection: DeadLetterSelection,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Dead letters to act on: one, those that a filter selects, or all.
#[derive(clap::Args, Debug)]
struct DeadLetterSelection {
    /// Id of one dead letter
    #[arg(value_name = "ID", conflicts_with_all = FILTERS)]
    id: Option<u64>,
    #[command(flatten)]
    filter: DeadLetterFilterArgs,
    /// All dead letters of the node
    #[arg(long, conflicts_with_all = FILTERS, conflicts_with = "id")]
    all: bool,
}

/// Filter of dead letters, the same for the list and for what acts on many.
#[derive(clap::Args, Debug)]
struct DeadLetterFilterArgs {
    /// Only those of this subscription
    #[arg(long, value_name = "ID", value_parser = parse_webhook_id)]
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
    /// Only those with this reason: exhausted, too_old, refused, expression, expired or disabled
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only events received at this time or later, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events received before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Characters of an answer that the list shows; `dead-letters show` has more.
const ANSWER_SHOWN_CHARS: usize = 60;

/// Arguments of [`DeadLetterFilterArgs`], by the names of their members.
const FILTERS: [&str; 7] = [
    "webhook", "kind", "entity", "event", "reason", "since", "until",
];

/// Makes the group of arguments of which one must be given: without it, all would be meant.
fn selection_group() -> ArgGroup {
    let group = ArgGroup::new("selection").required(true).multiple(true);
    group.args(["id", "all"]).args(FILTERS)
}

impl DeadLetterFilterArgs {
    /// Returns the parameters of the API that are given, numbers as text.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let parameters = [
            ("webhook_id", self.webhook.map(|id| id.to_string())),
            ("kind", self.kind.clone()),
            ("entity", self.entity.clone()),
            ("event", self.event.clone()),
            ("reason", self.reason.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ];
        let given = parameters.into_iter();
        given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Returns the filter as the body of a request.
    fn body(&self) -> Value {
        let parameters = self.parameters().into_iter();
        let members = parameters.map(|(name, text)| {
            let value = self.webhook.filter(|_| name == "webhook_id");
            (
                name.to_owned(),
                value.map_or(Value::from(text), Value::from),
            )
        });
        Value::Object(members.collect())
    }
}

/// Borrows parameters as a query.
fn as_query<'a>(parameters: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    let pairs = parameters.iter();
    pairs.map(|(name, value)| (*name, value.as_str())).collect()
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
        let filter = self.filter.parameters();
        let all = node.list_all(&["dead-letters"], &as_query(&filter)).await?;
        let heading = [
            "ID",
            "SINCE",
            "SUBSCRIBER",
            "REASON",
            "EVENT",
            "ENTITY",
            "DETAIL",
            "ANSWER",
        ];
        let table = (heading, list_row);
        Ok(print_list(&all, self.json, "dead letters", table, out)?)
    }
}

fn list_row(letter: &Value) -> [String; 8] {
    let event = match &letter["range"]["count"] {
        Value::Null => cell_text(&letter["event"]),
        count => format!("{count} events"),
    };
    [
        cell_text(&letter["id"]),
        cell_text(&letter["at"]),
        cell_text(&letter["subscriber"]),
        cell_text(&letter["reason"]),
        event,
        entity_text(&letter["entity"]),
        cell_text(&letter["detail"]),
        shortened_answer(&letter["answer"]),
    ]
}

/// Returns the beginning of the target's answer, which says most of its reason.
fn shortened_answer(answer: &Value) -> String {
    let text = cell_text(answer);
    match text.char_indices().nth(ANSWER_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
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
                let filter = selection.filter.body();
                node.post(&["dead-letters", "retry"], Some(&filter)).await?
            }
        };
        report_job(&node, job, &self.wait, self.json, out).await
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
                let mut filter = selection.filter.parameters();
                filter.extend(selection.all.then(|| ("all", "true".to_owned())));
                let url = node.url(&["dead-letters"], &as_query(&filter))?;
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

//! `hookyard events tail` and `hookyard events show`: what a running node has accepted.

use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::admin_client::{AdminCallError, AdminClient, PAGE_SIZE, RemotePage, given_filters};
use super::error::CliError;
use super::node_args::NodeArgs;
use super::terminal_text::{cell_text, entity_text, print_answer, print_notice, sanitize_text};
use crate::error_chain;
use crate::event::EventId;

/// Pause between two questions for new events.
const POLL_PAUSE: Duration = Duration::from_secs(1);

/// Watch the events of a running node, or show one
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Examples:\n  hookyard events tail\n  hookyard events show evt_c31091b5_1")]
pub(super) enum EventsCommand {
    Tail(TailCommand),
    Show(ShowEventCommand),
}

/// Print the newest events, then each further one as it comes
///
/// The node is asked once a second. Each line has the time of arrival, the event's id and name, its
/// entity, and its status at that moment, with a mark if it has a warning. Ctrl-C ends the command.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard events tail --kind ticket --entity SUP-1042\n  \
    hookyard events tail --event lead.created --json\n  \
    hookyard events tail --warnings\n  \
    hookyard events tail --last 100 --no-follow"
)]
pub(super) struct TailCommand {
    /// Only events of this kind of entity, such as ticket or custom:shop
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only events of the entity with this id
    #[arg(long, value_name = "ID")]
    entity: Option<String>,
    /// Only events with this name, such as lead.created
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only events with a warning: a field was missing or odd, or the event does not fit its schema
    #[arg(long)]
    warnings: bool,
    /// Events to print at first, at most 100
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "10",
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    last: u8,
    /// End after these events, without waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Print JSON, one event per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Show one event: its status, its entity, and its payload as received
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard events show evt_c31091b5_1")]
pub(super) struct ShowEventCommand {
    /// Id of the event, as the answer to its sender has it
    #[arg(value_name = "ID")]
    id: String,
    /// Print the event as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// New events since the last question, oldest first, with the cursor for the next one.
#[derive(Deserialize)]
struct EventBatch {
    items: Vec<Value>,
    cursor: String,
    has_more: bool,
}

impl EventsCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        match self {
            Self::Tail(tail) => system.block_on(tail.run(out)),
            Self::Show(show) => system.block_on(show.run(out)),
        }
    }
}

impl ShowEventCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let event: Value = node.get(&["events", &self.id], &[]).await?;
        Ok(print_answer(&event, self.json, out)?)
    }
}

impl TailCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let cursor = find_end(&node).await?;
        let newest = self.fetch_newest(&node).await?;
        // Events between the two questions are printed now, and not again.
        let printed = newest.first().map(event_position).unwrap_or_default();
        let mut last: Vec<_> = newest.into_iter().take(self.last.into()).collect();
        last.reverse();
        self.print_events(&last, out)?;

        match self.no_follow {
            true => Ok(()),
            false => self.follow(&node, cursor, printed, out).await,
        }
    }

    /// Prints each event after `cursor` as it comes, and waits for a node that is away. Events up to the
    /// position `printed` were printed before.
    async fn follow(
        &self,
        node: &AdminClient,
        mut cursor: String,
        printed: u64,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let mut is_away = false;
        loop {
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing says when an event comes: the node is asked now and then"
            )]
            tokio::time::sleep(POLL_PAUSE).await;
            loop {
                let mut batch = match self.fetch_after(node, &cursor).await {
                    Ok(batch) => batch,
                    Err(error) if error.is_temporary() => {
                        if !is_away {
                            let reason = error_chain::format_error_chain(&error);
                            print_notice(&format!("waiting: {reason}"));
                        }
                        is_away = true;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
                is_away = false;
                cursor = batch.cursor;
                batch.items.retain(|event| event_position(event) > printed);
                self.print_events(&batch.items, out)?;
                if !batch.has_more {
                    break;
                }
            }
        }
    }

    /// Reads the events after `cursor`, oldest first.
    async fn fetch_after(
        &self,
        node: &AdminClient,
        cursor: &str,
    ) -> Result<EventBatch, AdminCallError> {
        let size = PAGE_SIZE.to_string();
        let place = [("after", cursor), ("page_size", size.as_str())];
        let query = [&self.filter()[..], &place].concat();
        let batch = node.get(&["events"], &query).await;
        batch.map_err(|error| error.map_detail(name_option))
    }

    async fn fetch_newest(&self, node: &AdminClient) -> Result<Vec<Value>, AdminCallError> {
        let page = node.list_page(&["events"], &self.filter(), 1).await;
        let page = page.map_err(|error| error.map_detail(name_option));
        Ok(page?.items)
    }

    fn filter(&self) -> Vec<(&str, &str)> {
        given_filters([
            ("kind", self.kind.as_deref()),
            ("entity", self.entity.as_deref()),
            ("type", self.event.as_deref()),
            ("has_warnings", self.warnings.then_some("true")),
        ])
    }

    fn print_events(&self, events: &[Value], out: &mut impl Write) -> io::Result<()> {
        for event in events {
            match self.json {
                true => writeln!(out, "{event}")?,
                false => writeln!(out, "{}", format_event(event))?,
            }
        }
        out.flush()
    }
}

/// Returns the cursor after the newest event of `node`.
async fn find_end(node: &AdminClient) -> Result<String, AdminCallError> {
    let newest: RemotePage = node.get(&["events"], &[("page_size", "1")]).await?;
    let id = newest
        .items
        .first()
        .and_then(|event| event["event_id"].as_str());
    Ok(id.unwrap_or("start").to_owned())
}

/// Puts the option of this command for the parameter with which the node's `detail` begins.
fn name_option(detail: String) -> String {
    let named = [
        ("type ", "--event "),
        ("kind ", "--kind "),
        ("entity ", "--entity "),
    ]
    .into_iter()
    .find_map(|(parameter, option)| Some((option, detail.strip_prefix(parameter)?)));
    named.map_or(detail.clone(), |(option, rest)| format!("{option}{rest}"))
}

/// Returns the position of an event in the journal, which its id holds; 0 for an id that is none.
fn event_position(event: &Value) -> u64 {
    let id = event["event_id"].as_str().and_then(EventId::parse);
    id.map_or(0, |id| id.position().get())
}

fn format_event(event: &Value) -> String {
    let error = match &event["error_message"] {
        Value::String(error) => format!(": {}", sanitize_text(error)),
        _ => String::new(),
    };
    let warning = match event["warnings"].as_array() {
        Some(warnings) if !warnings.is_empty() => ", with a warning",
        _ => "",
    };
    format!(
        "{}  {}  {:<24} {:<28} {}{warning}{error}",
        cell_text(&event["received_at"]),
        cell_text(&event["event_id"]),
        cell_text(&event["type"]),
        entity_text(&event["entity"]),
        cell_text(&event["status"]),
    )
}

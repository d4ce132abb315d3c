//! Deliveries of a subscription on the command line: what was attempted, and what is delivered again.

use std::io::Write;

use serde_json::{Map, Value};

use super::call_args::{CallArgs, parse_webhook_id};
use crate::cli::admin_client::{AdminClient, given_filters};
use crate::cli::error::CliError;
use crate::cli::jobs::{WaitArgs, report_job};
use crate::cli::terminal_text::{cell_text, entity_text, print_table};

/// Deliver the dead letters of a time range again
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  hookyard webhooks recover 1 --since 2026-03-01T00:00:00Z --wait"
)]
pub(in crate::cli) struct RecoverCommand {
    #[command(flatten)]
    range: RangeArgs,
}

/// Deliver all events of a time range again, those that were delivered too
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  hookyard webhooks replay 1 --since 2026-03-01T00:00:00Z --events 'ticket:*'"
)]
pub(in crate::cli) struct ReplayCommand {
    #[command(flatten)]
    range: RangeArgs,
    /// Patterns of the events to deliver again, separated by commas [default: all that it follows]
    #[arg(long, value_name = "EVENTS", value_delimiter = ',')]
    events: Vec<String>,
}

/// List the attempts of deliveries to a subscription, the newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks deliveries 1 --failed")]
pub(in crate::cli) struct DeliveriesCommand {
    /// Id of the subscription, as `webhooks list` shows it
    #[arg(value_name = "ID", value_parser = parse_webhook_id)]
    id: u64,
    /// Only attempts that were not answered with 2xx
    #[arg(long)]
    failed: bool,
    /// Attempts to print, at most 100
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "20",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    last: u8,
    #[command(flatten)]
    call: CallArgs,
}

/// Subscription and time range of a job.
#[derive(clap::Args, Debug)]
struct RangeArgs {
    /// Id of the subscription, as `webhooks list` shows it
    #[arg(value_name = "ID", value_parser = parse_webhook_id)]
    id: u64,
    /// Events received at this time or later, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Events received before this time, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    call: CallArgs,
}

impl RecoverCommand {
    pub(super) async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        self.range.start_job("recover", &[], out).await
    }
}

impl ReplayCommand {
    pub(super) async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        self.range.start_job("replay", &self.events, out).await
    }
}

impl RangeArgs {
    async fn start_job(
        &self,
        action: &str,
        events: &[String],
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let mut members = Map::new();
        members.insert("since".to_owned(), self.since.as_str().into());
        if let Some(until) = &self.until {
            members.insert("until".to_owned(), until.as_str().into());
        }
        if !events.is_empty() {
            members.insert("events".to_owned(), events.into());
        }
        let segments = ["webhooks", &self.id.to_string(), action];
        let job: Value = node.post(&segments, Some(&Value::Object(members))).await?;
        report_job(&node, job, &self.wait, self.call.json, out).await
    }
}

impl DeliveriesCommand {
    pub(super) async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let size = self.last.to_string();
        let query = given_filters([
            ("is_successful", self.failed.then_some("false")),
            ("page_size", Some(size.as_str())),
        ]);
        let segments = ["webhooks", &self.id.to_string(), "deliveries"];
        let page: Value = node.get(&segments, &query).await?;
        let attempts = page["items"].as_array().map_or(&[][..], Vec::as_slice);
        if self.call.json {
            attempts
                .iter()
                .try_for_each(|attempt| writeln!(out, "{attempt}"))?;
            return Ok(());
        }
        if attempts.is_empty() {
            writeln!(out, "there are no such attempts")?;
            return Ok(());
        }
        let rows: Vec<_> = attempts.iter().map(list_row).collect();
        let heading = ["AT", "EVENT", "ENTITY", "ATTEMPT", "STATUS", "CODE", "MS"];
        Ok(print_table(heading, &rows, out)?)
    }
}

fn list_row(attempt: &Value) -> [String; 7] {
    let cell = |name: &str| cell_text(&attempt[name]);
    [
        cell("at"),
        cell("event"),
        entity_text(&attempt["entity"]),
        cell("attempt"),
        cell("status"),
        cell("code"),
        cell("duration_ms"),
    ]
}

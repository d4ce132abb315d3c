//! `hookyard jobs`: the jobs of a running node that deliver again, and the wait for one of them.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::admin_client::{AdminClient, given_filters};
use super::error::CliError;
use super::node_args::NodeArgs;
use super::plural::format_count;
use super::terminal_text::{cell_text, print_answer, print_list, print_notice};
use super::webhooks::parse_webhook_id;
use crate::error_chain;

/// Pause between two questions for the progress of a job.
const POLL_PAUSE: Duration = Duration::from_millis(500);

/// See, await and cancel the jobs of a running node that deliver again
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  hookyard jobs list --state running\n  hookyard jobs show 1 --wait"
)]
pub(super) enum JobsCommand {
    List(ListJobsCommand),
    Show(ShowJobCommand),
    Cancel(CancelJobCommand),
}

/// List the jobs, the newest first, with their progress
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard jobs list --webhook 1")]
pub(super) struct ListJobsCommand {
    /// Only jobs of this subscription
    #[arg(long, value_name = "ID", value_parser = parse_webhook_id)]
    webhook: Option<u64>,
    /// Only jobs in this state
    #[arg(long, value_name = "STATE", value_parser = ["pending", "running", "completed", "cancelled"])]
    state: Option<String>,
    /// Print JSON, one job per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Show a job: its state, and how many deliveries succeeded
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard jobs show 1 --wait")]
pub(super) struct ShowJobCommand {
    /// Id of the job, as the command that started it printed it
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Cancel a job that is not over; what it has delivered stays delivered
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard jobs cancel 1")]
pub(super) struct CancelJobCommand {
    /// Id of the job, as `jobs list` shows it
    #[arg(value_name = "ID")]
    id: u64,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Argument of each command that starts or shows a job.
#[derive(clap::Args, Debug)]
pub(super) struct WaitArgs {
    /// Wait for the end of the job; the exit code is 1 if a delivery failed again or it was cancelled
    ///
    /// An event that needs no delivery any more, or that another job delivers, is skipped, which is no
    /// failure. While the node is away, the command waits for it.
    #[arg(long)]
    wait: bool,
}

impl JobsCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        system.block_on(async {
            match self {
                Self::List(list) => list.run(out).await,
                Self::Show(show) => show.run(out).await,
                Self::Cancel(cancel) => cancel.run(out).await,
            }
        })
    }
}

impl ListJobsCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let webhook = self.webhook.map(|id| id.to_string());
        let filter = given_filters([
            ("webhook_id", webhook.as_deref()),
            ("state", self.state.as_deref()),
        ]);
        let all = node.list_all(&["jobs"], &filter).await?;
        let heading = [
            "ID",
            "KIND",
            "STATE",
            "SUBSCRIBER",
            "DONE",
            "TOTAL",
            "FAILED",
        ];
        let table = (heading, list_row);
        Ok(print_list(&all, self.json, "jobs", table, out)?)
    }
}

fn list_row(job: &Value) -> [String; 7] {
    [
        "id",
        "kind",
        "state",
        "subscriber",
        "done",
        "total",
        "failed",
    ]
    .map(|name| cell_text(&job[name]))
}

impl ShowJobCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let job: Value = node.get(&["jobs", &self.id.to_string()], &[]).await?;
        match self.wait.wait {
            true => await_job(&node, job, self.json, out).await,
            false => Ok(print_answer(&job, self.json, out)?),
        }
    }
}

impl CancelJobCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let segments = ["jobs", &self.id.to_string(), "cancel"];
        let job: Value = node.post(&segments, None).await?;
        match self.json {
            true => writeln!(out, "{job}")?,
            false => writeln!(out, "job {}: {}", self.id, cell_text(&job["state"]))?,
        }
        Ok(())
    }
}

/// Prints that the node started `job`, and waits for its end if `wait` says so.
pub(super) async fn report_job(
    node: &AdminClient,
    job: Value,
    wait: &WaitArgs,
    is_json: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    if wait.wait {
        return await_job(node, job, is_json, out).await;
    }
    if is_json {
        writeln!(out, "{job}")?;
        return Ok(());
    }
    let what = match job["total"].as_u64() {
        Some(total) => format_count(total, "event", "events"),
        None => "the events".to_owned(),
    };
    let number = &job["id"];
    writeln!(
        out,
        "job {number} delivers {what} again; `hookyard jobs show {number} --wait` awaits its end"
    )?;
    Ok(())
}

/// Waits until `job` is over, also for a node that is away, and prints how it ended.
async fn await_job(
    node: &AdminClient,
    mut job: Value,
    is_json: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let id = job["id"].to_string();
    let mut is_away = false;
    while matches!(job["state"].as_str(), Some("pending" | "running")) {
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing says when a job is over: the node is asked now and then"
        )]
        tokio::time::sleep(POLL_PAUSE).await;
        match node.get(&["jobs", &id], &[]).await {
            Ok(now) => {
                is_away = false;
                job = now;
            }
            // The job goes on when the node has opened its store again.
            Err(error) if error.is_temporary() => {
                if !is_away {
                    let reason = error_chain::format_error_chain(&error);
                    print_notice(&format!("waiting: {reason}"));
                }
                is_away = true;
            }
            Err(error) => return Err(error.into()),
        }
    }

    let count = |name: &str| job[name].as_u64().unwrap_or_default();
    match is_json {
        true => writeln!(out, "{job}")?,
        false => writeln!(
            out,
            "job {id} {}: {} delivered, {} failed again, {} skipped",
            cell_text(&job["state"]),
            count("delivered"),
            count("failed"),
            count("skipped"),
        )?,
    }
    match job["state"] == "completed" && count("failed") == 0 {
        true => Ok(()),
        false => Err(CliError::JobUnfinished),
    }
}

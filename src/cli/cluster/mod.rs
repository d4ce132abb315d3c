//! `hookyard cluster`: the state of a cluster, and the way of a store into it.

mod error;

use std::future::Future;
use std::io::Write;

use serde_json::{Value, json};

pub(super) use self::error::ClusterCommandError;
use super::config_args::ConfigArgs;
use super::error::CliError;
use super::existing_store::check_store;
use super::logging;
use super::plural::format_count;
use super::terminal_text::{cell_text, print_list};
use crate::app;
use crate::cluster::{ClusterError, ClusterMember, ClusterState, Database, NodeReport};
use crate::config::{ClusterConfig, Config, ConfigPurpose};

/// See a cluster of several nodes, or bring the store of a node into one
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  hookyard cluster status --config hookyard.toml\n  hookyard cluster import --config hookyard.toml"
)]
pub(super) enum ClusterCommand {
    Status(ClusterStatusCommand),
    Import(ClusterImportCommand),
}

/// Show which node leads, and how far the others have copied the log
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard cluster status --config hookyard.toml")]
pub(super) struct ClusterStatusCommand {
    /// Print JSON, one node per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Copy the log of a stopped node into an empty cluster, so that the node can join it
///
/// The command can be repeated if it was interrupted: it goes on where it stopped. Start the node
/// afterwards with the same configuration; further nodes start with an empty data folder.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard cluster import --config hookyard.toml")]
pub(super) struct ClusterImportCommand {
    #[command(flatten)]
    config: ConfigArgs,
}

impl ClusterCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Self::Status(status) => status.run(out),
            Self::Import(import) => import.run(out),
        }
    }
}

impl ClusterStatusCommand {
    fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let config = self.config.load(ConfigPurpose::Tool)?.config;
        let cluster = require_cluster(&config)?;
        let database = Database::from_config(cluster).map_err(ClusterCommandError::Cluster)?;
        let mut member = ClusterMember::new(database, cluster);
        let (weakness, state, nodes) = run_async(async {
            let weakness = member.find_weakness().await?;
            Ok((
                weakness,
                member.read_state(None).await?,
                member.list_nodes().await?,
            ))
        })?;

        if !self.json {
            let server = weakness.map_or_else(
                || "keeps every acknowledged event".to_owned(),
                |weakness| format!("may lose acknowledged events: {weakness}"),
            );
            writeln!(out, "database  {server}")?;
            writeln!(
                out,
                "log       ends at position {}",
                state.end.position.get()
            )?;
            writeln!(out, "leader    {}\n", describe_leader(&state))?;
        }
        let nodes: Vec<Value> = nodes.iter().map(|node| to_row(node, &state)).collect();
        let heading = ["node", "address", "role", "seen", "behind"];
        let table = (heading, |node: &Value| {
            heading.map(|name| cell_text(&node[name]))
        });
        Ok(print_list(&nodes, self.json, "nodes", table, out)?)
    }
}

/// Age of the last report, in seconds, after which a node counts as away: a node reports each second.
const AWAY_AFTER_S: f64 = 5.0;

fn describe_leader(state: &ClusterState) -> String {
    match (state.leader.as_str(), state.is_lease_over) {
        ("", _) => "none yet".to_owned(),
        (leader, true) => format!(
            "none; the lease of {leader} is over (epoch {})",
            state.epoch
        ),
        (leader, false) => format!("{leader} at {} (epoch {})", state.advertise, state.epoch),
    }
}

fn to_row(node: &NodeReport, state: &ClusterState) -> Value {
    let is_leader = node.id == state.leader && !state.is_lease_over;
    // A leader has the whole log, and its word is its lease.
    let behind = match is_leader {
        true => 0,
        false => state
            .end
            .position
            .get()
            .saturating_sub(node.end.position.get()),
    };
    json!({
        "node": node.id,
        "address": node.advertise,
        "role": match (is_leader, node.age_s > AWAY_AFTER_S) {
            (true, _) => "leader",
            (false, true) => "away",
            (false, false) => "follower",
        },
        "seen": if is_leader { "now".to_owned() } else { format!("{:.1} s ago", node.age_s) },
        "behind": behind,
    })
}

impl ClusterImportCommand {
    fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let config = self.config.load(ConfigPurpose::Tool)?.config;
        let cluster = require_cluster(&config)?;
        check_store(&config.store.path)?;
        logging::start_logging(&config.telemetry)?;
        let imported = app::import_into_cluster(&config, cluster)?;
        let records = format_count(imported, "record", "records");
        writeln!(
            out,
            "imported {records}; start this node now, then the others with empty data folders"
        )?;
        Ok(())
    }
}

fn require_cluster(config: &Config) -> Result<&ClusterConfig, ClusterCommandError> {
    config
        .cluster
        .as_ref()
        .ok_or(ClusterCommandError::NoCluster)
}

fn run_async<T>(
    work: impl Future<Output = Result<T, ClusterError>>,
) -> Result<T, ClusterCommandError> {
    Ok(actix_rt::System::new().block_on(work)?)
}

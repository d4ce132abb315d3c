//! `hookyard audit`: the audit log of a running node.

use std::io::Write;

use serde_json::Value;

use super::admin_client::{AdminClient, given_filters};
use super::error::CliError;
use super::node_args::NodeArgs;
use super::terminal_text::{cell_text, print_table};

/// Entries of a call: the most that a node gives.
const PAGE_ENTRIES: usize = 500;

/// Read the audit log of a running node
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  hookyard audit list --who ana\n  hookyard audit list --json --all > audit.jsonl"
)]
pub(super) enum AuditCommand {
    List(ListAuditCommand),
}

/// List who did what, when, from where, and with which outcome, the newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard audit list --operation webhooks --object 7")]
pub(super) struct ListAuditCommand {
    /// Only calls with the token of this name
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only this operation, such as webhooks.pause, or all of an object, such as webhooks
    #[arg(long, value_name = "OPERATION")]
    operation: Option<String>,
    /// Only the object with this id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Only entries from this time on, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only entries before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Number of entries to print, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
    /// All entries that the node keeps
    #[arg(long, conflicts_with = "last")]
    all: bool,
    /// Print JSON, one entry per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl AuditCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        system.block_on(async {
            match self {
                Self::List(list) => list.run(out).await,
            }
        })
    }
}

impl ListAuditCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let wanted = if self.all { usize::MAX } else { self.last };
        let (mut entries, mut cursor) = (Vec::new(), None);
        while entries.len() < wanted {
            let page = self.read_page(&node, cursor.as_deref()).await?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            entries.extend(items);
            cursor = page["cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        entries.truncate(wanted);

        if self.json {
            entries
                .iter()
                .try_for_each(|entry| writeln!(out, "{entry}"))?;
            return Ok(());
        }
        if entries.is_empty() {
            writeln!(out, "there are no such entries")?;
            return Ok(());
        }
        let rows: Vec<_> = entries.iter().map(list_row).collect();
        let heading = [
            "AT",
            "WHO",
            "OPERATION",
            "OBJECT",
            "OUTCOME",
            "FROM",
            "REQUEST",
        ];
        Ok(print_table(heading, &rows, out)?)
    }

    async fn read_page(&self, node: &AdminClient, cursor: Option<&str>) -> Result<Value, CliError> {
        let limit = PAGE_ENTRIES.to_string();
        let query = given_filters([
            ("who", self.who.as_deref()),
            ("operation", self.operation.as_deref()),
            ("object", self.object.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("cursor", cursor),
            ("limit", Some(limit.as_str())),
        ]);
        Ok(node.get(&["audit"], &query).await?)
    }
}

fn list_row(entry: &Value) -> [String; 7] {
    [
        &entry["at"],
        &entry["who"],
        &entry["operation"],
        &entry["object"],
        &entry["outcome"],
        &entry["client_address"],
        &entry["request_id"],
    ]
    .map(cell_text)
}

//! Arguments that commands on a subscription take: its id, the node, and the form of the answer.

use crate::cli::node_args::NodeArgs;

/// Arguments of one call to a node.
#[derive(clap::Args, Debug)]
pub(super) struct CallArgs {
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

/// Parses the id of a subscription, also in the form in which lists of deliveries print it (`webhook:6`).
pub(in crate::cli) fn parse_webhook_id(text: &str) -> Result<u64, &'static str> {
    let number = text.strip_prefix("webhook:").unwrap_or(text);
    number
        .parse()
        .map_err(|_| "expected the number of a subscription, such as 6")
}

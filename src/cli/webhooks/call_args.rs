//! Arguments that each command on a subscription takes: the node, and the form of the answer.

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

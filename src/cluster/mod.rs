//! Cluster: several nodes that share one log in a PostgreSQL. One node leads and writes, the others
//! copy the log and take over when its lease ends.
//!
//! ```text
//!  leader     commit thread ──append: one statement, under its epoch──> PostgreSQL ──> own segments
//!                                                                          │
//!  followers  poll: state of the lease, and commits behind their own end <─┘  ──> own segments
//!
//!  lease over ──> one follower raises the epoch ──> copies the rest ──> opens its stages as the leader
//!                 the former leader's statements find another epoch and change nothing
//! ```
//!
//! Time serves liveness only: a lease that ends makes others take over. The epoch serves safety: no
//! statement of a former leader changes anything, however late it comes.

mod database;
mod error;
mod member;
mod postgres_log;
mod schema;

pub use database::Database;
pub use error::ClusterError;
pub use member::{ClusterMember, ClusterState, CommitMark, LeaderTerm, NodeReport, SharedCommit};
pub use postgres_log::PostgresLog;

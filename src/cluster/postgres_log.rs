//! Shared log in PostgreSQL, as the leader writes to it.
//!
//! ```text
//!  append ──one row──> taken
//!     │ ──no row───> fenced
//!     └─ error ──> connect, look: another epoch ──> fenced
//!           ^                     this commit is there ──> renew the lease ──> taken
//!           └── not yet <──────── not there ──> append again, until the lease ends
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use tracing::warn;

use super::database::{Database, describe_standbys, find_weakness};
use super::error::ClusterError;
use super::member::{LeaderTerm, RELEASE, RENEW, to_column, to_millis};
use super::schema::{from_columns, to_columns};
use crate::clock::Clock;
use crate::config::ClusterConfig;
use crate::journal::{LogCommit, LogPlace, SharedLog, SharedLogError};

/// Moves the end of the log and adds the commit, if this node leads and knows the end. Also renews the
/// lease.
const APPEND: &str = "
    WITH moved AS (
        UPDATE hookyard.cluster
        SET position = $5, change = $6,
            lease_until = clock_timestamp() + $7 * interval '1 millisecond'
        WHERE epoch = $1 AND position = $2 AND change = $3
        RETURNING epoch
    )
    INSERT INTO hookyard.commits (position, change, end_position, end_change, epoch, blocks)
    SELECT $2, $3, $5, $6, epoch, $4 FROM moved
    RETURNING current_setting('synchronous_standby_names')";

const LOOK: &str = "
    SELECT epoch, cluster.position, cluster.change,
           EXISTS (SELECT FROM hookyard.commits AS made
                   WHERE made.position = $1 AND made.change = $2 AND made.epoch = cluster.epoch
                     AND made.blocks = $3)
    FROM hookyard.cluster AS cluster";

/// Share of the lease that is left when it is renewed.
const RENEWAL_REST: f64 = 0.75;

/// Shortest time for an operation: the opening of a large store can outlast the lease, and the epoch tells
/// if another node has taken it meanwhile.
const TRY_MIN: Duration = Duration::from_secs(1);

/// Pause before the database is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Longest wait for the release of a lease, which is a courtesy to the other nodes.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Shared log under the term of this node.
pub struct PostgresLog {
    runtime: Runtime,
    writer: LeaderWriter,
}

impl PostgresLog {
    /// Prepares the log for the `term` of this node. Connects at the first use, which renews the lease.
    ///
    /// # Errors
    /// The error of setting up the runtime of its connection.
    pub fn new(
        database: Database,
        term: LeaderTerm,
        config: &ClusterConfig,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let writer = LeaderWriter {
            database,
            session: None,
            epoch: to_column(term.epoch).map_err(io::Error::other)?,
            end: term.end,
            lease: config.lease,
            allow_asynchronous: config.allow_asynchronous,
            clock,
            renewed_at: Duration::ZERO,
        };
        Ok(Self { runtime, writer })
    }
}

impl SharedLog for PostgresLog {
    fn end(&self) -> LogPlace {
        self.writer.end
    }

    fn append(&mut self, commit: &LogCommit) -> Result<(), SharedLogError> {
        let operation = LeaderOperation::Append(commit);
        self.runtime.block_on(self.writer.run_in_lease(operation))?;
        self.writer.end = commit.end();
        Ok(())
    }

    fn renew_lease(&mut self) -> Result<(), SharedLogError> {
        if self.writer.lease_rest() > self.writer.lease.mul_f64(RENEWAL_REST) {
            return Ok(());
        }
        let renewing = self.writer.run_in_lease(LeaderOperation::Renew);
        self.runtime.block_on(renewing)
    }

    fn release_lease(&mut self) {
        let writer = &mut self.writer;
        // The timer has to be made on the runtime.
        let releasing = async { timeout(RELEASE_TIMEOUT, writer.release()).await };
        let released = self.runtime.block_on(releasing);
        // Without the release the lease ends by itself.
        if !matches!(released, Ok(Ok(()))) {
            warn!("lease of the cluster not released; others wait for its end");
        }
    }
}

/// Statement of a leader that has to succeed within the lease.
#[derive(Clone, Copy)]
enum LeaderOperation<'c> {
    Append(&'c LogCommit),
    Renew,
}

/// State of an operation after a try.
enum OperationState {
    Done,
    /// Nothing has changed, and the node still leads.
    Open,
    /// The term is over: another node leads.
    Fenced,
}

/// Connection with the prepared statement of each commit.
struct LeaderSession {
    client: Client,
    append: Statement,
}

/// State of a leader, without the runtime that it runs on.
struct LeaderWriter {
    database: Database,
    session: Option<LeaderSession>,
    epoch: i64,
    end: LogPlace,
    lease: Duration,
    allow_asynchronous: bool,
    clock: Arc<dyn Clock>,
    /// Start of the last statement that renewed the lease, by the monotonic clock; zero before the first.
    renewed_at: Duration,
}

impl LeaderWriter {
    /// Returns the time until the lease ends, as far as this node knows.
    fn lease_rest(&self) -> Duration {
        (self.renewed_at + self.lease).saturating_sub(self.clock.monotonic())
    }

    /// Tries `operation` until it is done, another node leads, or the lease is over.
    async fn run_in_lease(&mut self, operation: LeaderOperation<'_>) -> Result<(), SharedLogError> {
        let rest = self.lease_rest().max(TRY_MIN);
        let mut last_error = None;
        let trying = async {
            let mut is_repeated = false;
            loop {
                let began = self.clock.monotonic();
                match self.try_operation(operation, is_repeated).await {
                    Ok(OperationState::Done) => {
                        self.renewed_at = began;
                        return Ok(());
                    }
                    Ok(OperationState::Fenced) => return Err(SharedLogError::Fenced),
                    Ok(OperationState::Open) => {}
                    Err(error) => {
                        // One line for an operation, not twenty a second.
                        if last_error.is_none() {
                            warn!(
                                error = &error as &dyn std::error::Error,
                                "the cluster's database failed; trying again within the lease"
                            );
                        }
                        self.session = None;
                        last_error = Some(error);
                    }
                }
                is_repeated = true;
                sleep_until(Instant::now() + RETRY_PAUSE).await;
            }
        };
        let tried = timeout(rest, trying).await;
        tried.unwrap_or_else(|_| {
            // A statement may be under way on the connection.
            self.session = None;
            let error = last_error.unwrap_or(ClusterError::Timeout(rest));
            Err(SharedLogError::Unavailable(Box::new(error)))
        })
    }

    /// Tries `operation` once. One that is repeated may have succeeded without its result arriving.
    async fn try_operation(
        &mut self,
        operation: LeaderOperation<'_>,
        is_repeated: bool,
    ) -> Result<OperationState, ClusterError> {
        let (epoch, lease) = (self.epoch, to_millis(self.lease));
        let session = match &self.session {
            Some(session) if !session.client.is_closed() => session,
            _ => {
                let client = self.database.connect().await?;
                let weakness = find_weakness(&client).await?;
                if let Some(weakness) = weakness.filter(|_| !self.allow_asynchronous) {
                    return Err(ClusterError::Unsafe(weakness));
                }
                let append = client.prepare(APPEND).await?;
                self.session.insert(LeaderSession { client, append })
            }
        };
        let client = &session.client;
        let allow_asynchronous = self.allow_asynchronous;
        let renew = async || renew(client, epoch, lease, allow_asynchronous).await;
        match operation {
            LeaderOperation::Renew => renew().await,
            LeaderOperation::Append(commit) => {
                if is_repeated {
                    match find_commit(client, epoch, commit).await? {
                        OperationState::Open => {}
                        OperationState::Done => return renew().await,
                        OperationState::Fenced => return Ok(OperationState::Fenced),
                    }
                }
                let ((position, change), (end_position, end_change)) =
                    (to_columns(commit.begin()), to_columns(commit.end()));
                let blocks = &commit.bytes()[..];
                let values: [&(dyn ToSql + Sync); 7] = [
                    &epoch,
                    &position,
                    &change,
                    &blocks,
                    &end_position,
                    &end_change,
                    &lease,
                ];
                match client.query_opt(&session.append, &values).await? {
                    // An earlier try can have had the row's lock until now. The next one looks for it.
                    None if is_repeated => Ok(OperationState::Open),
                    None => Ok(OperationState::Fenced),
                    Some(row) => judge_standbys(row.get(0), allow_asynchronous),
                }
            }
        }
    }

    async fn release(&mut self) -> Result<(), ClusterError> {
        if let Some(LeaderSession { client, .. }) = &self.session {
            client.execute(RELEASE, &[&self.epoch]).await?;
        }
        Ok(())
    }
}

/// Renews the lease. The answer also proves that all that this connection can see is on the synchronous
/// standby: a server that was killed shows commits after its restart which no standby has yet.
async fn renew(
    client: &Client,
    epoch: i64,
    lease: f64,
    allow_asynchronous: bool,
) -> Result<OperationState, ClusterError> {
    match client.query_opt(RENEW, &[&epoch, &lease]).await? {
        None => Ok(OperationState::Fenced),
        Some(row) => judge_standbys(row.get(0), allow_asynchronous),
    }
}

/// Takes a statement as done if a synchronous standby has it: what runs a database may give up its
/// standbys, to go on without them.
fn judge_standbys(names: &str, allow_asynchronous: bool) -> Result<OperationState, ClusterError> {
    match describe_standbys(names).filter(|_| !allow_asynchronous) {
        None => Ok(OperationState::Done),
        Some(weakness) => Err(ClusterError::Unsafe(weakness.to_owned())),
    }
}

/// Looks if `commit` is in the log already, or can still be appended under `epoch`.
async fn find_commit(
    client: &Client,
    epoch: i64,
    commit: &LogCommit,
) -> Result<OperationState, ClusterError> {
    let (position, change) = to_columns(commit.begin());
    let blocks = &commit.bytes()[..];
    let row = client
        .query_one(LOOK, &[&position, &change, &blocks])
        .await?;
    let (found, is_there): (i64, bool) = (row.get(0), row.get(3));
    let end = from_columns(row.get(1), row.get(2))?;
    Ok(match found == epoch {
        true if is_there => OperationState::Done,
        true if end == commit.begin() => OperationState::Open,
        true | false => OperationState::Fenced,
    })
}

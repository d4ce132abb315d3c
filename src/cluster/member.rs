//! Node of a cluster that does not lead: it watches the lease, copies the log, and takes over.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use tracing::{debug, warn};

use super::database::{Database, OPERATION_TIMEOUT, find_weakness, in_time};
use super::error::ClusterError;
use super::schema::{from_columns, prepare_schema, to_columns};
use crate::config::ClusterConfig;
use crate::journal::{LogCommit, LogPlace};

/// Most commits that are read at once.
const COMMITS_MAX: i64 = 256;
/// Bytes after which no further commit is read at once.
const COMMITS_BYTES: i64 = 1024 * 1024;

/// Name of the leader while a log is imported. No node takes the lead then.
const IMPORT: &str = "hookyard cluster import";

/// A lease that ends far in the future is one that a server with a wrong clock has given.
const STATE: &str = "
    SELECT epoch, leader, advertise,
           lease_until < clock_timestamp()
               OR (lease_until <> 'infinity'
                   AND lease_until > clock_timestamp() + $4 * interval '2 milliseconds'),
           position, change,
           EXISTS (SELECT FROM hookyard.commits AS copied
                   WHERE copied.position = $1 AND copied.change = $2 AND copied.epoch = $3)
    FROM hookyard.cluster";

const COMMITS: &str = "
    SELECT position, change, end_position, end_change, blocks, epoch
    FROM (
        SELECT *, sum(octet_length(blocks)) OVER (ORDER BY position, change) AS total
        FROM hookyard.commits
        WHERE (position, change) >= ($1, $2)
        ORDER BY position, change
        LIMIT $3
    ) AS next
    WHERE total - octet_length(blocks) < $4
    ORDER BY position, change";

/// The last commit before a place, and the last one before it that has records: the former can be the
/// closing of a log, which is alike in all.
const COMMITS_BEFORE: &str = "
    (SELECT position, change, end_position, end_change, blocks, epoch
     FROM hookyard.commits
     WHERE (position, change) < ($1, $2)
     ORDER BY position DESC, change DESC
     LIMIT 1)
    UNION ALL
    (SELECT position, change, end_position, end_change, blocks, epoch
     FROM hookyard.commits
     WHERE position < $1 AND end_position > position
     ORDER BY position DESC, change DESC
     LIMIT 1)";

/// Takes the lease if it is over. The row's lock lets one of several nodes win.
const TAKE_LEASE: &str = "
    UPDATE hookyard.cluster
    SET epoch = epoch + 1, leader = $1, advertise = $2,
        lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE lease_until < clock_timestamp()
        OR (lease_until <> 'infinity'
            AND lease_until > clock_timestamp() + $3 * interval '2 milliseconds')
    RETURNING epoch, position, change";

/// Takes the lead for an import, without end, or takes up one that was interrupted.
const BEGIN_IMPORT: &str = "
    UPDATE hookyard.cluster
    SET epoch = epoch + 1, leader = $1, advertise = '', lease_until = 'infinity'
    WHERE lease_until < clock_timestamp() OR leader = $1
    RETURNING epoch, position, change";

/// Moves the end of the log under the epoch of an import.
const MOVE_END: &str = "
    UPDATE hookyard.cluster SET position = $3, change = $4
    WHERE position = $1 AND change = $2 AND epoch = $5";

const ADD_COMMIT: &str = "
    INSERT INTO hookyard.commits (position, change, end_position, end_change, epoch, blocks)
    VALUES ($1, $2, $3, $4, $5, $6)";

pub(super) const RENEW: &str = "
    UPDATE hookyard.cluster
    SET lease_until = clock_timestamp() + $2 * interval '1 millisecond'
    WHERE epoch = $1
    RETURNING current_setting('synchronous_standby_names')";

pub(super) const RELEASE: &str = "
    UPDATE hookyard.cluster SET lease_until = '-infinity' WHERE epoch = $1";

const REPORT: &str = "
    INSERT INTO hookyard.nodes (id, advertise, seen_at, position, change)
    VALUES ($1, $2, clock_timestamp(), $3, $4)
    ON CONFLICT (id) DO UPDATE
    SET advertise = $2, seen_at = clock_timestamp(), position = $3, change = $4";

const NODES: &str = "
    SELECT id, advertise, extract(epoch FROM clock_timestamp() - seen_at)::float8, position, change
    FROM hookyard.nodes ORDER BY id";

/// State of the cluster, as its database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// Number of the term of the current leader; 0 before the first.
    pub epoch: u64,
    /// Id of the node that leads, or led last; empty before the first.
    pub leader: String,
    /// URL at which other nodes reach that node.
    pub advertise: String,
    /// True if the lease of that node is over.
    pub is_lease_over: bool,
    /// Place after the last commit of the log.
    pub end: LogPlace,
    /// True if the log has the commit that was asked for.
    pub has_commit: bool,
}

/// Commit of the log, with the epoch of the leader that wrote it. Place and epoch identify it: one node
/// writes in an epoch, and never twice at a place.
#[derive(Clone, Debug)]
pub struct SharedCommit {
    /// Blocks of the commit, with their place.
    pub commit: LogCommit,
    /// Term of the leader that appended the commit.
    pub epoch: u64,
}

impl SharedCommit {
    /// Returns what identifies the commit.
    #[must_use]
    pub const fn mark(&self) -> CommitMark {
        CommitMark {
            begin: self.commit.begin(),
            epoch: self.epoch,
        }
    }
}

/// Place and epoch of a commit, which identify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitMark {
    begin: LogPlace,
    epoch: u64,
}

/// Last report of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// Id of the node that reported.
    pub id: String,
    /// URL at which other nodes reach it.
    pub advertise: String,
    /// Seconds since the node reported last.
    pub age_s: f64,
    /// End of its copy of the log.
    pub end: LogPlace,
}

/// Term of a leader: the epoch under which its statements are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderTerm {
    /// Number of the term; each is greater than the one before it.
    pub epoch: u64,
    /// End of the log when the term began.
    pub end: LogPlace,
}

/// Connection of one node to the cluster. After an error of the database it connects anew.
pub struct ClusterMember {
    database: Database,
    client: Option<Client>,
    node_id: String,
    advertise: String,
    lease: Duration,
    allow_asynchronous: bool,
    /// Highest epoch that this node has seen.
    newest_epoch: u64,
}

impl ClusterMember {
    /// Prepares a member; connects at the first use.
    #[must_use]
    pub fn new(database: Database, config: &ClusterConfig) -> Self {
        Self {
            database,
            client: None,
            node_id: config.node_id.clone(),
            advertise: config.advertise.clone(),
            lease: config.lease,
            allow_asynchronous: config.allow_asynchronous,
            newest_epoch: 0,
        }
    }

    /// Checks the server and makes the tables if they are absent, with `identity` as that of the
    /// cluster's store. Returns the identity that the cluster has.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails, may lose commits, or holds a later schema.
    pub async fn join(&mut self, identity: &str) -> Result<String, ClusterError> {
        let allow_asynchronous = self.allow_asynchronous;
        self.run(async |client| {
            if let Some(weakness) = find_weakness(client).await? {
                if !allow_asynchronous {
                    return Err(ClusterError::Unsafe(weakness));
                }
                warn!(
                    weakness,
                    "the cluster's database may lose acknowledged events"
                );
            }
            prepare_schema(client, identity).await
        })
        .await
    }

    /// Describes the settings of the server with which it may lose an acknowledged commit; `None` if
    /// there are none.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails.
    pub async fn find_weakness(&mut self) -> Result<Option<String>, ClusterError> {
        self.run(async |client| find_weakness(client).await).await
    }

    /// Takes the lead for an import, or takes up one that was interrupted.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails, or a node leads.
    pub async fn begin_import(&mut self) -> Result<LeaderTerm, ClusterError> {
        self.run(async |client| {
            let row = client.query_opt(BEGIN_IMPORT, &[&IMPORT]).await?;
            let row = row.ok_or(ClusterError::Occupied)?;
            to_term(&row)
        })
        .await
    }

    /// Gives the lead of an import back, so that a node can lead.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails.
    pub async fn end_import(&mut self, term: LeaderTerm) -> Result<(), ClusterError> {
        self.run(async |client| {
            let epoch = to_column(term.epoch)?;
            client.execute(RELEASE, &[&epoch]).await?;
            Ok(())
        })
        .await
    }

    /// Adds `commits` to the log in the `term` of an import. They must continue each other.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails, or the log does not end where they begin.
    pub async fn import_commits(
        &mut self,
        term: LeaderTerm,
        commits: &[LogCommit],
    ) -> Result<(), ClusterError> {
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else {
            return Ok(());
        };
        let ((position, change), (end_position, end_change)) =
            (to_columns(first.begin()), to_columns(last.end()));
        self.run(async |client| {
            let epoch = to_column(term.epoch)?;
            let add = client.prepare(ADD_COMMIT).await?;
            let transaction = client.transaction().await?;
            let place: [&(dyn ToSql + Sync); 5] =
                [&position, &change, &end_position, &end_change, &epoch];
            let moved = transaction.execute(MOVE_END, &place).await?;
            if moved == 0 {
                return Err(ClusterError::Occupied);
            }
            for commit in commits {
                let (position, change) = to_columns(commit.begin());
                let (end_position, end_change) = to_columns(commit.end());
                let blocks = &commit.bytes()[..];
                let row: [&(dyn ToSql + Sync); 6] = [
                    &position,
                    &change,
                    &end_position,
                    &end_change,
                    &epoch,
                    &blocks,
                ];
                transaction.execute(&add, &row).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Reads the state of the cluster, and looks if its log has the commit `mark`.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails, or is one that was the primary before.
    pub async fn read_state(
        &mut self,
        mark: Option<CommitMark>,
    ) -> Result<ClusterState, ClusterError> {
        let lease = to_millis(self.lease);
        let state = self
            .run(async |client| {
                let (position, change) = mark.map_or((0, 0), |mark| to_columns(mark.begin));
                let epoch = mark.map_or(Ok(-1), |mark| to_column(mark.epoch))?;
                let row = client
                    .query_one(STATE, &[&position, &change, &epoch, &lease])
                    .await?;
                Ok(ClusterState {
                    epoch: to_epoch(row.get(0))?,
                    leader: row.get(1),
                    advertise: row.get(2),
                    is_lease_over: row.get(3),
                    end: from_columns(row.get(4), row.get(5))?,
                    has_commit: row.get(6),
                })
            })
            .await?;
        if state.epoch < self.newest_epoch {
            self.client = None;
            self.database.avoid_last();
            return Err(ClusterError::Outdated);
        }
        self.newest_epoch = state.epoch;
        Ok(state)
    }

    /// Reads the commits from `place` on, as many as are read at once; none at the end of the log.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails.
    pub async fn read_commits(
        &mut self,
        place: LogPlace,
    ) -> Result<Vec<SharedCommit>, ClusterError> {
        self.run(async |client| {
            let (position, change) = to_columns(place);
            let bounds: [&(dyn ToSql + Sync); 4] =
                [&position, &change, &COMMITS_MAX, &COMMITS_BYTES];
            let rows = client.query(COMMITS, &bounds).await?;
            rows.iter().map(to_commit).collect()
        })
        .await
    }

    /// Reads the last commit before `place`, then the last one before it that has records, if there are
    /// any.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails.
    pub async fn read_commits_before(
        &mut self,
        place: LogPlace,
    ) -> Result<Vec<SharedCommit>, ClusterError> {
        self.run(async |client| {
            let (position, change) = to_columns(place);
            let rows = client.query(COMMITS_BEFORE, &[&position, &change]).await?;
            rows.iter().map(to_commit).collect()
        })
        .await
    }

    /// Takes the lease if it is over; `None` if another node has it.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails. The lease may have been taken all the same; it ends
    /// by itself.
    pub async fn take_lease(&mut self) -> Result<Option<LeaderTerm>, ClusterError> {
        let (node_id, advertise) = (self.node_id.clone(), self.advertise.clone());
        let lease = to_millis(self.lease);
        self.run(async |client| {
            let row = client
                .query_opt(TAKE_LEASE, &[&node_id, &advertise, &lease])
                .await?;
            row.as_ref().map(to_term).transpose()
        })
        .await
    }

    /// Renews the lease of `term` for as long as the future runs: while the node opens its stages, which
    /// may take longer than the lease. Failures are left to the stages, which find out by themselves.
    pub async fn keep_lease(&mut self, term: LeaderTerm) -> Infallible {
        let lease = to_millis(self.lease);
        loop {
            let renewed = self
                .run(async |client| {
                    let epoch = to_column(term.epoch)?;
                    Ok(client.execute(RENEW, &[&epoch, &lease]).await?)
                })
                .await;
            if let Err(error) = renewed {
                debug!(%error, "lease of the cluster not renewed");
            }
            sleep_until(Instant::now() + self.lease / 4).await;
        }
    }

    /// Reports that this node lives and has the log up to `end`.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails.
    pub async fn report(&mut self, end: LogPlace) -> Result<(), ClusterError> {
        let (node_id, advertise) = (self.node_id.clone(), self.advertise.clone());
        self.run(async |client| {
            let (position, change) = to_columns(end);
            client
                .execute(REPORT, &[&node_id, &advertise, &position, &change])
                .await?;
            Ok(())
        })
        .await
    }

    /// Reads the last report of each node.
    ///
    /// # Errors
    /// [`ClusterError`] when the database fails.
    pub async fn list_nodes(&mut self) -> Result<Vec<NodeReport>, ClusterError> {
        self.run(async |client| {
            let rows = client.query(NODES, &[]).await?;
            let reports = rows.iter().map(|row| {
                Ok(NodeReport {
                    id: row.get(0),
                    advertise: row.get(1),
                    age_s: row.get(2),
                    end: from_columns(row.get(3), row.get(4))?,
                })
            });
            reports.collect()
        })
        .await
    }

    /// Runs `operation` on the connection, after connecting if there is none. The connection is dropped
    /// after an error: its state is unknown.
    async fn run<T>(
        &mut self,
        operation: impl AsyncFnOnce(&mut Client) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let mut client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.database.connect().await?,
        };
        let result = in_time(OPERATION_TIMEOUT, operation(&mut client)).await?;
        self.client = Some(client);
        Ok(result)
    }
}

fn to_commit(row: &Row) -> Result<SharedCommit, ClusterError> {
    let begin = from_columns(row.get(0), row.get(1))?;
    let end = from_columns(row.get(2), row.get(3))?;
    let blocks: &[u8] = row.get(4);
    Ok(SharedCommit {
        commit: LogCommit::from_bytes(begin, end, Bytes::copy_from_slice(blocks)),
        epoch: to_epoch(row.get(5))?,
    })
}

fn to_term(row: &Row) -> Result<LeaderTerm, ClusterError> {
    Ok(LeaderTerm {
        epoch: to_epoch(row.get(0))?,
        end: from_columns(row.get(1), row.get(2))?,
    })
}

/// Returns `epoch` as the column of this name.
pub(super) fn to_column(epoch: u64) -> Result<i64, ClusterError> {
    i64::try_from(epoch).map_err(|_| ClusterError::Malformed("epoch"))
}

fn to_epoch(column: i64) -> Result<u64, ClusterError> {
    u64::try_from(column).map_err(|_| ClusterError::Malformed("epoch"))
}

/// Returns `time` in milliseconds, as PostgreSQL multiplies an interval with.
pub(super) fn to_millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

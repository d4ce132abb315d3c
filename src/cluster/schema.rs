//! Tables of the cluster in PostgreSQL, and their version.
//!
//! ```text
//! hookyard.cluster   one row: schema version, identity of the store, and of the leader its epoch, id,
//!                    address and end of lease; the end of the log (position, change)
//! hookyard.commits   one row for each commit: place, place after it, epoch, blocks
//! hookyard.nodes     one row for each node that was ever seen: address, time, end of its copy
//! ```

use tokio_postgres::Client;

use super::error::ClusterError;
use crate::journal::LogPlace;

/// Version of the tables that this program makes, and the newest that it uses.
const VERSION: i32 = 1;

/// Number of the lock under which one node at a time makes the tables: "hookyard" as ASCII.
const SCHEMA_LOCK: i64 = 0x686f_6f6b_7961_7264;

/// A commit's blocks are compressed already, so PostgreSQL need not try. The row of the cluster changes
/// with each commit: half of its page stays free, so that a change touches no index.
const TABLES: &str = "
    CREATE SCHEMA hookyard;
    CREATE TABLE hookyard.cluster (
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        schema_version integer NOT NULL,
        identity text NOT NULL,
        epoch bigint NOT NULL,
        leader text NOT NULL,
        advertise text NOT NULL,
        lease_until timestamptz NOT NULL,
        position bigint NOT NULL,
        change bigint NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE hookyard.commits (
        position bigint NOT NULL,
        change bigint NOT NULL,
        end_position bigint NOT NULL,
        end_change bigint NOT NULL,
        epoch bigint NOT NULL,
        blocks bytea NOT NULL,
        PRIMARY KEY (position, change)
    );
    ALTER TABLE hookyard.commits ALTER COLUMN blocks SET STORAGE EXTERNAL;
    CREATE TABLE hookyard.nodes (
        id text PRIMARY KEY,
        advertise text NOT NULL,
        seen_at timestamptz NOT NULL,
        position bigint NOT NULL,
        change bigint NOT NULL
    );";

/// Makes the tables if they are absent, with `identity` as that of the cluster's store, and checks their
/// version. Returns the identity that the cluster has.
///
/// # Errors
/// [`ClusterError`] when the database fails or holds a later schema.
pub(super) async fn prepare_schema(
    client: &mut Client,
    identity: &str,
) -> Result<String, ClusterError> {
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK])
        .await?;
    let exists: bool = transaction
        .query_one("SELECT to_regclass('hookyard.cluster') IS NOT NULL", &[])
        .await?
        .get(0);
    if !exists {
        transaction.batch_execute(TABLES).await?;
        let (position, change) = to_columns(LogPlace::START);
        transaction
            .execute(
                "INSERT INTO hookyard.cluster (schema_version, identity, epoch, leader, advertise, \
                 lease_until, position, change) VALUES ($1, $2, 0, '', '', '-infinity', $3, $4)",
                &[&VERSION, &identity, &position, &change],
            )
            .await?;
    }
    let row = transaction
        .query_one("SELECT schema_version, identity FROM hookyard.cluster", &[])
        .await?;
    let found: i32 = row.get(0);
    if found > VERSION {
        return Err(ClusterError::Newer {
            found,
            supported: VERSION,
        });
    }
    let identity = row.get(1);
    transaction.commit().await?;
    Ok(identity)
}

/// Returns `place` as the columns `position` and `change`.
pub(super) fn to_columns(place: LogPlace) -> (i64, i64) {
    let column = |number: u64| i64::try_from(number).expect("a log is shorter than 2^63 records");
    (column(place.position.get()), column(place.change))
}

/// Returns the place in the columns `position` and `change`.
///
/// # Errors
/// [`ClusterError::Malformed`] for a negative number.
pub(super) fn from_columns(position: i64, change: i64) -> Result<LogPlace, ClusterError> {
    let number = |column: i64| u64::try_from(column).map_err(|_| ClusterError::Malformed("place"));
    Ok(LogPlace {
        position: crate::event::Position::new(number(position)?),
        change: number(change)?,
    })
}

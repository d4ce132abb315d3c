//! Expiry of deliveries whose records are about to be removed from the journal: they are counted, and
//! the lanes go on with the first record behind them.

use super::delivery::{LaneKey, LaneRow};
use super::missed_records::MissedRecords;
use crate::event::Position;
use crate::projection::{ProjectionReadError, ProjectionReader};

/// Deliveries of one subscriber that expired, and the state without them.
#[derive(Debug)]
pub(super) struct ExpiredDeliveries {
    /// Records of the expired deliveries.
    pub(super) missed: MissedRecords,
    /// Position from which the subscriber reads on.
    pub(super) cursor: Position,
    /// Lanes that had expired records, each with its new row if it needs one.
    pub(super) lanes: Vec<(LaneKey, Option<LaneRow>)>,
}

/// Returns the lanes among `rows` with records before `position`, each with the row from which it
/// goes on. The reader of the subscriber goes on at `cursor`, and needs no row behind that.
pub(super) async fn move_lanes(
    reads: &ProjectionReader,
    rows: Vec<LaneRow>,
    position: Position,
    cursor: Position,
) -> Result<Vec<(LaneKey, Option<LaneRow>)>, ProjectionReadError> {
    let mut moved = Vec::new();
    for row in rows.into_iter().filter(|row| row.position < position) {
        let LaneKey::Entity(entity) = &row.key else {
            moved.push((row.key, None));
            continue;
        };
        let (sequence, found) = reads.first_record_from(entity, position).await?;

        // A halted lane keeps its row, which halts the records of the reader too.
        let at = found.filter(|at| *at < cursor);
        let new_row = (row.is_halted || at.is_some()).then(|| LaneRow {
            key: row.key.clone(),
            entity: None,
            position: at.unwrap_or(cursor),
            sequence,
            attempts: 0,
            counted_time: std::time::Duration::ZERO,
            wait: std::time::Duration::ZERO,
            is_halted: row.is_halted,
            last_failure: None,
        });
        moved.push((row.key, new_row));
    }
    Ok(moved)
}

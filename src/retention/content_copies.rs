//! Copies of content in the rows of tables: kept records, and what dead letters quote of their events.

use bytes::Bytes;

use super::deps::RetentionDeps;
use super::error::RetentionError;
use super::expired_content::ExpiredContentFilter;
use crate::event::Position;
use crate::journal::ContentFilter;
use crate::table_store::KeptRecordTable;

/// Copies in tables of content that is removed.
pub(super) struct CopiesInTables {
    /// Dead letters that can quote it.
    quoting: Vec<u64>,
}

impl CopiesInTables {
    /// Finds the copies of what `filter` removes; `None` if there are none.
    ///
    /// # Errors
    /// [`RetentionError`] when the tables cannot be read.
    pub(super) fn find(
        deps: &RetentionDeps,
        filter: &ExpiredContentFilter,
    ) -> Result<Option<Self>, RetentionError> {
        if filter.cuts.end() == Position::FIRST {
            return Ok(None);
        }
        let is_expired = |position| filter.is_expired(position);
        let quoting = deps.owed.find_quoting(&is_expired)?;
        let kept = KeptRecordTable::new(&deps.tables);
        let has_copies = !quoting.is_empty() || kept.any_replaced(&replacement_by(filter))?;
        Ok(has_copies.then_some(Self { quoting }))
    }

    /// Removes the copies from the live rows. Returns once that is on the disk.
    ///
    /// # Errors
    /// [`RetentionError`] when the tables cannot be written.
    pub(super) fn remove(
        &self,
        deps: &RetentionDeps,
        filter: &ExpiredContentFilter,
    ) -> Result<(), RetentionError> {
        KeptRecordTable::new(&deps.tables).replace_records(&replacement_by(filter))?;
        Ok(deps.owed.expire_quotes(&self.quoting)?)
    }
}

fn replacement_by(
    filter: &ExpiredContentFilter,
) -> impl Fn(Position, &Bytes) -> Option<Bytes> + '_ {
    |position, record| filter.replace_record(position, record)
}

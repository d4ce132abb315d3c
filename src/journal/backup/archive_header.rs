//! First and last chunks of an archive: the store that it is of, the range that it holds, and its
//! totals.
//!
//! ```text
//! range   kind u8: 0 full, 1 increment | created at i64 µs | first place | end place
//! place   position u64 | number of a group of table changes u64
//! totals  chunks before this one u64 | records u64 | groups of table changes u64
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::event::{IncarnationHistory, Position, Timestamp};
use crate::journal::log_place::LogPlace;
use crate::journal::store_identity::StoreIdentity;

/// Store and range of an archive, which stand at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveHeader {
    pub(super) identity: StoreIdentity,
    /// `true` for an archive that needs no other; `false` for an increment.
    pub is_full: bool,
    /// Time at which the backup began.
    pub created_at: Timestamp,
    /// Place in the log from which on the archive holds everything.
    pub first: LogPlace,
    /// Place in the log at which the archive ends.
    pub end: LogPlace,
}

impl ArchiveHeader {
    /// Returns the incarnations of the store.
    #[must_use]
    pub fn incarnations(&self) -> &IncarnationHistory {
        &self.identity.incarnations
    }

    /// Returns `true` if an archive with the header `later` is of the same store, or of one that
    /// was restored from this archive or a later one.
    #[must_use]
    pub fn is_continued_by(&self, later: &Self) -> bool {
        self.incarnations()
            .is_continued_by(later.incarnations(), self.end.position)
    }

    pub(super) fn encode_range(&self) -> Vec<u8> {
        let mut out = vec![u8::from(!self.is_full)];
        out.put_i64(self.created_at.as_micros());
        for place in [self.first, self.end] {
            out.put_u64(place.position.get());
            out.put_u64(place.change);
        }
        out
    }

    /// Decodes a range; `None` if it is malformed.
    pub(super) fn decode(identity: StoreIdentity, mut range: Bytes) -> Option<Self> {
        let kind = range.try_get_u8().ok().filter(|kind| *kind <= 1)?;
        let created_at = Timestamp::from_micros(range.try_get_i64().ok()?);
        let mut place = || {
            Some(LogPlace {
                position: Position::new(range.try_get_u64().ok()?),
                change: range.try_get_u64().ok()?,
            })
        };
        let (first, end) = (place()?, place()?);
        (range.is_empty() && first.is_reached_by(&end)).then_some(Self {
            identity,
            is_full: kind == 0,
            created_at,
            first,
            end,
        })
    }
}

/// Content of an archive in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// Number of records, one for each event.
    pub records: u64,
    /// Number of groups of changes to the node's own tables.
    pub changes: u64,
}

impl ArchiveSummary {
    pub(super) fn encode(&self, chunks: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [chunks, self.records, self.changes] {
            out.put_u64(number);
        }
        out
    }

    /// Decodes the totals behind `chunks` other chunks; `None` if they are malformed.
    pub(super) fn decode(chunks: u64, mut totals: Bytes) -> Option<Self> {
        let found = totals.try_get_u64().ok()?;
        let (records, changes) = (totals.try_get_u64().ok()?, totals.try_get_u64().ok()?);
        (found == chunks && totals.is_empty()).then_some(Self { records, changes })
    }
}

//! Filter that takes the content out of records that are older than their source keeps content, and
//! their copies out of the changes of tables.

use std::sync::Arc;

use bytes::Bytes;

use super::content_cuts::ContentCuts;
use crate::enrichment;
use crate::entity::c2s_lead;
use crate::event::{EntityKey, Position, Record, Timestamp};
use crate::journal::{ChangeVerdict, ContentFilter, Journal, JournalReadError, TableChange};
use crate::subscriber;
use crate::table_store::{self, JournaledTableId};

/// Filter of the records before some cuts.
pub(super) struct ExpiredContentFilter {
    pub(super) cuts: ContentCuts,
    /// Time of the removal, which readers are told.
    pub(super) removed_at: Timestamp,
    /// Journal with the records or their outlines, which name the sources of dead letters.
    pub(super) journal: Arc<dyn Journal>,
}

impl ExpiredContentFilter {
    /// Returns `true` if the content of the record at `position` goes, or the record is removed.
    pub(super) fn is_expired(&self, position: Position) -> bool {
        if position >= self.cuts.end() {
            return false;
        }
        match self.journal.read_frame_at(position) {
            Ok(frame) => {
                let entry = frame.as_ref().and_then(|frame| frame.entry(position));
                // A record that cannot be read is reported by whoever reads it.
                let record = entry.and_then(|entry| Record::decode(&entry.bytes).ok());
                record.is_some_and(|record| self.cuts.contain(&record.source, position))
            }
            // A dead letter keeps its record, so this one has been discarded or delivered.
            Err(JournalReadError::Removed { .. }) => true,
            Err(_) => false,
        }
    }
}

impl ContentFilter for ExpiredContentFilter {
    fn replace_record(&self, position: Position, record: &Bytes) -> Option<Bytes> {
        if position >= self.cuts.end() {
            return None;
        }
        // A record that cannot be read is reported by whoever reads it.
        let record = Record::decode(record).ok()?;
        let is_expired = record.erasure.is_none() && self.cuts.contain(&record.source, position);
        is_expired.then(|| record.into_expired(self.removed_at).encode().into())
    }

    /// Hides nothing: nobody reads through this filter, since the segments are rewritten at once.
    fn hides_record(&self, _: Position, _: &EntityKey) -> bool {
        false
    }

    fn judge_change(&self, table: u8, change: &TableChange) -> ChangeVerdict {
        let TableChange::Put { key, value } = change else {
            return ChangeVerdict::Keep;
        };
        if table == JournaledTableId::Enrichment as u8 {
            let of_source = |event| self.cuts.contain(c2s_lead::SOURCE.as_str(), event);
            return match enrichment::find_event_of_row(key) {
                Some(event) if of_source(event) => ChangeVerdict::Drop,
                Some(_) | None => ChangeVerdict::Keep,
            };
        }
        let replaced = if table == JournaledTableId::KeptRecords as u8 {
            let replace = |position, record: &Bytes| self.replace_record(position, record);
            table_store::replace_kept_record(key, value, &replace)
        } else if table == JournaledTableId::Deliveries as u8 {
            subscriber::expire_letter_row(key, value, &|position| self.is_expired(position))
        } else {
            None
        };
        replaced.map_or(ChangeVerdict::Keep, |value| {
            let key = key.clone();
            ChangeVerdict::Replace(TableChange::Put { key, value })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::event::{ErasureMark, EventFailure, Kind};
    use crate::table_store::TestStore;

    const REMOVED_AT: Timestamp = Timestamp::from_micros(77);

    /// Filter with a journal that holds nothing.
    fn filter() -> ExpiredContentFilter {
        let folder = tempfile::tempdir().expect("a folder");
        let store = TestStore::open(folder.path(), Arc::new(SystemClock::default()));
        let mut cuts = ContentCuts::default();
        cuts.advance("support", Position::new(5));
        cuts.advance("c2s", Position::new(3));
        ExpiredContentFilter {
            cuts,
            removed_at: REMOVED_AT,
            journal: store.journal,
        }
    }

    fn record(source: &str) -> Record {
        let entity = EntityKey::try_new(Kind::Ticket, "SUP-1").expect("valid");
        Record {
            sequence: Some(4),
            idempotency_key: Some("k".into()),
            request_hash: Some([7; 32]),
            unique_key: Some("C-1".into()),
            payload: "Ada".into(),
            call_body: "Ada".into(),
            change: "Ada".into(),
            answer: "Ada".into(),
            warnings: vec!["Ada".into()],
            failure: Some(EventFailure {
                code: 404,
                message: "no Ada".into(),
            }),
            ..Record::new(source, entity, "message.created", Timestamp::from_micros(1))
        }
    }

    fn filtered(record: &Record, position: u64) -> Option<Record> {
        let bytes = filter().replace_record(Position::new(position), &record.encode().into());
        bytes.map(|bytes| Record::decode(&bytes).expect("a record"))
    }

    #[test]
    fn records_of_the_source_before_its_cut_keep_their_outline_only() {
        let whole = record("support");
        let expired = filtered(&whole, 4).expect("is expired");
        let expected = Record {
            payload: Bytes::new(),
            call_body: Bytes::new(),
            change: Bytes::new(),
            answer: Bytes::new(),
            warnings: Vec::new(),
            failure: Some(EventFailure {
                code: 404,
                message: "removed by retention".into(),
            }),
            erasure: Some(ErasureMark::Expired { at: REMOVED_AT }),
            ..whole.clone()
        };
        assert_eq!(expired, expected);
        assert!(!String::from_utf8_lossy(&expired.encode()).contains("Ada"));
        assert_eq!(filtered(&whole, 5), None);
        assert_eq!(filtered(&record("c2s"), 4), None);
        assert_eq!(filtered(&record("leads"), 1), None);
        assert_eq!(filtered(&expired, 4), None, "nothing is left to remove");
        let erased = whole.into_erased(None);
        assert_eq!(filtered(&erased, 4), None);
    }

    #[test]
    fn copies_in_changes_of_tables_go_too() {
        let put = |key: Vec<u8>, value: Vec<u8>| TableChange::Put { key, value };
        let kept = |record: &Record| {
            let value = [&[1][..], &[7; 16], &record.encode()].concat();
            put(4_u64.to_be_bytes().to_vec(), value)
        };
        let judge = |table, change: &TableChange| filter().judge_change(table as u8, change);
        let whole = record("support");
        let expired = whole.clone().into_expired(REMOVED_AT);
        let replaced = ChangeVerdict::Replace(kept(&expired));
        assert_eq!(
            judge(JournaledTableId::KeptRecords, &kept(&whole)),
            replaced
        );
        let again = judge(JournaledTableId::KeptRecords, &kept(&expired));
        assert_eq!(again, ChangeVerdict::Keep);

        let step = |event: u64| put([&event.to_be_bytes()[..], &[3]].concat(), b"Ada".to_vec());
        let judge = |event| judge(JournaledTableId::Enrichment, &step(event));
        assert_eq!(judge(2), ChangeVerdict::Drop);
        assert_eq!(judge(3), ChangeVerdict::Keep);
    }
}

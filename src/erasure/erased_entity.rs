//! Entities whose content is being erased, and the filter that leaves it out.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::enrichment;
use crate::event::{EntityKey, FingerprintFn, Position, Record};
use crate::journal::{ChangeVerdict, ContentFilter, TableChange};
use crate::subscriber;
use crate::table_store::{self, JournaledTableId};

/// Entity whose records before some position are erased.
#[derive(Clone, Debug)]
pub(super) struct ErasedEntity {
    /// Number of the erasure in its table.
    pub(super) id: u64,
    pub(super) entity: EntityKey,
    /// Position of the record that erases the earlier ones.
    pub(super) before: Position,
    /// Positions of all erased records.
    pub(super) positions: Arc<BTreeSet<Position>>,
}

/// Filter that takes the content out of the records of erased entities, and their copies out of the
/// changes of tables.
pub(super) struct ErasureFilter {
    pub(super) erased: Vec<ErasedEntity>,
    pub(super) fingerprint: FingerprintFn,
}

impl ErasureFilter {
    pub(super) fn is_erased_record(&self, entity: &EntityKey, position: Position) -> bool {
        self.erased
            .iter()
            .any(|erased| position < erased.before && erased.entity == *entity)
    }

    pub(super) fn is_erased_position(&self, position: Position) -> bool {
        self.erased
            .iter()
            .any(|erased| erased.positions.contains(&position))
    }
}

impl ErasureFilter {
    /// Returns `record` without its content; `None` if it stays as it is.
    pub(super) fn erase_record(&self, position: Position, record: &Record) -> Option<Record> {
        // The rest of a record that retention has left is erased too.
        let is_whole = !record.erases() && !record.is_erased();
        (is_whole && self.is_erased_record(&record.entity, position)).then(|| {
            let key = record.idempotency_key.as_deref();
            let claim = key.map(|key| (self.fingerprint)(&record.source, key));
            record.clone().into_erased(claim)
        })
    }
}

impl ContentFilter for ErasureFilter {
    fn replace_record(&self, position: Position, record: &Bytes) -> Option<Bytes> {
        if self.erased.iter().all(|erased| position >= erased.before) {
            return None;
        }
        // A record that cannot be read is reported by whoever reads it.
        let record = Record::decode(record).ok()?;
        let erased = self.erase_record(position, &record)?;
        Some(erased.encode().into())
    }

    fn hides_record(&self, position: Position, entity: &EntityKey) -> bool {
        self.is_erased_record(entity, position)
    }

    fn judge_change(&self, table: u8, change: &TableChange) -> ChangeVerdict {
        let TableChange::Put { key, value } = change else {
            return ChangeVerdict::Keep;
        };
        if table == JournaledTableId::KeptRecords as u8 {
            let replace = |position, record: &Bytes| self.replace_record(position, record);
            return match table_store::replace_kept_record(key, value, &replace) {
                Some(value) => ChangeVerdict::Replace(TableChange::Put {
                    key: key.clone(),
                    value,
                }),
                None => ChangeVerdict::Keep,
            };
        }
        let is_erased = if table == JournaledTableId::Deliveries as u8 {
            subscriber::find_record_of_letter(key, value)
                .is_some_and(|(entity, position)| self.is_erased_record(&entity, position))
        } else if table == JournaledTableId::Enrichment as u8 {
            enrichment::find_event_of_row(key)
                .is_some_and(|position| self.is_erased_position(position))
        } else {
            false
        };
        if is_erased {
            ChangeVerdict::Drop
        } else {
            ChangeVerdict::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ErasureMark, Kind, Timestamp, fingerprint_key};

    fn filter() -> ErasureFilter {
        ErasureFilter {
            erased: vec![ErasedEntity {
                id: 1,
                entity: entity("SUP-1"),
                before: Position::new(5),
                positions: Arc::new([Position::new(2)].into()),
            }],
            fingerprint: fingerprint_key,
        }
    }

    fn entity(id: &str) -> EntityKey {
        EntityKey::try_new(Kind::Ticket, id).expect("valid")
    }

    fn record(id: &str) -> Record {
        let at = Timestamp::from_micros(1);
        Record {
            sequence: Some(1),
            idempotency_key: Some("k".into()),
            payload: "Ada".into(),
            ..Record::new("support", entity(id), "message.created", at)
        }
    }

    fn filtered(record: &Record, position: u64) -> Option<Record> {
        let bytes = filter().replace_record(Position::new(position), &record.encode().into());
        bytes.map(|bytes| Record::decode(&bytes).expect("a record"))
    }

    #[test]
    fn only_earlier_records_of_the_entity_lose_their_content() {
        let own = record("SUP-1");
        let claim = Some(fingerprint_key("support", "k"));
        let erased = own.clone().into_erased(claim);
        assert_eq!(filtered(&own, 4), Some(erased.clone()));
        assert_eq!(filtered(&own, 5), None);
        assert_eq!(filtered(&record("SUP-2"), 4), None);
        assert_eq!(filtered(&erased, 4), None, "nothing is left to erase");
        let outline = own.clone().into_expired(Timestamp::from_micros(2));
        assert_eq!(filtered(&outline, 4), Some(erased.clone()));
        let earlier_erasure = Record {
            erasure: Some(ErasureMark::Erases),
            ..own
        };
        assert_eq!(filtered(&earlier_erasure, 4), None);
    }

    #[test]
    fn a_kept_record_of_the_entity_loses_its_content_where_it_stands_in_a_table_change() {
        let table = JournaledTableId::KeptRecords as u8;
        let put = |position: u64, record: &Record| TableChange::Put {
            key: position.to_be_bytes().to_vec(),
            value: [&[1][..], &[7; 16], &record.encode()].concat(),
        };
        let own = record("SUP-1");
        let claim = Some(fingerprint_key("support", "k"));
        let erased = own.clone().into_erased(claim);
        let judge = |change: &TableChange| filter().judge_change(table, change);
        let replaced = ChangeVerdict::Replace(put(4, &erased));
        assert_eq!(judge(&put(4, &own)), replaced);
        assert_eq!(judge(&put(4, &erased)), ChangeVerdict::Keep);
        assert_eq!(judge(&put(5, &own)), ChangeVerdict::Keep);
        assert_eq!(judge(&put(4, &record("SUP-2"))), ChangeVerdict::Keep);
    }

    #[test]
    fn finished_steps_of_an_erased_event_are_dropped() {
        let table = JournaledTableId::Enrichment as u8;
        let put = |position: u64| TableChange::Put {
            key: [&position.to_be_bytes()[..], &[3]].concat(),
            value: b"Ada".to_vec(),
        };
        assert_eq!(filter().judge_change(table, &put(2)), ChangeVerdict::Drop);
        assert_eq!(filter().judge_change(table, &put(3)), ChangeVerdict::Keep);
        assert_eq!(filter().judge_change(1, &put(2)), ChangeVerdict::Keep);
    }
}

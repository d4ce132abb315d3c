//! Filter that gives the events of a wrong clock's future the present time.
//!
//! ```text
//!  received_at, committed_at ──later than the latest time──> the latest time
//!  decided_at, at            ──of an event that was decided later──> the latest time, in its change too
//! ```
//!
//! The order of the times stays, because each is limited by the same one. Times that mean something else,
//! such as an appointment, stay as they are.

use bytes::Bytes;

use crate::event::{EntityKey, Position, Record, Timestamp};
use crate::journal::{ChangeVerdict, ContentFilter, TableChange};

/// Filter with the latest time that an event may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct LatestTimes {
    latest: Timestamp,
}

impl LatestTimes {
    pub(super) const fn new(latest: Timestamp) -> Self {
        Self { latest }
    }
}

impl ContentFilter for LatestTimes {
    fn replace_record(&self, _position: Position, record: &Bytes) -> Option<Bytes> {
        let mut record = Record::decode(record).ok()?;
        if record.decided_at <= self.latest {
            return None;
        }
        // The entity remembers the time of the event with each value, and ignores older events.
        for time in [record.at, record.decided_at] {
            if time > self.latest {
                record.change = replace_number(&record.change, time, self.latest);
            }
        }
        record.at = record.at.min(self.latest);
        record.decided_at = self.latest;
        Some(record.encode().into())
    }

    fn hides_record(&self, _position: Position, _entity: &EntityKey) -> bool {
        false
    }

    fn judge_change(&self, _table: u8, _change: &TableChange) -> ChangeVerdict {
        ChangeVerdict::Keep
    }

    fn latest_time(&self) -> Option<Timestamp> {
        Some(self.latest)
    }
}

/// Replaces each number `old` of the compact JSON `json` by `new`. All times are microseconds there.
fn replace_number(json: &Bytes, old: Timestamp, new: Timestamp) -> Bytes {
    let (old, new) = (old.as_micros().to_string(), new.as_micros().to_string());
    let Ok(text) = std::str::from_utf8(json) else {
        return json.clone();
    };
    let (mut replaced, mut done) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices(&old) {
        let end = at + old.len();
        let is_begin = text[..at].ends_with([':', '[', ',']);
        let is_end = text[end..].starts_with([',', ']', '}']);
        replaced.push_str(&text[done..at]);
        replaced.push_str(if is_begin && is_end { &new } else { &old });
        done = end;
    }
    replaced.push_str(&text[done..]);
    replaced.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    const LATEST: Timestamp = Timestamp::from_micros(2_000_000);
    const FUTURE: Timestamp = Timestamp::from_micros(9_000_000);

    fn record(at: Timestamp, decided_at: Timestamp) -> Record {
        let entity = EntityKey::from_number(Kind::Ticket, 7);
        let change = r#"{"at":9000000,"text":"9000000","list":[19000000,9000000],"due":9500000}"#;
        Record {
            decided_at,
            change: change.into(),
            ..Record::new("support", entity, "ticket.created", at)
        }
    }

    fn filter(record: &Record) -> Option<Record> {
        let replaced =
            LatestTimes::new(LATEST).replace_record(Position::FIRST, &record.encode().into());
        replaced.map(|bytes| Record::decode(&bytes).expect("a record"))
    }

    /// An entity whose last event had the time 2036 ignored all later ones as late.
    #[test]
    fn an_event_of_the_future_and_what_its_entity_remembers_get_the_latest_time() {
        let replaced = filter(&record(FUTURE, FUTURE)).expect("it is of the future");
        assert_eq!((replaced.at, replaced.decided_at), (LATEST, LATEST));
        assert_eq!(
            replaced.change,
            r#"{"at":2000000,"text":"9000000","list":[19000000,2000000],"due":9500000}"#
        );
        let earlier = Timestamp::from_micros(5);
        let replaced = filter(&record(earlier, FUTURE)).expect("it is of the future");
        assert_eq!((replaced.at, replaced.decided_at), (earlier, LATEST));
    }

    #[test]
    fn an_event_that_was_decided_in_time_stays_as_it_is() {
        assert_eq!(filter(&record(FUTURE, LATEST)), None);
    }
}

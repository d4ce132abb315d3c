//! What one subscriber is interested in, and whether a record is of that.

use std::sync::Arc;

use super::definition::Subscription;
use super::expression::Filter;
use super::pattern::{Pattern, is_own};
use crate::event::{Position, Record};

/// What one subscriber is interested in.
#[derive(Clone, Debug)]
pub struct Interest {
    /// The events, by name and kind.
    pub patterns: Arc<[Pattern]>,
    /// Which of those.
    pub filter: Option<Filter>,
    /// From which record on.
    pub from: Position,
}

/// What a record is to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// To be delivered.
    Wanted,
    /// None of its business.
    Unwanted,
    /// Perhaps: its filter failed at it, for this reason, and nobody may decide in its place.
    Broken(String),
}

impl Interest {
    /// That of `subscription`.
    #[must_use]
    pub fn of(subscription: &Subscription) -> Self {
        let Subscription { events, filter, from, .. } = subscription;
        Self { patterns: events.as_slice().into(), filter: filter.clone(), from: *from }
    }

    /// What `record`, at `position`, is to it. A record that failed has no place among its entity's and is nobody's.
    #[must_use]
    pub fn judge(&self, position: Position, record: &Record) -> Judgement {
        let kind = record.entity.kind();
        let admits = |pattern: &Pattern| pattern.admits(kind, &record.event_type, is_own(record));
        if position < self.from || record.sequence.is_none() || !self.patterns.iter().any(admits) {
            return Judgement::Unwanted;
        }
        match self.filter.as_ref().map(|filter| filter.admits(record)) {
            None | Some(Ok(true)) => Judgement::Wanted,
            Some(Ok(false)) => Judgement::Unwanted,
            Some(Err(error)) => Judgement::Broken(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntityKey, Kind, Timestamp};
    use crate::subscription::sample;

    fn interest(filter: Option<&str>) -> Interest {
        let filter = filter.map(|text| Filter::compile(text).expect("an expression"));
        Interest::of(&Subscription { filter, from: Position::new(5), ..sample(1, &["lead.created", "ticket:*"]) })
    }

    fn record(kind: Kind, event: &str) -> Record {
        let record = Record::new("leads", EntityKey::numbered(kind, 1), event, Timestamp::from_micros(0));
        Record { sequence: Some(1), payload: r#"{"data": {"n": 1}}"#.into(), ..record }
    }

    #[test]
    fn a_record_is_wanted_from_the_beginning_on_if_any_pattern_admits_it() {
        let judge = |at, record: &Record| interest(None).judge(Position::new(at), record);
        let created = record(Kind::Lead, "lead.created");
        assert_eq!(judge(4, &created), Judgement::Unwanted);
        assert_eq!(judge(5, &created), Judgement::Wanted);
        assert_eq!(judge(5, &record(Kind::Ticket, "status.changed")), Judgement::Wanted);
        assert_eq!(judge(5, &record(Kind::Lead, "lead.updated")), Judgement::Unwanted);
        assert_eq!(judge(5, &Record { sequence: None, ..created }), Judgement::Unwanted, "it failed");
    }

    #[test]
    fn the_filter_is_asked_of_what_the_patterns_admit_and_may_not_know() {
        let judge = |filter, event| interest(Some(filter)).judge(Position::new(5), &record(Kind::Lead, event));
        assert_eq!(judge("data.n == 1", "lead.created"), Judgement::Wanted);
        assert_eq!(judge("data.n == 2", "lead.created"), Judgement::Unwanted);
        assert!(matches!(judge("data.m == 2", "lead.created"), Judgement::Broken(why) if why.contains("\"m\"")));
        assert_eq!(judge("data.m == 2", "lead.updated"), Judgement::Unwanted, "nobody asked it");
    }
}

//! Interest of one subscriber, and the match of a record against it.

use std::sync::Arc;

use super::definition::Subscription;
use super::expression::FilterExpression;
use super::pattern::{Pattern, is_internal_record};
use crate::event::{Position, Record};

/// Patterns, filter and first position that select the records of one subscriber.
#[derive(Clone, Debug)]
pub struct SubscriberInterest {
    /// Patterns of events, by name and kind.
    pub patterns: Arc<[Pattern]>,
    /// Filter on the events that the patterns admit.
    pub filter: Option<FilterExpression>,
    /// Position of the first record that can match.
    pub from: Position,
}

/// Result of matching a record against a subscriber's interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterestMatch {
    /// The record has to be delivered.
    Wanted,
    /// The record is not for this subscriber.
    Unwanted,
    /// The filter failed at this record, for this reason. The record becomes a dead letter, because
    /// neither delivering nor dropping it would be right.
    FilterFailed(String),
}

impl SubscriberInterest {
    /// Returns the interest that `subscription` defines.
    #[must_use]
    pub fn from_subscription(subscription: &Subscription) -> Self {
        let Subscription {
            events,
            filter,
            from,
            ..
        } = subscription;
        Self {
            patterns: events.as_slice().into(),
            filter: filter.clone(),
            from: *from,
        }
    }

    /// True if `record`, which stands at `position`, matches but for the filter. A failed record has
    /// no sequence number and matches no subscriber, and neither does a record without its content.
    #[must_use]
    pub fn admits_names(&self, position: Position, record: &Record) -> bool {
        let kind = record.entity.kind();
        let admits = |pattern: &Pattern| {
            pattern.admits(kind, &record.event_type, is_internal_record(record))
        };
        position >= self.from
            && record.sequence.is_some()
            && record.has_content()
            && self.patterns.iter().any(admits)
    }

    /// Matches `record`, which stands at `position`, with the filter.
    #[must_use]
    pub fn match_record(&self, position: Position, record: &Record) -> InterestMatch {
        // The cheap conditions come first: a filter costs up to 10 ms.
        if !self.admits_names(position, record) {
            return InterestMatch::Unwanted;
        }

        match self.filter.as_ref().map(|filter| filter.admits(record)) {
            None | Some(Ok(true)) => InterestMatch::Wanted,
            Some(Ok(false)) => InterestMatch::Unwanted,
            Some(Err(error)) => InterestMatch::FilterFailed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntityKey, Kind, Timestamp};
    use crate::subscription::sample_subscription;

    fn interest(filter: Option<&str>) -> SubscriberInterest {
        let filter = filter.map(|text| FilterExpression::compile(text).expect("an expression"));
        SubscriberInterest::from_subscription(&Subscription {
            filter,
            from: Position::new(5),
            ..sample_subscription(1, &["lead.created", "ticket:*"])
        })
    }

    fn record(kind: Kind, event: &str) -> Record {
        let record = Record::new(
            "leads",
            EntityKey::from_number(kind, 1),
            event,
            Timestamp::from_micros(0),
        );
        Record {
            sequence: Some(1),
            payload: r#"{"data": {"n": 1}}"#.into(),
            ..record
        }
    }

    #[test]
    fn a_record_is_wanted_from_the_beginning_on_if_any_pattern_admits_it() {
        let judge = |at, record: &Record| interest(None).match_record(Position::new(at), record);
        let created = record(Kind::Lead, "lead.created");
        assert_eq!(judge(4, &created), InterestMatch::Unwanted);
        assert_eq!(judge(5, &created), InterestMatch::Wanted);
        assert_eq!(
            judge(5, &record(Kind::Ticket, "status.changed")),
            InterestMatch::Wanted
        );
        assert_eq!(
            judge(5, &record(Kind::Lead, "lead.updated")),
            InterestMatch::Unwanted
        );
        assert_eq!(
            judge(
                5,
                &Record {
                    sequence: None,
                    ..created.clone()
                }
            ),
            InterestMatch::Unwanted,
            "it failed"
        );
        assert_eq!(
            judge(5, &created.into_erased(None)),
            InterestMatch::Unwanted,
            "nothing is left of it"
        );
    }

    #[test]
    fn the_filter_is_asked_of_what_the_patterns_admit_and_may_not_know() {
        let judge = |filter, event| {
            interest(Some(filter)).match_record(Position::new(5), &record(Kind::Lead, event))
        };
        assert_eq!(judge("data.n == 1", "lead.created"), InterestMatch::Wanted);
        assert_eq!(
            judge("data.n == 2", "lead.created"),
            InterestMatch::Unwanted
        );
        assert!(
            matches!(judge("data.m == 2", "lead.created"), InterestMatch::FilterFailed(why) if why.contains("\"m\""))
        );
        assert_eq!(
            judge("data.m == 2", "lead.updated"),
            InterestMatch::Unwanted,
            "nobody asked it"
        );
    }
}

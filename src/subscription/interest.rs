//! What one subscriber is interested in, and whether a record is of that.

use std::sync::Arc;

use super::Subscription;
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

//! Who might want a record, found without asking everyone.

use super::{Id, Known};
use crate::event::Record;

/// The patterns of all subscriptions that are owed anything, by what they name.
#[derive(Clone, Debug, Default)]
pub struct Index {
    known: Known,
}

impl Index {
    /// The index of `known`.
    #[must_use]
    pub fn new(known: &Known) -> Self {
        Self { known: known.clone() }
    }

    /// The subscriptions with a pattern that admits `record`, each once, in the order of their numbers. Disabled ones are not
    /// among them; whether its filter lets it through is [`super::Interest::judge`]'s to say.
    #[must_use]
    pub fn candidates(&self, record: &Record) -> Vec<Id> {
        let admits = |entry: &&std::sync::Arc<super::Entry>| {
            let (kind, is_own) = (record.entity.kind(), super::pattern::is_own(record));
            entry.interest.patterns.iter().any(|pattern| pattern.admits(kind, &record.event_type, is_own))
                && !matches!(entry.subscription.state, super::State::Disabled { .. })
        };
        self.known.iter().filter(admits).map(|entry| entry.subscription.id).collect()
    }
}

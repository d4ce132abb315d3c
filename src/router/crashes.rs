//! Crash tracking: decides which entities crash too often, and for how long they are quarantined.
//! Pure; the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use crate::crash_window::CrashWindow;
use crate::event::EntityKey;

/// Number of crashes within a window that an entity may have before its quarantine.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestartBudget {
    pub(super) restarts: u32,
    pub(super) window: Duration,
    pub(super) quarantine: Duration,
}

/// Recent crashes of the shard's entities.
#[derive(Debug)]
pub(super) struct CrashTracker {
    budget: RestartBudget,
    entities: HashMap<EntityKey, CrashHistory>,
}

#[derive(Debug, Default)]
struct CrashHistory {
    crashes: CrashWindow,
    quarantined_until: Option<Duration>,
}

impl CrashTracker {
    pub(super) fn new(budget: RestartBudget) -> Self {
        Self {
            budget,
            entities: HashMap::new(),
        }
    }

    /// Records a crash of `entity` at `now`. Returns the duration of the quarantine if the crash
    /// exceeds the budget.
    pub(super) fn note_crash(&mut self, entity: &EntityKey, now: Duration) -> Option<Duration> {
        let history = self.entities.entry(entity.clone()).or_default();
        if !history
            .crashes
            .note_crash(now, self.budget.restarts as usize, self.budget.window)
        {
            return None;
        }
        history.quarantined_until = Some(now + self.budget.quarantine);
        Some(self.budget.quarantine)
    }

    /// Returns the rest of the quarantine of `entity`; `None` if it is not quarantined.
    pub(super) fn quarantine_left(&self, entity: &EntityKey, now: Duration) -> Option<Duration> {
        let until = self.entities.get(entity)?.quarantined_until?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Returns the quarantined entities, each with the rest of its quarantine.
    pub(super) fn quarantined(
        &self,
        now: Duration,
    ) -> impl Iterator<Item = (EntityKey, Duration)> + '_ {
        self.entities
            .keys()
            .filter_map(move |entity| Some((entity.clone(), self.quarantine_left(entity, now)?)))
    }

    /// Returns true if `entity` crashed recently, so that records of its last run may still be on
    /// their way to the disk.
    pub(super) fn has_crashed_recently(&self, entity: &EntityKey) -> bool {
        self.entities.contains_key(entity)
    }

    /// Drops crash histories that no longer count.
    pub(super) fn forget_expired(&mut self, now: Duration) {
        let window = self.budget.window;
        self.entities.retain(|_, history| {
            // Keep the history for one more window after the quarantine, so that the next start
            // also waits for the fence.
            !history.crashes.is_over(now, window)
                || history
                    .quarantined_until
                    .is_some_and(|until| until + window > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_entity_is_quarantined_past_its_budget_and_comes_back() {
        let budget = RestartBudget {
            restarts: 2,
            window: seconds(60),
            quarantine: seconds(30),
        };
        let (entity, other) = (ticket("A"), ticket("B"));
        let mut crashes = CrashTracker::new(budget);
        // Time of the crash, and the quarantine that it causes.
        for (at, expected) in [
            (0, None),
            (1, None),
            (62, None),
            (63, None),
            (64, Some(seconds(30))),
        ] {
            assert_eq!(
                crashes.note_crash(&entity, seconds(at)),
                expected,
                "crash at {at} s"
            );
        }
        assert_eq!(
            crashes.quarantine_left(&entity, seconds(70)),
            Some(seconds(24))
        );
        assert_eq!(crashes.quarantine_left(&other, seconds(70)), None);
        let listed: Vec<_> = crashes.quarantined(seconds(70)).collect();
        assert_eq!(
            listed,
            [(
                entity.clone(),
                crashes
                    .quarantine_left(&entity, seconds(70))
                    .expect("listed")
            )]
        );
        assert_eq!(crashes.quarantine_left(&entity, seconds(94)), None);
        assert!(crashes.has_crashed_recently(&entity));
        crashes.forget_expired(seconds(200));
        assert!(!crashes.has_crashed_recently(&entity));
    }

    fn ticket(id: &str) -> EntityKey {
        EntityKey::try_new(Kind::Ticket, id).expect("valid")
    }
}

//! Which entities crash too often, and how long they are quarantined; pure, with the time as an
//! argument.

use std::collections::HashMap;
use std::time::Duration;

use crate::crash_window::CrashWindow;
use crate::event::EntityKey;

/// How often an entity may crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestartBudget {
    pub(super) restarts: u32,
    pub(super) window: Duration,
    pub(super) quarantine: Duration,
}

/// The crashes of the entities that crashed lately.
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

    /// Notes a crash of `entity` at `now`; `Some` with how long it stays quarantined when that was
    /// one too many.
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

    /// How much longer `entity` takes no events, if it is quarantined.
    pub(super) fn quarantine_left(&self, entity: &EntityKey, now: Duration) -> Option<Duration> {
        let until = self.entities.get(entity)?.quarantined_until?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Whether `entity` crashed so lately that records of its last life may still be on their way
    /// to the disk.
    pub(super) fn has_crashed_lately(&self, entity: &EntityKey) -> bool {
        self.entities.contains_key(entity)
    }

    /// Forgets what no longer counts.
    pub(super) fn forget_expired(&mut self, now: Duration) {
        let window = self.budget.window;
        self.entities.retain(|_, history| {
            // Kept for a window beyond the quarantine, so that its next start is behind a fence
            // too.
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
        // time of crash, quarantined by it?
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
        assert_eq!(crashes.quarantine_left(&entity, seconds(94)), None);
        assert!(crashes.has_crashed_lately(&entity));
        crashes.forget_expired(seconds(200));
        assert!(!crashes.has_crashed_lately(&entity));
    }

    fn ticket(id: &str) -> EntityKey {
        EntityKey::try_new(Kind::Ticket, id).expect("valid")
    }
}

//! Notices of new dead letters that are not announced yet: one announcement a second for each
//! subscriber stands for all its dead letters since the last.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::subscriber_id::SubscriberId;

/// Shortest time between two announcements.
const INTERVAL: Duration = Duration::from_secs(1);

/// Announcement of the dead letters of one subscriber.
#[derive(Debug, PartialEq)]
pub(super) struct ExhaustedNotice {
    /// Payload of the announcement, about the first dead letter.
    pub(super) payload: Value,
    /// Number of dead letters, the first included.
    pub(super) count: u64,
    /// Highest hop count of the events whose deliveries failed.
    pub(super) hops: u8,
}

/// Notices of all subscribers that wait for their announcement.
#[derive(Debug, Default)]
pub(super) struct ExhaustedNotices {
    pending: HashMap<SubscriberId, ExhaustedNotice>,
    /// Time at which the last ones were taken.
    taken_at: Option<Duration>,
}

impl ExhaustedNotices {
    /// Notes a dead letter of `id`, of an event with `hops`; `describe` returns the payload if it is
    /// the first one since the last announcement.
    pub(super) fn add(&mut self, id: &SubscriberId, hops: u8, describe: impl FnOnce() -> Value) {
        let notice = self
            .pending
            .entry(id.clone())
            .or_insert_with(|| ExhaustedNotice {
                payload: describe(),
                count: 0,
                hops,
            });
        notice.count += 1;
        notice.hops = notice.hops.max(hops);
    }

    /// Takes all announcements if they are due at `now`.
    pub(super) fn take_due(&mut self, now: Duration) -> HashMap<SubscriberId, ExhaustedNotice> {
        if self.pending.is_empty()
            || self
                .taken_at
                .is_some_and(|taken_at| taken_at + INTERVAL > now)
        {
            return HashMap::new();
        }
        self.taken_at = Some(now);
        self.take_all()
    }

    /// Takes all announcements, due or not.
    pub(super) fn take_all(&mut self) -> HashMap<SubscriberId, ExhaustedNotice> {
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn dead_letters_within_a_second_are_one_announcement_with_their_number() {
        let (one, other) = (SubscriberId::Webhook(1), SubscriberId::Webhook(2));
        let mut notices = ExhaustedNotices::default();
        let describe = |number: u64| move || json!({"dead_letter_id": number});
        notices.add(&one, 0, describe(1));
        let first = notices.take_due(seconds(10.0));
        assert_eq!(
            (first.len(), first[&one].count),
            (1, 1),
            "the first at once"
        );

        for number in 2..=900 {
            notices.add(&one, u8::from(number == 7), describe(number));
        }
        notices.add(&other, 0, describe(901));
        assert!(notices.take_due(seconds(10.9)).is_empty());
        let rest = notices.take_due(seconds(11.0));
        assert_eq!(
            (rest.len(), rest[&one].count, rest[&other].count),
            (2, 899, 1)
        );
        assert_eq!((first[&one].hops, rest[&one].hops), (0, 1));
        assert_eq!(rest[&one].payload, json!({"dead_letter_id": 2}));
        assert!(notices.pending.is_empty(), "nothing is kept");
    }
}

//! Notices of new dead letters that are not announced yet: one announcement a second for each
//! subscriber stands for all dead letters since the last.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::subscriber_id::SubscriberId;

/// Shortest time between two announcements for one subscriber.
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

#[derive(Debug, Default)]
struct SubscriberNotices {
    pending: Option<ExhaustedNotice>,
    announced_at: Option<Duration>,
}

/// Notices of all subscribers that wait for their announcement.
#[derive(Debug, Default)]
pub(super) struct ExhaustedNotices {
    by_subscriber: HashMap<SubscriberId, SubscriberNotices>,
}

impl ExhaustedNotices {
    /// Notes a dead letter of `id`, of an event with `hops`; `describe` returns the payload if it is
    /// the first one since the last announcement.
    pub(super) fn add(&mut self, id: &SubscriberId, hops: u8, describe: impl FnOnce() -> Value) {
        let notices = self.by_subscriber.entry(id.clone()).or_default();
        match &mut notices.pending {
            Some(notice) => {
                notice.count += 1;
                notice.hops = notice.hops.max(hops);
            }
            None => {
                notices.pending = Some(ExhaustedNotice {
                    payload: describe(),
                    count: 1,
                    hops,
                });
            }
        }
    }

    /// Takes all announcements, due or not.
    pub(super) fn take_all(&mut self) -> Vec<(SubscriberId, ExhaustedNotice)> {
        let taken = std::mem::take(&mut self.by_subscriber);
        let pending = taken.into_iter();
        pending
            .filter_map(|(id, notices)| Some((id, notices.pending?)))
            .collect()
    }

    /// Takes the announcements that are due at `now`.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(SubscriberId, ExhaustedNotice)> {
        let mut due = Vec::new();
        self.by_subscriber.retain(|id, notices| {
            let is_due = notices
                .announced_at
                .is_none_or(|announced_at| announced_at + INTERVAL <= now);
            if !is_due {
                return true;
            }
            let taken = notices.pending.take();
            notices.announced_at = Some(now);
            let is_used = taken.is_some();
            due.extend(taken.map(|notice| (id.clone(), notice)));
            is_used
        });
        due
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
        assert_eq!((first.len(), first[0].1.count), (1, 1), "the first at once");

        for number in 2..=900 {
            notices.add(&one, u8::from(number == 7), describe(number));
        }
        notices.add(&other, 0, describe(901));
        let of_other = notices.take_due(seconds(10.5));
        assert_eq!(of_other.len(), 1);
        assert_eq!(of_other[0].0, other);
        let rest = notices.take_due(seconds(11.0));
        assert_eq!((rest.len(), rest[0].1.count), (1, 899));
        assert_eq!((first[0].1.hops, rest[0].1.hops), (0, 1));
        assert_eq!(rest[0].1.payload, json!({"dead_letter_id": 2}));

        notices.take_due(seconds(12.5));
        assert!(notices.by_subscriber.is_empty(), "nothing is kept");
    }
}

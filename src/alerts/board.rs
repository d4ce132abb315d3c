//! State machine of the alerts: the conditions that hold, and the changes that have to be announced.
//!
//! ```text
//!             over its bound at two checks in a row, then announced
//!   cleared ────────────────────────────────────────────────────────> raised
//!           <────────────────────────────────────────────────────────
//!             well within its bound at two checks in a row, then announced
//! ```
//!
//! Between the two bounds nothing changes, so a value that wavers at its bound makes one alert. A
//! change is made only when it is announced: one that could not be is found again at the next check.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::position_marks::PositionMarks;
use super::subject::AlertSubject;
use crate::config::AlertsConfig;
use crate::event::{Position, Timestamp};
use crate::subscriber::SubscriberId;

/// Checks in a row that have to find a change.
const CHECKS: u32 = 2;

/// Late subscribers that are announced one by one. More are announced as a number with a sample: a
/// message for each of a thousand would hide all others.
pub(super) const LATE_MAX: usize = 20;

/// Late subscribers that the announcement of many names.
const LATE_SAMPLE: usize = 5;

/// Events of a source that make it active. Fewer may be trials.
pub(super) const ACTIVE_EVENTS: u64 = 10;

/// Values of the node that one check looks at.
#[derive(Clone, Debug)]
pub(super) struct NodeReadings {
    /// Free bytes of the disk; `None` if they cannot be read.
    pub(super) free_bytes: Option<u64>,
    /// Rest of the life of the node's certificate; `None` without one.
    pub(super) certificate_life: Option<Duration>,
    /// Records that reads are behind.
    pub(super) projection_lag: u64,
    /// Position behind the last durable record.
    pub(super) journal_end: Position,
    /// First position that each active subscriber is owed; `None` if the delivery stage does not
    /// answer.
    pub(super) first_owed: Option<BTreeMap<SubscriberId, Position>>,
    /// Reasons for which subscribers with a raised condition are not watched any more.
    pub(super) unwatched: BTreeMap<SubscriberId, WatchEnd>,
    /// Events accepted since the process began, by source.
    pub(super) accepted_by_source: BTreeMap<String, u64>,
}

/// Reason for which a condition is not watched any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchEnd {
    /// An operator paused the subscriber.
    Paused,
    /// The subscriber or the source is disabled.
    Disabled,
    /// There is no such subscriber any more.
    Deleted,
    /// The configuration has no bound for the condition, or nothing to measure.
    TurnedOff,
}

/// Change of a condition that has to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AlertChange {
    pub(super) subject: AlertSubject,
    /// True if the condition begins.
    pub(super) is_raised: bool,
    /// Value that made the change, if one was measured, in the unit of the limit.
    pub(super) value: Option<u64>,
    /// Bound of the configuration: bytes, records, seconds or subscribers.
    pub(super) limit: u64,
    /// Reason for the end, if the condition is not known to be over.
    pub(super) watch_end: Option<WatchEnd>,
    /// Some of the subscribers that are late, if the condition is about their number.
    pub(super) sample: Vec<SubscriberId>,
}

/// Place of a value in relation to the two bounds of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BoundSide {
    Over,
    /// Between the bounds, or unknown: changes nothing.
    Between,
    Within,
}

#[derive(Clone, Copy, Debug)]
struct BoundReading {
    side: BoundSide,
    value: Option<u64>,
    limit: u64,
    watch_end: Option<WatchEnd>,
}

impl BoundReading {
    const fn new(side: BoundSide, value: Option<u64>, limit: u64) -> Self {
        Self {
            side,
            value,
            limit,
            watch_end: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct ConditionState {
    is_raised: bool,
    /// Checks in a row that found the contrary.
    contrary_checks: u32,
}

/// Events of one source so far.
#[derive(Clone, Copy, Debug)]
struct SourceActivity {
    /// Counter at the last check.
    accepted: u64,
    /// Events without a silence between them.
    events: u64,
    /// Time of the last of them; `None` if it was longer ago than a silence.
    last_at: Option<Timestamp>,
}

/// All conditions with their states, and the values that they depend on.
#[derive(Debug)]
pub(super) struct AlertBoard {
    bounds: AlertsConfig,
    /// Sources that can send events.
    enabled_sources: BTreeSet<String>,
    conditions: BTreeMap<AlertSubject, ConditionState>,
    marks: PositionMarks,
    sources: BTreeMap<String, SourceActivity>,
}

impl AlertBoard {
    /// Creates the board of a node whose `enabled_sources` can send events.
    pub(super) fn new(bounds: AlertsConfig, enabled_sources: BTreeSet<String>) -> Self {
        Self {
            marks: PositionMarks::new(bounds.backlog_age.unwrap_or_default()),
            bounds,
            enabled_sources,
            conditions: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Takes the bounds and the sources of the configuration in force. What the checks have counted so
    /// far stays.
    pub(super) fn follow_config(
        &mut self,
        bounds: AlertsConfig,
        enabled_sources: BTreeSet<String>,
    ) {
        self.marks
            .set_longest_age(bounds.backlog_age.unwrap_or_default());
        self.bounds = bounds;
        self.enabled_sources = enabled_sources;
    }

    /// Restores a condition that was raised before the process began.
    pub(super) fn restore_raised(&mut self, subject: AlertSubject) {
        self.conditions.entry(subject).or_default().is_raised = true;
    }

    /// Restores the activity of a source from its newest events, `last_at` being the time of the last.
    /// `accepted` is its counter now, which goes on over a reopening of the store.
    pub(super) fn restore_source(
        &mut self,
        source: &str,
        accepted: u64,
        events: u64,
        last_at: Option<Timestamp>,
    ) {
        let activity = SourceActivity {
            accepted,
            events,
            last_at,
        };
        self.sources.insert(source.to_owned(), activity);
    }

    /// Lists the conditions that are raised.
    pub(super) fn raised(&self) -> impl Iterator<Item = &AlertSubject> {
        let raised = self.conditions.iter().filter(|(_, state)| state.is_raised);
        raised.map(|(subject, _)| subject)
    }

    /// Takes the values of a check at `now`, and returns the changes to announce. Each of them is
    /// found again until [`Self::confirm_change`].
    pub(super) fn check(&mut self, readings: &NodeReadings, now: Timestamp) -> Vec<AlertChange> {
        self.marks.add_mark(now, readings.journal_end);
        self.note_activity(readings, now);

        let found = self.measure(readings, now);
        let is_late = |subject: &AlertSubject| matches!(subject, AlertSubject::BacklogAge(_));
        let mut late = self.raised().filter(|subject| is_late(subject)).count();
        let subjects: BTreeSet<_> = found
            .keys()
            .chain(self.conditions.keys())
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for subject in subjects {
            let reading = match found.get(&subject) {
                Some(reading) => *reading,
                None => self.find_watch_end(&subject, readings),
            };
            let state = self.conditions.entry(subject.clone()).or_default();
            let is_contrary = match reading.side {
                BoundSide::Over => !state.is_raised,
                BoundSide::Within => state.is_raised,
                BoundSide::Between => false,
            };
            state.contrary_checks = match is_contrary {
                true => state.contrary_checks.saturating_add(1),
                false => 0,
            };

            let has_room = state.is_raised || !is_late(&subject) || late < LATE_MAX;
            if state.contrary_checks >= CHECKS && has_room {
                late += usize::from(is_late(&subject) && !state.is_raised);
                changes.push(AlertChange {
                    is_raised: !state.is_raised,
                    value: reading.value,
                    limit: reading.limit,
                    watch_end: reading.watch_end,
                    sample: match subject {
                        AlertSubject::LateSubscribers => sample_late(&found),
                        _ => Vec::new(),
                    },
                    subject,
                });
            }
        }
        self.forget_quiet_conditions();
        changes
    }

    /// Notes that `change` was announced.
    pub(super) fn confirm_change(&mut self, change: &AlertChange) {
        let state = ConditionState {
            is_raised: change.is_raised,
            contrary_checks: 0,
        };
        self.conditions.insert(change.subject.clone(), state);
        self.forget_quiet_conditions();
    }

    fn forget_quiet_conditions(&mut self) {
        self.conditions
            .retain(|_, state| state.is_raised || state.contrary_checks > 0);
    }

    fn note_activity(&mut self, readings: &NodeReadings, now: Timestamp) {
        let Some(silence) = self.bounds.source_silence else {
            return;
        };
        let enabled = &self.enabled_sources;
        let counts = readings.accepted_by_source.iter();
        for (source, accepted) in counts.filter(|(source, _)| enabled.contains(*source)) {
            let known = self
                .sources
                .entry(source.clone())
                .or_insert(SourceActivity {
                    accepted: 0,
                    events: 0,
                    last_at: None,
                });
            let events = accepted.saturating_sub(known.accepted);
            if events == 0 {
                continue;
            }
            let is_old = |last: Timestamp| last.saturating_add(silence) < now;
            let was_silent = known.last_at.is_none_or(is_old);
            *known = SourceActivity {
                accepted: *accepted,
                events: if was_silent { 0 } else { known.events }.saturating_add(events),
                last_at: Some(now),
            };
        }
    }

    fn measure(
        &self,
        readings: &NodeReadings,
        now: Timestamp,
    ) -> BTreeMap<AlertSubject, BoundReading> {
        let mut found = BTreeMap::new();
        if self.bounds.disk_free_bytes > 0 {
            let reading = measure_rest(readings.free_bytes, self.bounds.disk_free_bytes);
            found.insert(AlertSubject::DiskSpace, reading);
        }
        if let (Some(limit), Some(life)) = (self.bounds.certificate_life, readings.certificate_life)
        {
            let reading = measure_rest(Some(life.as_secs()), limit.as_secs());
            found.insert(AlertSubject::CertificateEnd, reading);
        }
        if self.bounds.projection_lag > 0 {
            let reading = measure_lag(readings.projection_lag, self.bounds.projection_lag);
            found.insert(AlertSubject::ProjectionLag, reading);
        }
        if let Some(limit) = self.bounds.backlog_age {
            match &readings.first_owed {
                Some(first_owed) => {
                    for (subscriber, first) in first_owed {
                        let reading = self.measure_backlog(*first, limit, now);
                        found.insert(AlertSubject::BacklogAge(subscriber.clone()), reading);
                    }
                }
                // Nothing is known of the subscribers: what was announced stays.
                None => found.extend(self.keep_backlogs(limit)),
            }
            let known = readings.first_owed.as_ref();
            let late = known.map(|_| list_late(&found).count());
            found.insert(AlertSubject::LateSubscribers, measure_late(late));
        }
        if let Some(limit) = self.bounds.source_silence {
            for source in &self.enabled_sources {
                let reading = measure_silence(self.sources.get(source), limit, now);
                found.insert(AlertSubject::SilentSource(source.clone()), reading);
            }
        }
        found
    }

    fn keep_backlogs(&self, limit: Duration) -> Vec<(AlertSubject, BoundReading)> {
        let is_backlog = |subject: &&AlertSubject| matches!(subject, AlertSubject::BacklogAge(_));
        let known = self.conditions.keys().filter(is_backlog).cloned();
        let unknown = BoundReading::new(BoundSide::Between, None, limit.as_secs());
        known.map(|subject| (subject, unknown)).collect()
    }

    fn measure_backlog(&self, first: Position, limit: Duration, now: Timestamp) -> BoundReading {
        let is_older = |age: Duration| Some(first < self.marks.position_before(now, age)?);
        let side = match (is_older(limit), is_older(limit / 2)) {
            (Some(true), _) => BoundSide::Over,
            (_, Some(false)) => BoundSide::Within,
            // After a start the marks do not reach back yet.
            (_, None | Some(true)) => BoundSide::Between,
        };
        BoundReading::new(side, None, limit.as_secs())
    }

    /// Reads a condition that nothing was measured for: it is not watched any more, or its subscriber
    /// is owed nothing.
    fn find_watch_end(&self, subject: &AlertSubject, readings: &NodeReadings) -> BoundReading {
        let seconds = |bound: Option<Duration>| bound.map_or(0, |bound| bound.as_secs());
        let (limit, reason) = match subject {
            AlertSubject::BacklogAge(subscriber) => (
                seconds(self.bounds.backlog_age),
                readings.unwatched.get(subscriber).copied(),
            ),
            AlertSubject::LateSubscribers => (LATE_MAX as u64, Some(WatchEnd::TurnedOff)),
            AlertSubject::CertificateEnd => (
                seconds(self.bounds.certificate_life),
                Some(WatchEnd::TurnedOff),
            ),
            AlertSubject::DiskSpace => (self.bounds.disk_free_bytes, Some(WatchEnd::TurnedOff)),
            AlertSubject::ProjectionLag => (self.bounds.projection_lag, Some(WatchEnd::TurnedOff)),
            AlertSubject::SilentSource(_) => (
                seconds(self.bounds.source_silence),
                Some(WatchEnd::Disabled),
            ),
        };
        let is_off = limit == 0;
        BoundReading {
            watch_end: if is_off {
                Some(WatchEnd::TurnedOff)
            } else {
                reason
            },
            ..BoundReading::new(BoundSide::Within, None, limit)
        }
    }
}

/// Subscribers that are over the bound of their age, by their ids.
fn list_late(found: &BTreeMap<AlertSubject, BoundReading>) -> impl Iterator<Item = &SubscriberId> {
    found.iter().filter_map(|(subject, reading)| match subject {
        AlertSubject::BacklogAge(subscriber) if reading.side == BoundSide::Over => Some(subscriber),
        _ => None,
    })
}

fn sample_late(found: &BTreeMap<AlertSubject, BoundReading>) -> Vec<SubscriberId> {
    list_late(found).take(LATE_SAMPLE).cloned().collect()
}

/// Measures the number of late subscribers; `None` if it is not known.
fn measure_late(late: Option<usize>) -> BoundReading {
    let side = match late {
        Some(late) if late > LATE_MAX => BoundSide::Over,
        Some(late) if late <= LATE_MAX / 2 => BoundSide::Within,
        Some(_) | None => BoundSide::Between,
    };
    BoundReading::new(side, late.map(|late| late as u64), LATE_MAX as u64)
}

/// Measures what is left of something that must not run out.
fn measure_rest(rest: Option<u64>, limit: u64) -> BoundReading {
    let side = match rest {
        Some(rest) if rest < limit => BoundSide::Over,
        Some(rest) if rest > limit.saturating_add(limit / 4) => BoundSide::Within,
        Some(_) | None => BoundSide::Between,
    };
    BoundReading::new(side, rest, limit)
}

const fn measure_lag(lag: u64, limit: u64) -> BoundReading {
    let side = if lag > limit {
        BoundSide::Over
    } else if lag <= limit / 2 {
        BoundSide::Within
    } else {
        BoundSide::Between
    };
    BoundReading::new(side, Some(lag), limit)
}

fn measure_silence(
    activity: Option<&SourceActivity>,
    limit: Duration,
    now: Timestamp,
) -> BoundReading {
    // Nothing is known of a source that was silent for longer before the start: its state stays.
    let last = activity.and_then(|activity| Some((activity.events, activity.last_at?)));
    let (side, value) = last.map_or((BoundSide::Between, None), |(events, last_at)| {
        let silence = now.distance(last_at);
        let side = if silence <= limit {
            BoundSide::Within
        } else if events >= ACTIVE_EVENTS {
            BoundSide::Over
        } else {
            BoundSide::Between
        };
        (side, Some(silence.as_secs()))
    });
    BoundReading::new(side, value, limit.as_secs())
}

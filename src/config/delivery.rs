//! `[delivery]`: how events are brought to subscribers, unless a subscription says otherwise.

use std::time::Duration;

use ipnet::IpNet;

use super::draft::ConfigDraft;
use super::problem::ConfigProblem;
use super::setting::SettingValue;
use super::values::{DAY_S, DURATION_MIN_S, HOUR_S, describe_unexpected, parse_number};

/// The longest schedule of retries, in steps.
pub const RETRIES_MAX: usize = 50;
/// The longest pause between two attempts, in seconds.
pub const RETRY_PAUSE_MAX_S: f64 = 7.0 * DAY_S;
/// The longest that one attempt may take, in seconds.
pub const TIMEOUT_MAX_S: f64 = 300.0;
/// The most attempts to one subscriber at once.
pub const CONCURRENCY_MAX: i64 = 1_000;

/// What becomes of an entity's later events while a dead letter of it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExhaustionPolicy {
    /// They are delivered.
    #[default]
    Skip,
    /// They wait until the dead letter is delivered or discarded.
    Halt,
}

impl ExhaustionPolicy {
    /// Every choice with its name.
    pub const CHOICES: [(&'static str, Self); 2] = [("skip", Self::Skip), ("halt", Self::Halt)];
}

/// `[delivery]`
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// How long one attempt may take: connecting, sending, and reading the whole answer.
    pub timeout: Duration,
    /// How long what is owed is held for a subscriber that is paused or not to be reached.
    pub hold: Duration,
    /// The pauses before the second attempt, the third, and so on.
    pub retry_schedule: Vec<Duration>,
    /// How far a pause is drawn from the schedule either way, as a fraction of it.
    pub jitter: f64,
    /// How long after the first attempt a delivery becomes a dead letter, whatever the schedule
    /// says.
    pub dead_letter_after: Duration,
    /// How long a subscriber may fail without one success before it is disabled.
    pub disable_after: Duration,
    /// Attempts to one subscriber at once.
    pub concurrency: usize,
    /// What a dead letter does to its entity's later events.
    pub on_exhausted: ExhaustionPolicy,
    /// Networks that subscribers may be in although they are not public.
    pub allow_targets: Vec<IpNet>,
    /// The most subscriptions.
    pub subscriptions_max: usize,
    /// Attempts to all subscribers at once.
    pub attempts_max: usize,
    /// Events that wait in memory for one subscriber.
    pub window_events: usize,
    /// Bytes of events that wait in memory for one subscriber.
    pub window_bytes: usize,
    /// Bytes of events that wait in memory for all subscribers together.
    pub memory_bytes: usize,
    /// Entities of one subscriber whose deliveries have failed and wait to be tried again.
    pub stopped_lanes_max: usize,
    /// Dead letters of one subscriber; one that has more stands still until some are dealt with.
    pub dead_letters_max: u64,
    /// Jobs that deliver again what was delivered or failed, those that are over included.
    pub jobs_max: usize,
    /// Bytes of records that all jobs have out at once.
    pub jobs_bytes_max: usize,
    /// `[delivery.breaker]`
    pub breaker: BreakerConfig,
}

/// `[delivery.breaker]`: when deliveries to a subscriber are interrupted.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// The time over which failures are counted.
    pub window: Duration,
    /// The share of attempts in the window whose failure opens it; 0 means never for that reason.
    pub failure_rate: f64,
    /// The fewest attempts in the window for the share to mean anything.
    pub attempts_min: u32,
    /// Failures in a row that open it; 0 means never for that reason.
    pub consecutive: u32,
    /// How long it stays open first; twice as long after each probe that fails, up to `open_max`.
    pub open: Duration,
    /// The longest that it stays open before the next probe.
    pub open_max: Duration,
}

impl ConfigDraft {
    pub(super) fn read_delivery(&mut self) -> DeliveryConfig {
        DeliveryConfig {
            timeout: self.read_seconds("delivery.timeout_s", TIMEOUT_MAX_S),
            hold: self.read_days("delivery.hold_days", 3_650.0),
            retry_schedule: self.read_schedule("delivery.retry_schedule_s"),
            jitter: self.read_fraction("delivery.jitter"),
            dead_letter_after: self.read_hours("delivery.dead_letter_after_h", 24.0 * 366.0),
            disable_after: self.read_hours("delivery.disable_after_h", 24.0 * 366.0),
            concurrency: self.read_integer("delivery.concurrency", 1..=CONCURRENCY_MAX),
            on_exhausted: self.read_choice("delivery.on_exhausted", &ExhaustionPolicy::CHOICES),
            allow_targets: self.read_networks("delivery.allow_targets"),
            subscriptions_max: self.read_integer("delivery.subscriptions_max", 1..=1_000_000),
            attempts_max: self.read_integer("delivery.attempts_max", 1..=1_000_000),
            window_events: self.read_integer("delivery.window_events", 1..=1_000_000),
            window_bytes: self.read_integer("delivery.window_bytes", 1..=1 << 40),
            memory_bytes: self.read_integer("delivery.memory_bytes", 1..=1 << 40),
            stopped_lanes_max: self.read_integer("delivery.stopped_lanes_max", 1..=10_000_000),
            dead_letters_max: self.read_integer("delivery.dead_letters_max", 1..=i64::MAX),
            jobs_max: self.read_integer("delivery.jobs_max", 1..=100_000),
            jobs_bytes_max: self.read_integer("delivery.jobs_bytes_max", 1..=1 << 40),
            breaker: BreakerConfig {
                window: self.read_seconds("delivery.breaker.window_s", DAY_S),
                failure_rate: self.read_fraction("delivery.breaker.failure_rate"),
                attempts_min: self
                    .read_integer("delivery.breaker.attempts_min", 1..=u32::MAX.into()),
                consecutive: self.read_integer("delivery.breaker.consecutive", 0..=u32::MAX.into()),
                open: self.read_seconds("delivery.breaker.open_s", DAY_S),
                open_max: self.read_seconds("delivery.breaker.open_max_s", DAY_S),
            },
        }
    }

    /// The pauses of a list of seconds, each of which may be a fraction.
    pub(super) fn read_schedule(&mut self, key: &str) -> Vec<Duration> {
        let pauses = self.read_list(key, |value| {
            let seconds = parse_number(value, "a number of seconds")?;
            let fits = (DURATION_MIN_S..=RETRY_PAUSE_MAX_S).contains(&seconds);
            let expected = || {
                format!("expected {DURATION_MIN_S} to {RETRY_PAUSE_MAX_S} seconds, found {seconds}")
            };
            fits.then(|| Duration::from_secs_f64(seconds))
                .ok_or_else(expected)
        });
        if pauses.len() > RETRIES_MAX {
            let detail = format!(
                "expected at most {RETRIES_MAX} pauses, found {}",
                pauses.len()
            );
            self.problems
                .push(ConfigProblem::for_key(key, self.origin_of(&[key]), detail));
        }
        pauses
    }

    fn read_days(&mut self, key: &str, longest: f64) -> Duration {
        self.read_duration(key, "days", 24.0 * HOUR_S, longest)
    }

    fn read_fraction(&mut self, key: &str) -> f64 {
        self.read_as(key, |value| {
            let expected = "a fraction from 0 to 1";
            match parse_number(value, expected)? {
                fraction if (0.0..=1.0).contains(&fraction) => Ok(fraction),
                other => Err(format!("expected {expected}, found {other}")),
            }
        })
    }

    /// `[store] encryption_key`: 32 bytes in base64; nothing means that secrets are stored as they
    /// are.
    pub(super) fn read_encryption_key(&mut self) -> Option<super::EncryptionKey> {
        self.read_as("store.encryption_key", |value| match value {
            SettingValue::Text(text) | SettingValue::Raw(text) if text.is_empty() => Ok(None),
            SettingValue::Text(text) | SettingValue::Raw(text) => {
                super::EncryptionKey::parse(&text).map(Some).ok_or_else(|| {
                    "expected 32 bytes in base64, such as `openssl rand -base64 32` makes"
                        .to_owned()
                })
            }
            other => Err(describe_unexpected("a string", &other)),
        })
    }
}

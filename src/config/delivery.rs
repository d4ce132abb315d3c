//! Section `[delivery]`: defaults of every delivery; a subscription may override some of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::draft::ConfigDraft;
use super::outbound_credentials::{OutboundCredential, read_credentials};
use super::problem::ConfigProblem;
use super::purpose::ConfigPurpose;
use super::secret::Secret;
use super::values::{DAY_S, DURATION_MIN_S, HOUR_S, parse_number, parse_string};
use super::web_url::parse_server_url;

/// Longest retry schedule of a subscription, in pauses.
pub const RETRIES_MAX: usize = 50;
/// Longest pause between two attempts, in seconds.
pub const RETRY_PAUSE_MAX_S: f64 = 7.0 * DAY_S;
/// Longest time limit of one attempt, in seconds.
pub const TIMEOUT_MAX_S: f64 = 300.0;
/// Most attempts to one subscriber at the same time.
pub const CONCURRENCY_MAX: i64 = 1_000;

/// Key of the file with the credentials for servers of subscribers.
pub(super) const CREDENTIALS_FILE: &str = "delivery.credentials_file";

/// Treatment of an entity's later events while one of its dead letters is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExhaustionPolicy {
    /// Later events are delivered past the dead letter.
    #[default]
    Skip,
    /// Later events wait until the dead letter is delivered or discarded.
    Halt,
}

impl ExhaustionPolicy {
    /// Policies with their names in the configuration and the API.
    pub const CHOICES: [(&'static str, Self); 2] = [("skip", Self::Skip), ("halt", Self::Halt)];
}

/// Section `[delivery]`: limits and schedules of deliveries.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// Limit of one attempt: connecting, sending and reading the whole response.
    pub timeout: Duration,
    /// Time for which undelivered events are kept for a subscriber that is paused or unreachable.
    pub hold: Duration,
    /// Pauses before the second attempt, the third, and so on.
    pub retry_schedule: Vec<Duration>,
    /// Jitter of each pause in either direction, as a fraction of the pause.
    pub jitter: f64,
    /// Time from the first attempt to the dead letter, even if the schedule has pauses left.
    pub dead_letter_after: Duration,
    /// Time without a single success after which a failing subscriber is disabled.
    pub disable_after: Duration,
    /// Attempts to one subscriber at the same time.
    pub concurrency: usize,
    /// Default treatment of an entity's later events while a dead letter is open.
    pub on_exhausted: ExhaustionPolicy,
    /// Networks that subscribers may use although their addresses are not public.
    pub allow_targets: Vec<IpNet>,
    /// Files with certificates (PEM) that are trusted beside those built in and the system's.
    pub ca_files: Vec<PathBuf>,
    /// URL of the proxy by which https targets are called. It may hold a password.
    pub proxy_url: Option<Secret>,
    /// File that holds `credentials`; empty if there is none.
    pub credentials_file: PathBuf,
    /// Credentials for the servers of subscribers that ask who calls.
    pub credentials: Vec<OutboundCredential>,
    /// Most subscriptions that can exist.
    pub subscriptions_max: usize,
    /// Attempts to all subscribers at the same time.
    pub attempts_max: usize,
    /// Events in memory that wait for one subscriber.
    pub window_events: usize,
    /// Bytes of events in memory that wait for one subscriber.
    pub window_bytes: usize,
    /// Bytes of events in memory that wait for all subscribers together.
    pub memory_bytes: usize,
    /// Lanes of one subscriber that may wait for a retry at the same time.
    pub stopped_lanes_max: usize,
    /// Open dead letters of one subscriber; at this limit its deliveries stop until some are
    /// resolved.
    pub dead_letters_max: u64,
    /// Open dead letters of all subscribers; at this limit those with more than an equal share stop.
    pub dead_letters_total_max: u64,
    /// Replay jobs that are kept, finished ones included.
    pub jobs_max: usize,
    /// Bytes of records that all replay jobs may hold in memory together.
    pub jobs_bytes_max: usize,
    /// Section `[delivery.breaker]`: the circuit breaker of each subscriber.
    pub breaker: BreakerConfig,
}

/// Section `[delivery.breaker]`: conditions that interrupt deliveries to a subscriber.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Time window over which attempts are counted.
    pub window: Duration,
    /// Share of failed attempts in the window that opens the breaker; 0 disables this condition.
    pub failure_rate: f64,
    /// Fewest attempts in the window before `failure_rate` counts.
    pub attempts_min: u32,
    /// Failures in a row that open the breaker; 0 disables this condition.
    pub consecutive: u32,
    /// First open time of the breaker. It doubles after each failed probe, up to `open_max`.
    pub open: Duration,
    /// Longest open time before the next probe.
    pub open_max: Duration,
}

impl DeliveryConfig {
    /// Tells if the credentials or their files differ from those of `former`.
    pub(super) fn has_other_credentials(&self, former: &Self) -> bool {
        let fingerprints = |config: &Self| -> Vec<_> {
            let servers = config.credentials.iter();
            servers.map(|server| server.fingerprint).collect()
        };
        fingerprints(self) != fingerprints(former)
    }
}

impl ConfigDraft {
    pub(super) fn read_delivery(&mut self, purpose: ConfigPurpose) -> DeliveryConfig {
        let credentials_file = PathBuf::from(self.read_text(CREDENTIALS_FILE, |_| Ok(())));
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
            ca_files: self.read_files("delivery.ca_files"),
            proxy_url: self.read_proxy_url(),
            credentials: self.read_outbound_credentials(&credentials_file, purpose),
            credentials_file,
            subscriptions_max: self.read_integer("delivery.subscriptions_max", 1..=1_000_000),
            attempts_max: self.read_integer("delivery.attempts_max", 1..=1_000_000),
            window_events: self.read_integer("delivery.window_events", 1..=1_000_000),
            window_bytes: self.read_integer("delivery.window_bytes", 1..=1 << 40),
            memory_bytes: self.read_integer("delivery.memory_bytes", 1..=1 << 40),
            stopped_lanes_max: self.read_integer("delivery.stopped_lanes_max", 1..=10_000_000),
            dead_letters_max: self.read_integer("delivery.dead_letters_max", 1..=i64::MAX),
            dead_letters_total_max: self
                .read_integer("delivery.dead_letters_total_max", 1..=i64::MAX),
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

    /// Reads `delivery.proxy_url`. The error does not quote it, because it may hold a password.
    fn read_proxy_url(&mut self) -> Option<Secret> {
        self.read_as("delivery.proxy_url", |value| {
            let url = parse_string(value)?;
            if url.is_empty() {
                return Ok(None);
            }
            let is_proxy = parse_server_url(url.expose())
                .is_ok_and(|url| url.scheme() == "http" && url.path() == "/");
            let expected = "expected nothing, or a URL such as http://proxy.example:3128";
            is_proxy.then_some(Some(url)).ok_or(expected.to_owned())
        })
    }

    /// Reads the credentials in `file`, unless a command does without them.
    fn read_outbound_credentials(
        &mut self,
        file: &Path,
        purpose: ConfigPurpose,
    ) -> Vec<OutboundCredential> {
        if file.as_os_str().is_empty() || purpose == ConfigPurpose::Tool {
            return Vec::new();
        }
        read_credentials(file).unwrap_or_else(|detail| {
            let origin = self.origin_of(&[CREDENTIALS_FILE]);
            self.problems
                .push(ConfigProblem::for_key(CREDENTIALS_FILE, origin, detail));
            Vec::new()
        })
    }

    /// Reads a list of pauses in seconds; fractions are allowed.
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

    pub(super) fn read_fraction(&mut self, key: &str) -> f64 {
        self.read_as(key, |value| {
            let expected = "a fraction from 0 to 1";
            match parse_number(value, expected)? {
                fraction if (0.0..=1.0).contains(&fraction) => Ok(fraction),
                other => Err(format!("expected {expected}, found {other}")),
            }
        })
    }
}

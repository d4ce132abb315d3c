//! Turns settings into a configuration: types, ranges and what must fit together. Every problem is found before any is reported.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::draft::{Draft, variable};
use super::problem::{Place, Problem, Problems};
use super::setting::{Setting, Value};
use super::values::{DAY_S, HOUR_S, SHORTEST_S, found, not_empty, number, sendable, string, unexpected};
use super::{
    Admin, Calls, Config, Entity, LogFormat, Router, Secret, Server, Sources, Store, Support, Sync, Telemetry,
    UnknownEntity,
};

mod custom;

const MIB: i64 = 1 << 20;
/// No limit but that of the type.
const ANY: i64 = i64::MAX;

/// What a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To run a node: each secret that it needs must be there.
    Node,
    /// To work on a node's data or to talk to it: secrets may be missing.
    Tool,
}

/// Reads the defaults, then `file`, then the environment, and checks the whole.
///
/// # Errors
/// [`Problems`], all of them at once, each with its file and line or its variable.
pub fn load<N, V>(file: Option<&Path>, env: impl IntoIterator<Item = (N, V)>) -> Result<Config, Problems>
where
    N: Into<OsString>,
    V: Into<OsString>,
{
    Draft::read(file, env).finish(Purpose::Node)
}

impl Draft {
    /// Checks the whole and gives the configuration.
    ///
    /// # Errors
    /// [`Problems`] of reading and of checking, all of them at once; only that of the file if it cannot be read.
    pub fn finish(mut self, purpose: Purpose) -> Result<Config, Problems> {
        if self.is_broken {
            // Whatever else seems wrong or missing may be right in the part that was not read.
            self.problems.retain(Problem::is_in_file);
            Problems::none(std::mem::take(&mut self.problems))?;
        }
        let config = Config {
            server: self.server(),
            store: self.store(),
            admin: Admin { token: self.secret("admin.token") },
            router: self.router(),
            entity: Entity { items_max: self.integer("entity.items_max", 1..=MIB) },
            calls: self.calls(),
            delivery: self.delivery(),
            sources: Sources {
                support: self.support(),
                leads: self.leads(),
                crm: self.crm(),
                instagram: self.instagram(),
                c2s: self.c2s(),
                custom: self.custom_sources(),
            },
            telemetry: self.telemetry(),
        };
        self.check_fit(&config);
        if purpose == Purpose::Node {
            self.check_secrets(&config);
        }
        Problems::none(self.problems)?;
        Ok(config)
    }

    fn server(&mut self) -> Server {
        Server {
            bind: self.text("server.bind", |text| {
                let address = text.parse::<SocketAddr>();
                address.map(|_| ()).map_err(|_| "an IP address and a port, such as 127.0.0.1:8080".to_owned())
            }),
            public_url: self.public_url(),
            workers: self.integer("server.workers", 0..=1024),
            body_limit_bytes: self.integer("server.body_limit_bytes", 1024..=16 * MIB),
            request_timeout: self.seconds("server.request_timeout_s", HOUR_S),
            keep_alive: self.seconds("server.keep_alive_s", HOUR_S),
            connections_max: self.integer("server.connections_max", 1..=MIB),
            trusted_proxies: self.networks("server.trusted_proxies"),
            auth_failures_per_minute: self.integer("server.auth_failures_per_minute", 0..=u32::MAX.into()),
            shutdown_grace: self.seconds("server.shutdown_grace_s", HOUR_S),
        }
    }

    fn public_url(&mut self) -> Option<String> {
        let url = self.text("server.public_url", |text| {
            let expected = || "http:// or https:// and a host, without query and fragment".to_owned();
            (text.is_empty() || is_base_url(text)).then_some(()).ok_or_else(expected)
        });
        (!url.is_empty()).then(|| url.trim_end_matches('/').to_owned())
    }

    fn store(&mut self) -> Store {
        Store {
            path: self.text("store.path", not_blank).into(),
            cache_bytes: self.integer("store.cache_bytes", MIB..=ANY),
            sync: self.choice("store.sync", &[("commit", Sync::Commit), ("interval", Sync::Interval)]),
            sync_interval: self.seconds("store.sync_interval_s", 60.0),
            commit_records_max: self.integer("store.commit_records_max", 1..=MIB),
            commit_bytes_max: self.integer("store.commit_bytes_max", 1024..=1024 * MIB),
            encryption_key: self.encryption_key(),
        }
    }

    fn router(&mut self) -> Router {
        Router {
            shards: self.integer("router.shards", 0..=1024),
            mailbox_capacity: self.integer("router.mailbox_capacity", 1..=MIB),
            // A quarter of it may belong to one entity.
            in_flight_events_max: self.integer("router.in_flight_events_max", 16..=MIB),
            in_flight_bytes_max: self.integer("router.in_flight_bytes_max", 1..=ANY),
            idle_timeout: self.seconds("router.idle_timeout_s", DAY_S),
            live_entities_max: self.integer("router.live_entities_max", 1..=ANY),
            restarts_max: self.integer("router.restarts_max", 1..=u32::MAX.into()),
            restart_window: self.seconds("router.restart_window_s", DAY_S),
            quarantine: self.seconds("router.quarantine_s", DAY_S),
            projection_lag_max: self.integer("router.projection_lag_max", 1..=ANY),
        }
    }

    fn calls(&mut self) -> Calls {
        Calls {
            rows_max: self.integer("calls.rows_max", 1..=1_000_000_000),
            refused_rows_max: self.integer("calls.refused_rows_max", 1..=1_000_000_000),
        }
    }

    fn support(&mut self) -> Support {
        let unknown_entity = [("create", UnknownEntity::Create), ("reject", UnknownEntity::Reject)];
        Support {
            enabled: self.boolean("sources.support.enabled"),
            api_keys: self.secrets("sources.support.api_keys", sendable),
            secrets: self.secrets("sources.support.secrets", not_empty),
            tolerance: self.seconds("sources.support.tolerance_s", DAY_S),
            rate_per_minute: self.integer("sources.support.rate_per_minute", 0..=u32::MAX.into()),
            unknown_entity: self.choice("sources.support.unknown_entity", &unknown_entity),
            idempotency_window: self.hours("sources.support.idempotency_window_h", 24.0 * 366.0),
        }
    }

    fn telemetry(&mut self) -> Telemetry {
        Telemetry {
            log: self.choice("telemetry.log", &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]),
            level: self.text("telemetry.level", |text| {
                let expected =
                    || "error, warn, info, debug, trace or directives such as \"info,hookyard=debug\"".to_owned();
                is_filter(text).then_some(()).ok_or_else(expected)
            }),
        }
    }

    fn check_fit(&mut self, config: &Config) {
        let (bytes, body) = (config.router.in_flight_bytes_max, config.server.body_limit_bytes);
        // Zero is what a value became that is already reported.
        if bytes > 0 && bytes < 4 * body {
            let key = "router.in_flight_bytes_max";
            let place = self.place_of(&[key, "server.body_limit_bytes"]);
            let detail = format!("expected at least 4 times server.body_limit_bytes ({}), found {bytes}", 4 * body);
            self.problems.push(Problem::of(key, place, detail));
        }
        if let Some(word) = clash(&config.sources) {
            let key = "sources.crm.events";
            let detail =
                format!("events of {word:?} are those of the configured source of that name; rename one of them");
            self.problems.push(Problem::of(key, self.place_of(&[key]), detail));
        }
    }

    fn check_secrets(&mut self, config: &Config) {
        if config.admin.token.is_empty() {
            self.missing("admin.token", "admin.token");
        }
        let support = &config.sources.support;
        if support.enabled && support.api_keys.is_empty() {
            self.missing("sources.support.api_keys", "sources.support.enabled");
        }
        if support.enabled && support.secrets.is_empty() {
            self.missing("sources.support.secrets", "sources.support.enabled");
        }
        self.check_custom_secrets(config);
        if config.sources.crm.enabled && config.sources.crm.tokens.is_empty() {
            self.missing("sources.crm.tokens", "sources.crm.enabled");
        }
        let instagram = &config.sources.instagram;
        if instagram.enabled && instagram.app_secrets.is_empty() {
            self.missing("sources.instagram.app_secrets", "sources.instagram.enabled");
        }
        if instagram.enabled && instagram.verify_token.is_empty() {
            self.missing("sources.instagram.verify_token", "sources.instagram.enabled");
        }
        let c2s = &config.sources.c2s;
        if c2s.enabled && c2s.tokens.is_empty() {
            self.missing("sources.c2s.tokens", "sources.c2s.enabled");
        }
    }

    /// Reports that the secret `key` is missing, at its own place or that of the key that calls for it.
    fn missing(&mut self, key: &str, called_for_by: &str) {
        // A list whose items are wrong is not missing: its items are reported.
        if self.problems.iter().any(|problem| problem.key() == Some(key)) {
            return;
        }
        let place = match (self.place_of(&[key, called_for_by]), &self.file) {
            (Place::Defaults, Some(file)) => Place::File(file.clone(), None),
            (place, _) => place,
        };
        let detail = format!(
            "missing: set it in the configuration file or in {}; `hookyard secret new` makes a value",
            variable(key)
        );
        self.problems.push(Problem::of(key, place, detail));
    }

    /// Where the first of `keys` was set that the operator has set.
    pub(super) fn place_of(&self, keys: &[&str]) -> Place {
        let mut places = keys.iter().filter_map(|key| self.settings.get(*key)).map(|setting| &setting.place);
        places.find(|place| **place != Place::Defaults).cloned().unwrap_or(Place::Defaults)
    }

    fn take(&mut self, key: &str) -> Setting {
        let setting = self.settings.get_mut(key).expect("a test compares the keys read with those of the defaults");
        let value = std::mem::replace(&mut setting.value, Value::Taken);
        Setting { value, place: setting.place.clone() }
    }

    /// Reads `key` with `read`, whose error says what was expected and found.
    pub(super) fn read_as<T: Default>(&mut self, key: &str, read: impl FnOnce(Value) -> Result<T, String>) -> T {
        let Setting { value, place } = self.take(key);
        read(value).unwrap_or_else(|detail| {
            self.problems.push(Problem::of(key, place, detail));
            T::default()
        })
    }

    pub(super) fn boolean(&mut self, key: &str) -> bool {
        self.read_as(key, |value| match value {
            Value::Boolean(value) => Ok(value),
            Value::Raw(text) => text.expose().trim().parse().map_err(|_| found("true or false", text.expose())),
            other => Err(unexpected("true or false", &other)),
        })
    }

    pub(super) fn integer<T: TryFrom<i64> + Default>(&mut self, key: &str, range: RangeInclusive<i64>) -> T {
        self.read_as(key, |value| {
            let number = match value {
                Value::Integer(number) => number,
                Value::Raw(text) => text.expose().trim().parse().map_err(|_| found("a whole number", text.expose()))?,
                other => return Err(unexpected("a whole number", &other)),
            };
            let fits = || range.contains(&number).then_some(T::try_from(number).ok()).flatten();
            fits().ok_or_else(|| match *range.end() {
                ANY => format!("expected at least {}, found {number}", range.start()),
                end => format!("expected {} to {end}, found {number}", range.start()),
            })
        })
    }

    pub(super) fn seconds(&mut self, key: &str, longest_s: f64) -> Duration {
        self.duration(key, "seconds", 1.0, longest_s)
    }

    pub(super) fn hours(&mut self, key: &str, longest_h: f64) -> Duration {
        self.duration(key, "hours", HOUR_S, longest_h)
    }

    pub(super) fn duration(&mut self, key: &str, unit: &str, unit_s: f64, longest: f64) -> Duration {
        let expected = format!("a number of {unit}");
        self.read_as(key, |value| {
            let number = number(value, &expected)?;
            if !(SHORTEST_S..=longest).contains(&number) {
                return Err(format!("expected {SHORTEST_S} to {longest} {unit}, found {number}"));
            }
            Ok(Duration::from_secs_f64(number * unit_s))
        })
    }

    /// A string that `check` finds right; its error says what was expected.
    pub(super) fn text(&mut self, key: &str, check: impl FnOnce(&str) -> Result<(), String>) -> String {
        self.read_as(key, |value| {
            let text = string(value)?;
            check(text.expose()).map_err(|expected| found(&expected, text.expose()))?;
            Ok(text.expose().to_owned())
        })
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let first = choices.first().expect("a choice has alternatives").1;
        let chosen = self.read_as(key, |value| {
            let text = string(value)?;
            let chosen = choices.iter().find(|(name, _)| *name == text.expose());
            chosen.map(|(_, choice)| Some(*choice)).ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
                found(&names.join(" or "), text.expose())
            })
        });
        chosen.unwrap_or(first)
    }

    pub(super) fn secret(&mut self, key: &str) -> Secret {
        self.read_as(key, |value| {
            let text = string(value)?;
            // Empty is missing, which matters to a node only.
            if text.is_empty() { Ok(text) } else { sendable(text) }
        })
    }

    pub(super) fn secrets(&mut self, key: &str, check: fn(Secret) -> Result<Secret, String>) -> Vec<Secret> {
        self.list(key, |value| check(string(value)?))
    }

    pub(super) fn networks(&mut self, key: &str) -> Vec<ipnet::IpNet> {
        self.list(key, |value| {
            let text = string(value)?;
            let network = text.expose().parse().or_else(|_| text.expose().parse::<IpAddr>().map(Into::into));
            network.map_err(|_| found("a network such as 10.0.0.0/8", text.expose()))
        })
    }

    /// The items of a list that `read` can read; the others are reported, each at its own line.
    pub(super) fn list<T>(&mut self, key: &str, read: impl Fn(Value) -> Result<T, String>) -> Vec<T> {
        let Setting { value, place } = self.take(key);
        let items = match value {
            Value::List(items) => items,
            Value::Raw(text) => split(text.expose(), &place),
            other => {
                self.problems.push(Problem::of(key, place, unexpected("a list of strings", &other)));
                return Vec::new();
            }
        };
        let mut wrong = |place, detail| self.problems.push(Problem::of(key, place, detail));
        items.into_iter().filter_map(|item| read(item.value).map_err(|detail| wrong(item.place, detail)).ok()).collect()
    }
}

/// A configured source of which the name is the first word of a declared event: nobody could tell their events apart.
fn clash(sources: &Sources) -> Option<&'static str> {
    let words = sources.crm.events.iter().filter_map(|declared| declared.name.as_str().split('.').next());
    words.into_iter().find(|word| sources.custom.iter().any(|custom| custom.name.as_str() == *word))
}

/// Whether paths can be put behind `text`.
fn is_base_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte))
    })
}

fn not_blank(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("a path".to_owned()) } else { Ok(()) }
}

/// The items of a list in a variable; nothing at all is the empty list.
fn split(text: &str, place: &Place) -> Vec<Setting> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let item = |item: &str| Setting { value: Value::Raw(Secret::new(item.trim())), place: place.clone() };
    text.split(',').map(item).collect()
}

/// Whether `text` is a filter, with each bare word a level: `inof` would be taken for the name of a target, and log nothing else.
fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok() && text.split(',').all(|part| is_directive(part.trim()))
}

fn is_directive(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let target = text.split(['=', '[']).next().unwrap_or_default();
    if target == text {
        let is_path = text.contains("::") && is_target(text);
        return is_path || LEVELS.contains(&text.to_ascii_lowercase().as_str());
    }
    is_target(target)
}

fn is_target(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_:-.".contains(c))
}

#[cfg(test)]
mod tests;

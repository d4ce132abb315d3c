//! Validates settings: types, ranges and dependencies between keys. All problems are collected
//! before any is reported.

use std::collections::HashSet;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::draft::{ConfigDraft, env_variable_name};
use super::problem::{ConfigError, ConfigProblem, SettingOrigin};
use super::purpose::ConfigPurpose;
use super::restart_keys::ConfigChanges;
use super::setting::{DraftSetting, SettingValue};
use super::values::{
    DAY_S, DURATION_MIN_S, HOUR_S, check_header, check_not_empty, check_sendable,
    describe_mismatch, describe_unexpected, parse_number, parse_string,
};
use super::{
    AdminConfig, AuditConfig, CallLogConfig, Config, DashboardConfig, EncryptionKey, EntityConfig,
    LogFormat, RouterConfig, Secret, ServerConfig, SourcesConfig, StoreConfig, SupportConfig,
    SyncPolicy, TelemetryConfig, UnknownEntityPolicy,
};
use crate::event::NESTING_MAX;

mod cluster;
mod custom;
mod exposure;
mod secrets;
mod source_retention;
mod tls;

#[cfg(test)]
pub(super) use secrets::SECRET_KEYS;

const MIB: i64 = 1 << 20;
/// Upper bound of integers that only their type limits.
const UNLIMITED: i64 = i64::MAX;

/// Reads the defaults, then `file`, then the environment, and validates the result, for a node in
/// trials and tests, whose secrets may be short.
///
/// # Errors
/// Returns a [`ConfigError`] with all problems, each with its file and line or its variable.
pub fn load_config<N, V>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (N, V)>,
) -> Result<Config, ConfigError>
where
    N: Into<OsString>,
    V: Into<OsString>,
{
    ConfigDraft::from_toml(file, env).finish(ConfigPurpose::Trial)
}

impl ConfigDraft {
    /// Validates all settings and builds the configuration.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] with all problems of reading and of validation. If the file cannot
    /// be read, only the file's own problem is reported.
    pub fn finish(mut self, purpose: ConfigPurpose) -> Result<Config, ConfigError> {
        if self.is_broken {
            // Other problems may be false: the unread part of the file could set those keys.
            self.problems.retain(ConfigProblem::is_in_file);
            ConfigError::fail_if_any(std::mem::take(&mut self.problems), Vec::new())?;
        }
        let written = Arc::new(self.clone());
        self.trim_secrets();
        // Listed before the values are taken out of the draft.
        let settings = self.effective_settings();
        let mut config = Config {
            server: self.read_server(purpose),
            store: self.read_store(),
            admin: self.read_admin(),
            audit: self.read_audit(),
            dashboard: self.read_dashboard(),
            router: self.read_router(),
            entity: EntityConfig {
                items_max: self.read_integer("entity.items_max", 1..=MIB),
            },
            call_log: self.read_call_log(),
            delivery: self.read_delivery(purpose),
            alerts: self.read_alerts(),
            sources: SourcesConfig {
                support: self.read_support(),
                leads: self.read_leads(),
                crm: self.read_crm(),
                instagram: self.read_instagram(),
                c2s: self.read_c2s(),
                retention: self.read_source_retention(),
                certified: self.read_certified_sources(),
                custom: self.read_custom_sources(purpose),
            },
            telemetry: self.read_telemetry(),
            cluster: self.read_cluster(),
            settings,
            warnings: Vec::new(),
            written,
            purpose,
        };
        self.check_consistency(&config);
        self.check_certified_sources(&config);
        match purpose {
            ConfigPurpose::Node | ConfigPurpose::Trial => self.check_secrets(&config),
            ConfigPurpose::Judgement | ConfigPurpose::Tool => {}
        }
        self.check_secret_lengths(&config, purpose);
        self.check_custom_surroundings(&config);
        if purpose == ConfigPurpose::Node {
            self.check_exposure(&config);
        }
        config.warnings = ConfigError::fail_if_any(self.problems, self.warnings)?;
        Ok(config)
    }

    fn read_server(&mut self, purpose: ConfigPurpose) -> ServerConfig {
        ServerConfig {
            bind: self.read_text("server.bind", check_address),
            public_url: self.read_base_url("server.public_url"),
            workers: self.read_integer("server.workers", 0..=1024),
            body_limit_bytes: self.read_integer("server.body_limit_bytes", 1024..=16 * MIB),
            unproven_bytes_max: self.read_integer("server.unproven_bytes_max", 1024..=1024 * MIB),
            nesting_max: self.read_integer(
                "server.nesting_max",
                8..=i64::try_from(NESTING_MAX).unwrap_or(i64::MAX),
            ),
            request_timeout: self.read_seconds("server.request_timeout_s", HOUR_S),
            body_grace: self.read_seconds("server.body_grace_s", HOUR_S),
            body_bytes_per_s_min: self.read_integer("server.body_bytes_per_s_min", 0..=MIB),
            keep_alive: self.read_seconds("server.keep_alive_s", HOUR_S),
            connections_max: self.read_integer("server.connections_max", 1..=MIB),
            connections_per_address_max: self
                .read_integer("server.connections_per_address_max", 1..=MIB),
            trusted_proxies: self.read_networks("server.trusted_proxies"),
            auth_failures_per_minute: self
                .read_integer("server.auth_failures_per_minute", 0..=u32::MAX.into()),
            docs: self.read_boolean("server.docs"),
            is_development: self.is_development,
            tls: self.read_server_tls(purpose),
            shutdown_grace: self.read_seconds("server.shutdown_grace_s", HOUR_S),
        }
    }

    /// Reads a URL that paths are appended to; an empty text is none.
    pub(super) fn read_base_url(&mut self, key: &str) -> Option<String> {
        let url = self.read_text(key, |text| {
            let expected =
                || "http:// or https:// and a host, without query and fragment".to_owned();
            (text.is_empty() || is_base_url(text))
                .then_some(())
                .ok_or_else(expected)
        });
        (!url.is_empty()).then(|| url.trim_end_matches('/').to_owned())
    }

    /// Reads a list of paths of files.
    pub(super) fn read_files(&mut self, key: &str) -> Vec<PathBuf> {
        self.read_list(key, |value| {
            let path = parse_string(value)?;
            match path.expose() {
                "" => Err("expected the path of a file".to_owned()),
                path => Ok(PathBuf::from(path)),
            }
        })
    }

    fn read_store(&mut self) -> StoreConfig {
        StoreConfig {
            path: self.read_text("store.path", check_not_blank).into(),
            cache_bytes: self.read_integer("store.cache_bytes", MIB..=UNLIMITED),
            sync: self.read_choice(
                "store.sync",
                &[
                    ("commit", SyncPolicy::Commit),
                    ("interval", SyncPolicy::Interval),
                ],
            ),
            sync_interval: self.read_seconds("store.sync_interval_s", 60.0),
            commit_records_max: self.read_integer("store.commit_records_max", 1..=MIB),
            commit_bytes_max: self.read_integer("store.commit_bytes_max", 1024..=1024 * MIB),
            segment_bytes: self.read_integer("store.segment_bytes", 64 * 1024..=1024 * MIB),
            retention: self.read_store_retention(),
            max_bytes: {
                let bytes: u64 = self.read_integer("store.max_bytes", 0..=UNLIMITED);
                (bytes > 0).then_some(bytes)
            },
            encryption_key: self.read_encryption_key(),
            former_encryption_keys: self.read_former_encryption_keys(),
        }
    }

    /// Reads `[store] encryption_key`, 32 bytes in base64. An empty text means that content is
    /// stored unencrypted.
    fn read_encryption_key(&mut self) -> Option<EncryptionKey> {
        self.read_as("store.encryption_key", |value| match parse_string(value)? {
            text if text.is_empty() => Ok(None),
            text => parse_encryption_key(&text).map(Some),
        })
    }

    fn read_former_encryption_keys(&mut self) -> Vec<EncryptionKey> {
        self.read_list("store.former_encryption_keys", |value| {
            parse_encryption_key(&parse_string(value)?)
        })
    }

    fn read_router(&mut self) -> RouterConfig {
        RouterConfig {
            shards: self.read_integer("router.shards", 0..=1024),
            mailbox_capacity: self.read_integer("router.mailbox_capacity", 1..=MIB),
            // At least 16, because one entity may use a quarter of it.
            in_flight_events_max: self.read_integer("router.in_flight_events_max", 16..=MIB),
            in_flight_bytes_max: self.read_integer("router.in_flight_bytes_max", 1..=UNLIMITED),
            idle_timeout: self.read_seconds("router.idle_timeout_s", DAY_S),
            live_entities_max: self.read_integer("router.live_entities_max", 1..=UNLIMITED),
            restarts_max: self.read_integer("router.restarts_max", 1..=u32::MAX.into()),
            restart_window: self.read_seconds("router.restart_window_s", DAY_S),
            quarantine: self.read_seconds("router.quarantine_s", DAY_S),
            projection_lag_max: self.read_integer("router.projection_lag_max", 1..=UNLIMITED),
        }
    }

    fn read_admin(&mut self) -> AdminConfig {
        let bind = self.read_text("admin.bind", |text| match text.is_empty() {
            true => Ok(()),
            false => check_address(text),
        });
        AdminConfig {
            bind: (!bind.is_empty()).then_some(bind),
            token: self.read_secret("admin.token"),
            tokens_max: self.read_integer("admin.tokens_max", 1..=10_000),
        }
    }

    fn read_audit(&mut self) -> AuditConfig {
        let days: u32 = self.read_integer("audit.keep_days", 1..=36_500);
        AuditConfig {
            entries_max: self.read_integer("audit.entries_max", 1..=100_000),
            refused_entries_max: self.read_integer("audit.refused_entries_max", 1..=100_000),
            keep_for: Duration::from_secs(u64::from(days) * 24 * 3_600),
        }
    }

    fn read_call_log(&mut self) -> CallLogConfig {
        CallLogConfig {
            rows_max: self.read_integer("call_log.rows_max", 1..=1_000_000_000),
            refused_rows_max: self.read_integer("call_log.refused_rows_max", 1..=1_000_000_000),
            failed_rows_max: self.read_integer("call_log.failed_rows_max", 1..=1_000_000_000),
        }
    }

    fn read_support(&mut self) -> SupportConfig {
        let unknown_entity = [
            ("create", UnknownEntityPolicy::Create),
            ("reject", UnknownEntityPolicy::Reject),
        ];
        SupportConfig {
            enabled: self.read_boolean("sources.support.enabled"),
            api_keys: self.read_secrets("sources.support.api_keys", check_sendable),
            secrets: self.read_secrets("sources.support.secrets", check_not_empty),
            tolerance: self.read_seconds("sources.support.tolerance_s", DAY_S),
            rate_per_minute: self
                .read_integer("sources.support.rate_per_minute", 0..=u32::MAX.into()),
            unknown_entity: self.read_choice("sources.support.unknown_entity", &unknown_entity),
            idempotency_window: self
                .read_hours("sources.support.idempotency_window_h", 24.0 * 366.0),
        }
    }

    fn read_dashboard(&mut self) -> DashboardConfig {
        DashboardConfig {
            enabled: self.read_boolean("dashboard.enabled"),
            session: self.read_hours("dashboard.session_h", 24.0 * 30.0),
        }
    }

    fn read_telemetry(&mut self) -> TelemetryConfig {
        TelemetryConfig {
            log: self.read_choice(
                "telemetry.log",
                &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)],
            ),
            level: self.read_text("telemetry.level", |text| {
                let expected = || {
                    "error, warn, info, debug, trace or directives such as \"info,hookyard=debug\""
                        .to_owned()
                };
                is_log_filter(text).then_some(()).ok_or_else(expected)
            }),
            metrics_token: self.read_secret("telemetry.metrics_token"),
            otlp_endpoint: self.read_base_url("telemetry.otlp_endpoint"),
            otlp_headers: self.read_secrets("telemetry.otlp_headers", check_header),
            otlp_sampling_ratio: self.read_fraction("telemetry.otlp_sampling_ratio"),
            otlp_queue_spans: self.read_integer("telemetry.otlp_queue_spans", 1..=10_000_000),
        }
    }

    fn check_consistency(&mut self, config: &Config) {
        let (bytes, body) = (
            config.router.in_flight_bytes_max,
            config.server.body_limit_bytes,
        );
        // Zero stands for a value that is already reported as invalid.
        if bytes > 0 && bytes < 4 * body {
            let key = "router.in_flight_bytes_max";
            let origin = self.origin_of(&[key, "server.body_limit_bytes"]);
            let detail = format!(
                "expected at least 4 times server.body_limit_bytes ({}), found {bytes}",
                4 * body
            );
            self.problems
                .push(ConfigProblem::for_key(key, origin, detail));
        }
        self.check_retention(config);
        self.check_cluster(config);
        if let Some(word) = find_name_clash(&config.sources) {
            let key = "sources.crm.events";
            let detail =
                format!("{word:?} is also the name of a configured source; rename one of them");
            self.problems
                .push(ConfigProblem::for_key(key, self.origin_of(&[key]), detail));
        }
    }

    fn check_secrets(&mut self, config: &Config) {
        if config.admin.token.is_empty() {
            self.report_missing_secret("admin.token", "admin.token");
        }
        let support = &config.sources.support;
        if support.enabled && support.api_keys.is_empty() {
            self.report_missing_secret("sources.support.api_keys", "sources.support.enabled");
        }
        if support.enabled && support.secrets.is_empty() {
            self.report_missing_secret("sources.support.secrets", "sources.support.enabled");
        }
        self.check_custom_secrets(config);
        if config.sources.crm.enabled && config.sources.crm.tokens.is_empty() {
            self.report_missing_secret("sources.crm.tokens", "sources.crm.enabled");
        }
        let instagram = &config.sources.instagram;
        if instagram.enabled && instagram.app_secrets.is_empty() {
            self.report_missing_secret(
                "sources.instagram.app_secrets",
                "sources.instagram.enabled",
            );
        }
        if instagram.enabled && instagram.verify_token.is_empty() {
            self.report_missing_secret(
                "sources.instagram.verify_token",
                "sources.instagram.enabled",
            );
        }
        let c2s = &config.sources.c2s;
        if c2s.enabled && c2s.tokens.is_empty() {
            self.report_missing_secret("sources.c2s.tokens", "sources.c2s.enabled");
        }
    }

    /// Reports a missing secret `key` at its own origin, or at the origin of the setting that
    /// requires it.
    fn report_missing_secret(&mut self, key: &str, called_for_by: &str) {
        // A list with invalid items is not missing; its items are already reported.
        if self
            .problems
            .iter()
            .any(|problem| problem.key() == Some(key))
        {
            return;
        }
        let origin = match (self.origin_of(&[key, called_for_by]), &self.file) {
            (SettingOrigin::Defaults, Some(file)) => SettingOrigin::File(file.clone(), None),
            (origin, _) => origin,
        };
        let detail = format!(
            "missing: set it in the configuration file or in {}; `hookyard secret new` prints one",
            env_variable_name(key)
        );
        self.problems
            .push(ConfigProblem::for_key(key, origin, detail));
    }

    /// Returns the origin of the first of `keys` that the operator has set.
    pub(super) fn origin_of(&self, keys: &[&str]) -> SettingOrigin {
        let mut origins = keys
            .iter()
            .filter_map(|key| self.settings.get(*key))
            .map(|setting| &setting.origin);
        origins
            .find(|origin| **origin != SettingOrigin::Defaults)
            .cloned()
            .unwrap_or(SettingOrigin::Defaults)
    }

    fn take_setting(&mut self, key: &str) -> DraftSetting {
        let setting = self
            .settings
            .get_mut(key)
            .expect("a test compares the keys read with those of the defaults");
        let value = std::mem::replace(&mut setting.value, SettingValue::Taken);
        DraftSetting {
            value,
            origin: setting.origin.clone(),
        }
    }

    /// Reads `key` with `read`. An error of `read` names the expected and the found value.
    pub(super) fn read_as<T: Default>(
        &mut self,
        key: &str,
        read: impl FnOnce(SettingValue) -> Result<T, String>,
    ) -> T {
        let DraftSetting { value, origin } = self.take_setting(key);
        read(value).unwrap_or_else(|detail| {
            self.problems
                .push(ConfigProblem::for_key(key, origin, detail));
            T::default()
        })
    }

    pub(super) fn read_boolean(&mut self, key: &str) -> bool {
        self.read_as(key, |value| match value {
            SettingValue::Boolean(value) => Ok(value),
            SettingValue::Raw(text) => text
                .expose()
                .trim()
                .parse()
                .map_err(|_| describe_mismatch("true or false", text.expose())),
            other => Err(describe_unexpected("true or false", &other)),
        })
    }

    pub(super) fn read_integer<T: TryFrom<i64> + Default>(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> T {
        self.read_as(key, |value| {
            let number = match value {
                SettingValue::Integer(number) => number,
                SettingValue::Raw(text) => text
                    .expose()
                    .trim()
                    .parse()
                    .map_err(|_| describe_mismatch("a whole number", text.expose()))?,
                other => return Err(describe_unexpected("a whole number", &other)),
            };
            let fits = || {
                range
                    .contains(&number)
                    .then_some(T::try_from(number).ok())
                    .flatten()
            };
            fits().ok_or_else(|| match *range.end() {
                UNLIMITED => format!("expected at least {}, found {number}", range.start()),
                end => format!("expected {} to {end}, found {number}", range.start()),
            })
        })
    }

    pub(super) fn read_seconds(&mut self, key: &str, longest_s: f64) -> Duration {
        self.read_duration(key, "seconds", 1.0, longest_s)
    }

    pub(super) fn read_hours(&mut self, key: &str, longest_h: f64) -> Duration {
        self.read_duration(key, "hours", HOUR_S, longest_h)
    }

    pub(super) fn read_duration(
        &mut self,
        key: &str,
        unit: &str,
        unit_s: f64,
        longest: f64,
    ) -> Duration {
        let number = self.read_number_of(key, unit, DURATION_MIN_S..=longest);
        Duration::from_secs_f64(number * unit_s)
    }

    /// Reads a number of `unit` within `range`.
    pub(super) fn read_number_of(
        &mut self,
        key: &str,
        unit: &str,
        range: RangeInclusive<f64>,
    ) -> f64 {
        let expected = format!("a number of {unit}");
        self.read_as(key, |value| {
            let number = parse_number(value, &expected)?;
            let (least, longest) = (range.start(), range.end());
            match range.contains(&number) {
                true => Ok(number),
                false => Err(format!(
                    "expected {least} to {longest} {unit}, found {number}"
                )),
            }
        })
    }

    /// Reads a string and validates it with `check`, whose error names the expected value.
    pub(super) fn read_text(
        &mut self,
        key: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> String {
        self.read_as(key, |value| {
            let text = parse_string(value)?;
            check(text.expose()).map_err(|expected| describe_mismatch(&expected, text.expose()))?;
            Ok(text.expose().to_owned())
        })
    }

    pub(super) fn read_choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let first = choices.first().expect("a choice has alternatives").1;
        let chosen = self.read_as(key, |value| {
            let text = parse_string(value)?;
            let chosen = choices.iter().find(|(name, _)| *name == text.expose());
            chosen.map(|(_, choice)| Some(*choice)).ok_or_else(|| {
                let names: Vec<_> = choices
                    .iter()
                    .map(|(name, _)| format!("{name:?}"))
                    .collect();
                describe_mismatch(&names.join(" or "), text.expose())
            })
        });
        chosen.unwrap_or(first)
    }

    pub(super) fn read_secret(&mut self, key: &str) -> Secret {
        self.read_as(key, |value| {
            let text = parse_string(value)?;
            // An empty secret counts as missing, which is an error only for a node.
            if text.is_empty() {
                Ok(text)
            } else {
                check_sendable(text)
            }
        })
    }

    pub(super) fn read_secrets(
        &mut self,
        key: &str,
        check: fn(Secret) -> Result<Secret, String>,
    ) -> Vec<Secret> {
        self.read_list(key, |value| check(parse_string(value)?))
    }

    pub(super) fn read_networks(&mut self, key: &str) -> Vec<ipnet::IpNet> {
        self.read_list(key, |value| {
            let text = parse_string(value)?;
            let network = text
                .expose()
                .parse()
                .or_else(|_| text.expose().parse::<IpAddr>().map(Into::into));
            network.map_err(|_| describe_mismatch("a network such as 10.0.0.0/8", text.expose()))
        })
    }

    /// Reads the items of a list with `read`. Invalid items are reported, each at its own line.
    pub(super) fn read_list<T>(
        &mut self,
        key: &str,
        read: impl Fn(SettingValue) -> Result<T, String>,
    ) -> Vec<T> {
        let DraftSetting { value, origin } = self.take_setting(key);
        let items = match value {
            SettingValue::List(items) => items,
            SettingValue::Raw(text) => split_list(text.expose(), &origin),
            other => {
                self.problems.push(ConfigProblem::for_key(
                    key,
                    origin,
                    describe_unexpected("a list of strings", &other),
                ));
                return Vec::new();
            }
        };
        let mut wrong = |origin, detail| {
            self.problems
                .push(ConfigProblem::for_key(key, origin, detail))
        };
        items
            .into_iter()
            .filter_map(|item| {
                read(item.value)
                    .map_err(|detail| wrong(item.origin, detail))
                    .ok()
            })
            .collect()
    }
}

fn parse_encryption_key(text: &Secret) -> Result<EncryptionKey, String> {
    let expected = "expected 32 bytes in base64, such as `openssl rand -base64 32` makes";
    EncryptionKey::parse(text).ok_or_else(|| expected.to_owned())
}

impl Config {
    /// Builds the configuration that follows this one in a running node: that of `draft`, but for the keys
    /// that need a restart.
    ///
    /// # Errors
    /// All problems of `draft`; or else those that its live keys have beside the values that stay.
    pub(super) fn succeed(
        &self,
        mut draft: ConfigDraft,
    ) -> Result<(Self, ConfigChanges), ConfigError> {
        draft.clone().finish(self.purpose)?;
        let changes = draft.keep_restart_keys(&self.written);
        Ok((draft.finish(self.purpose)?, changes))
    }
}

/// Finds a configured source with the name of a declared event's first word. Events of the two
/// could not be told apart.
fn find_name_clash(sources: &SourcesConfig) -> Option<&'static str> {
    let words = sources
        .crm
        .events
        .iter()
        .filter_map(|declared| declared.name.as_str().split('.').next());
    let custom = sources.custom.iter().map(|custom| custom.name.as_str());
    let custom: HashSet<_> = custom.collect();
    words.into_iter().find(|word| custom.contains(word))
}

/// Tells if `text` is an http or https URL that a path can be appended to.
fn is_base_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte))
    })
}

fn check_address(text: &str) -> Result<(), String> {
    let address = text.parse::<SocketAddr>();
    address
        .map(|_| ())
        .map_err(|_| "an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

fn check_not_blank(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("a path".to_owned())
    } else {
        Ok(())
    }
}

/// Splits a comma-separated variable into items; an empty text is an empty list.
fn split_list(text: &str, origin: &SettingOrigin) -> Vec<DraftSetting> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let item = |item: &str| DraftSetting {
        value: SettingValue::Raw(Secret::new(item.trim())),
        origin: origin.clone(),
    };
    text.split(',').map(item).collect()
}

/// Tells if `text` is a log filter in which each bare word is a level. `EnvFilter` would read the
/// typo `inof` as a target and log nothing else.
fn is_log_filter(text: &str) -> bool {
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
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "_:-.".contains(c))
}

#[cfg(test)]
mod tests;

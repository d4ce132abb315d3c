//! Keys whose values a running node cannot change, and the comparison of two configurations.
//!
//! A reload puts every other key into force. These keys size or place what exists once for the life of the
//! process: listeners, threads, the store, queues and tables.

use super::draft::ConfigDraft;
use super::setting::SettingValue;

/// Keys that need a restart. One that ends with a dot stands for all keys below it.
const RESTART_KEYS: [&str; 36] = [
    "server.bind",
    "server.workers",
    "server.request_timeout_s",
    "server.keep_alive_s",
    "server.connections_max",
    "server.shutdown_grace_s",
    "store.",
    "admin.bind",
    "admin.tokens_max",
    "dashboard.session_h",
    "router.",
    "entity.",
    "audit.",
    "call_log.",
    "cluster.",
    "delivery.hold_days",
    "delivery.ca_files",
    "delivery.proxy_url",
    "delivery.subscriptions_max",
    "delivery.attempts_max",
    "delivery.window_events",
    "delivery.window_bytes",
    "delivery.memory_bytes",
    "delivery.stopped_lanes_max",
    "delivery.dead_letters_max",
    "delivery.dead_letters_total_max",
    "delivery.jobs_max",
    "delivery.jobs_bytes_max",
    "sources.c2s.enrichment.",
    "sources.instagram.accounts_max",
    "alerts.check_interval_s",
    "telemetry.log",
    "telemetry.otlp_endpoint",
    "telemetry.otlp_headers",
    "telemetry.otlp_queue_spans",
    "telemetry.otlp_sampling_ratio",
];

/// Tells if a running node cannot change the value of `key`.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    let is_source_time = key.starts_with("sources.")
        && [".idempotency_window_h", ".retention_days"]
            .iter()
            .any(|name| key.ends_with(name));
    is_source_time
        || RESTART_KEYS.iter().any(|known| match known.ends_with('.') {
            true => key.starts_with(known),
            false => key == *known,
        })
}

/// Keys whose values differ between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Changed keys that a running node puts into force, sorted.
    pub live: Vec<String>,
    /// Changed keys that need a restart, sorted. A running node keeps their former values.
    pub restart: Vec<String>,
}

impl ConfigChanges {
    /// Adds `key`, whose file has changed, to those that are put into force.
    pub(super) fn note_live(&mut self, key: &str) {
        if let Err(place) = self.live.binary_search_by(|known| known.as_str().cmp(key)) {
            self.live.insert(place, key.to_owned());
        }
    }
}

impl ConfigDraft {
    /// Takes the values of `running` for the changed keys that need a restart. Returns all changed keys.
    pub(super) fn keep_restart_keys(&mut self, running: &Self) -> ConfigChanges {
        let mut changes = ConfigChanges::default();
        for (key, setting) in &mut self.settings {
            let old = running.settings.get(key);
            if old.is_some_and(|old| is_same(&old.value, &setting.value)) {
                continue;
            }
            match old.filter(|_| needs_restart(key)) {
                Some(old) => {
                    *setting = old.clone();
                    changes.restart.push(key.clone());
                }
                None => changes.live.push(key.clone()),
            }
        }
        // Keys of configured sources that are gone.
        let gone = running.settings.keys();
        let gone = gone.filter(|key| !self.settings.contains_key(*key));
        changes.live.extend(gone.cloned());
        changes.live.sort();
        changes
    }
}

/// Tells if two values as written mean the same, also if one is in a file and the other in a variable.
fn is_same(left: &SettingValue, right: &SettingValue) -> bool {
    use SettingValue::{Raw, Text};
    match (left, right) {
        (Raw(left) | Text(left), Raw(right) | Text(right)) => left.expose() == right.expose(),
        _ => spell(left) == spell(right),
    }
}

/// Spells a value as a variable would have it, the items of a list separated by commas alone.
fn spell(value: &SettingValue) -> String {
    match value {
        SettingValue::Raw(text) => {
            let items = text.expose().split(',').map(str::trim);
            items.collect::<Vec<_>>().join(",")
        }
        SettingValue::Text(text) => text.expose().to_owned(),
        SettingValue::Integer(number) => number.to_string(),
        SettingValue::Float(number) => number.to_string(),
        SettingValue::Boolean(value) => value.to_string(),
        SettingValue::List(items) => {
            let items = items.iter().map(|item| spell(&item.value));
            items.collect::<Vec<_>>().join(",")
        }
        SettingValue::Other(name) => (*name).to_owned(),
        SettingValue::Taken => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(env: &[(&str, &str)]) -> ConfigDraft {
        ConfigDraft::from_toml(None, env.iter().copied())
    }

    #[test]
    fn every_key_that_needs_a_restart_is_a_key() {
        let known = draft(&[]);
        for key in RESTART_KEYS {
            let is_known = known.settings.keys().any(|found| match key.ends_with('.') {
                true => found.starts_with(key),
                false => found == key,
            });
            assert!(is_known, "{key}");
        }
        assert!(needs_restart("store.path") && !needs_restart("store"));
        assert!(needs_restart("sources.custom.shop.idempotency_window_h"));
        assert!(needs_restart("sources.custom.shop.retention_days"));
        assert!(needs_restart("sources.leads.retention_days"));
        assert!(!needs_restart("admin.token") && !needs_restart("server.bind_x"));
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_was_and_the_rest_changes() {
        let running = draft(&[("HOOKYARD_SERVER__WORKERS", "2")]);
        let mut new = draft(&[
            ("HOOKYARD_SERVER__WORKERS", "4"),
            ("HOOKYARD_STORE__PATH", "elsewhere"),
            ("HOOKYARD_ADMIN__TOKEN", "other"),
        ]);
        let changes = new.keep_restart_keys(&running);
        assert_eq!(changes.live, ["admin.token"]);
        assert_eq!(changes.restart, ["server.workers", "store.path"]);
        assert_eq!(spell(&new.settings["server.workers"].value), "2");
        assert_eq!(spell(&new.settings["store.path"].value), "hookyard-data");
        assert_eq!(spell(&new.settings["admin.token"].value), "other");
    }

    #[test]
    fn the_same_value_in_a_file_and_in_a_variable_is_no_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h.toml");
        let text =
            "[server]\nworkers = 3\ndocs = false\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n";
        std::fs::write(&path, text).expect("written");
        let of_file = ConfigDraft::from_toml(Some(&path), [] as [(&str, &str); 0]);
        let mut of_variables = draft(&[
            ("HOOKYARD_SERVER__WORKERS", "3"),
            ("HOOKYARD_SERVER__DOCS", "false"),
            ("HOOKYARD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ]);
        let changes = of_variables.keep_restart_keys(&of_file);
        assert_eq!(changes, ConfigChanges::default());
    }
}

//! Reads how long the content of single sources is kept, and checks that against the other times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Config;
use super::super::draft::{ConfigDraft, custom_section};
use super::super::problem::ConfigProblem;
use super::super::values::{DAY_S, HOUR_S};

/// Sources of the built-in contracts.
const BUILT_IN: [&str; 5] = ["support", "leads", "c2s", "crm", "instagram"];

const STORE_KEY: &str = "store.retention_days";

impl ConfigDraft {
    /// Reads `store.retention_days`; `None` keeps events for ever.
    pub(super) fn read_store_retention(&mut self) -> Option<Duration> {
        self.read_retention_days(STORE_KEY)
    }

    /// Reads the sources with days of their own.
    pub(super) fn read_source_retention(&mut self) -> BTreeMap<String, Duration> {
        let sections = self.source_sections().into_iter();
        let days = sections.filter_map(|(name, section)| {
            let days = self.read_retention_days(&format!("{section}.retention_days"))?;
            Some((name, days))
        });
        days.collect()
    }

    fn read_retention_days(&mut self, key: &str) -> Option<Duration> {
        let days: u32 = self.read_integer(key, 0..=36_500);
        (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 3_600))
    }

    /// Returns the names of all sources, built in and configured, with the sections of their keys.
    pub(super) fn source_sections(&self) -> Vec<(String, String)> {
        let custom = self.custom.iter();
        let custom = custom.filter_map(|table| Some((table.name.clone()?, table.section.clone())));
        let built_in = BUILT_IN.map(|name| (name.to_owned(), format!("sources.{name}")));
        built_in.into_iter().chain(custom).collect()
    }

    /// Returns the section of the source with this name.
    pub(super) fn section_of_source(&self, name: &str) -> String {
        let section = custom_section(name);
        match self.has_custom_section(&section) {
            true => section,
            false => format!("sources.{name}"),
        }
    }

    /// Reports a retention below the window in which duplicates are told, or that of a source beyond
    /// that of all events.
    pub(super) fn check_retention(&mut self, config: &Config) {
        let sources = &config.sources;
        let support = ("support", sources.support.idempotency_window);
        if let Some(kept) = config.store.retention {
            self.check_window(STORE_KEY, kept, support);
        }
        let custom = sources.custom.iter();
        let custom = custom.map(|custom| (custom.name.as_str(), custom.idempotency_window));
        for (name, window) in std::iter::once(support).chain(custom) {
            if let Some(kept) = sources.retention.get(name) {
                let key = format!("{}.retention_days", self.section_of_source(name));
                self.check_window(&key, *kept, (name, window));
            }
        }

        for (name, kept) in &sources.retention {
            let Some(all) = config.store.retention.filter(|all| all < kept) else {
                continue;
            };
            let key = format!("{}.retention_days", self.section_of_source(name));
            let detail = format!(
                "expected at most {STORE_KEY} ({}), after which all events go; found {}",
                all.as_secs_f64() / DAY_S,
                kept.as_secs_f64() / DAY_S
            );
            self.report_retention(&key, STORE_KEY, detail);
        }
    }

    /// Reports the value `kept` of `key` if it is below the idempotency window of a source.
    fn check_window(&mut self, key: &str, kept: Duration, (source, window): (&str, Duration)) {
        if kept >= window {
            return;
        }
        let window_key = format!("{}.idempotency_window_h", self.section_of_source(source));
        let detail = format!(
            "expected at least {window_key} ({} h), because duplicates are told by the stored \
             events; found {} h",
            window.as_secs_f64() / HOUR_S,
            kept.as_secs_f64() / HOUR_S
        );
        self.report_retention(key, &window_key, detail);
    }

    fn report_retention(&mut self, key: &str, other_key: &str, detail: String) {
        let origin = self.origin_of(&[key, other_key]);
        self.problems
            .push(ConfigProblem::for_key(key, origin, detail));
    }
}

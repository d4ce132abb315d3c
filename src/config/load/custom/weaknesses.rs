//! Finds places and secrets of a configured source that are valid and probably mistakes: most of
//! them become warnings, those that lose events are refused.

use std::collections::HashMap;

use super::super::super::Config;
use super::super::super::custom::CustomSourceTable;
use super::super::super::draft::ConfigDraft;
use super::super::super::setting::SettingValue;
use crate::provider::{FieldLocator, ProviderHandshake};

/// First letters of Stripe's API keys, which sign nothing.
const API_KEY_PREFIXES: [&str; 3] = ["sk_live_", "sk_test_", "rk_"];

impl ConfigDraft {
    /// Refuses constants that make every event the same or hide other places, and warns of texts
    /// that are read as a constant or a header and look like a place in the body.
    pub(super) fn check_places(
        &mut self,
        table: &CustomSourceTable,
        name: &str,
        places: &[FieldLocator],
    ) {
        let must_differ = ["idempotency_key", "occurred_at"].contains(&name);
        for (index, place) in places.iter().enumerate() {
            let text = place.text();
            let pointer = suggest_pointer(text);
            if must_differ && place.has_one_text() {
                let detail = format!(
                    "{text:?} is a constant, which is the same for every event; did you mean \
                     {pointer:?}?"
                );
                self.report_problem(table, name, detail);
            } else if place.is_constant() && index + 1 < places.len() {
                let detail = format!(
                    "{text:?} is a constant, which is always found, so the places behind it never \
                     count; did you mean {pointer:?}?"
                );
                self.report_problem(table, name, detail);
            } else if place.is_constant() && looks_like_field(name, text) {
                let detail = format!(
                    "{text:?} is a constant, found as it is; for a member of the body write \
                     {pointer:?}"
                );
                self.warn_of_key(table, name, detail);
            } else if let Some(header) = place.find_odd_header() {
                let header = spell_as_in(text, header);
                let pointer = suggest_pointer(header);
                let detail = format!(
                    "{header:?} is read as a header; for a member of the body write {pointer:?}, \
                     for the header \"{{{header}}}\""
                );
                self.warn_of_key(table, name, detail);
            }
        }
    }

    /// Warns of the key `name` of `table`, at the key's origin or at that of the table.
    pub(super) fn warn_of_key(
        &mut self,
        table: &CustomSourceTable,
        name: &str,
        detail: impl Into<String>,
    ) {
        let warning = self.describe_key(table, name, detail);
        self.warnings.push(warning);
    }

    /// Warns of an API key of Stripe in the place of the secret that signs.
    pub(super) fn check_api_keys(&mut self, table: &CustomSourceTable) {
        let is_api_key = |value: &SettingValue| match value {
            SettingValue::Text(text) | SettingValue::Raw(text) => {
                let mut secrets = text.expose().split(',');
                secrets.any(|text| {
                    let mut prefixes = API_KEY_PREFIXES.iter();
                    prefixes.any(|prefix| text.trim_start().starts_with(prefix))
                })
            }
            _ => false,
        };
        let key = format!("{}.secrets", table.section);
        let has_api_key = match self.settings.get(&key).map(|setting| &setting.value) {
            Some(SettingValue::List(items)) => items.iter().any(|item| is_api_key(&item.value)),
            Some(value) => is_api_key(value),
            None => false,
        };
        if has_api_key {
            let detail = "a secret looks like an API key of Stripe; the secret that signs the \
                          events is that of the endpoint, whsec_…";
            self.warn_of_key(table, "secrets", detail);
        }
    }

    /// Warns of what an enabled source still needs from its surroundings.
    pub(in crate::config::load) fn check_custom_surroundings(&mut self, config: &Config) {
        let tables = std::mem::take(&mut self.custom);
        let named = tables
            .iter()
            .filter_map(|table| Some((table.name.as_deref()?, table)));
        let by_name: HashMap<_, _> = named.collect();
        for custom in config.sources.custom.iter().filter(|custom| custom.enabled) {
            let Some(table) = by_name.get(custom.name.as_str()) else {
                continue;
            };
            let signing = &custom.source.signing;
            let subscribes = matches!(signing.handshake(), ProviderHandshake::Subscription);
            if subscribes && custom.verify_token.is_empty() {
                let detail = "missing: Meta cannot subscribe without a token that you choose and \
                              enter there too";
                self.warn_of_key(table, "verify_token", detail);
            }
            if signing.signs_url() && config.server.public_url.is_none() {
                let detail = "its sender signs the URL that it calls: behind a proxy set \
                              server.public_url, or every signature is refused";
                self.warn_of_key(table, "name", detail);
            }
        }
        self.custom = tables;
    }
}

/// Spells `text` as a pointer into the body: `data.id`, `$.data.id` and `data/id` are `/data/id`.
fn suggest_pointer(text: &str) -> String {
    let path = text.trim_start_matches('$').replace('.', "/");
    format!("/{}", path.trim_start_matches('/'))
}

/// Returns the `name` in lower case as it is spelled in `text`, since a member's name has cases.
fn spell_as_in<'t>(text: &'t str, name: &'t str) -> &'t str {
    let start = text.to_ascii_lowercase().find(name);
    let spelled = start.and_then(|start| text.get(start..start + name.len()));
    spelled.unwrap_or(name)
}

/// Returns true if the constant `text` of the field `name` looks like a place in the body. The name
/// of an event often has dots.
fn looks_like_field(name: &str, text: &str) -> bool {
    const FIELD_ENDS: [&str; 7] = ["id", "type", "event", "name", "key", "uid", "uuid"];
    let end = text.rsplit(['.', '_', '/']).next().unwrap_or_default();
    let is_field = FIELD_ENDS.contains(&end.to_ascii_lowercase().as_str()) || text.ends_with("Id");
    is_field || text.contains(['$', '/']) || text.contains('.') && name != "event"
}

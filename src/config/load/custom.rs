//! Validates configured sources: the keys that a preset or a scheme needs, and keys that exclude
//! each other.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::super::custom::{CustomSourceConfig, CustomSourceTable};
use super::super::draft::{ConfigDraft, env_variable_name};
use super::super::problem::{ConfigProblem, SettingOrigin};
use super::super::setting::SettingValue;
use super::super::values::{DAY_S, describe_mismatch, parse_number, parse_string};
use super::super::{Config, Secret};
use super::ConfigPurpose;
use crate::error_chain::format_error_chain;
use crate::event::{InternedName, Kind};
use crate::provider::presets::PresetFields;
use crate::provider::{
    BodyLayout, EventSchemas, FieldAlternatives, FieldLocator, FieldLocators, FormCharset,
    ItemPath, ItemPaths, ProviderHandshake, ProviderPreset, SchemaViolationPolicy, SourceSigning,
    VerificationKey, WebhookSource, find_preset, parse_header_name, presets,
};
use crate::suggest::nearest_name;

mod scheme;
mod weaknesses;

/// Default tolerance of a scheme's signed time. Most known providers use 5 minutes.
const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

impl ConfigDraft {
    /// Returns the valid configured sources and reports the problems of the others.
    pub(super) fn read_custom_sources(
        &mut self,
        purpose: ConfigPurpose,
    ) -> Vec<CustomSourceConfig> {
        let tables = std::mem::take(&mut self.custom);
        let sources = tables
            .iter()
            .filter_map(|table| self.read_custom_source(table, purpose))
            .collect();
        self.custom = tables;
        sources
    }

    /// Reports each enabled configured source without a secret.
    pub(super) fn check_custom_secrets(&mut self, config: &Config) {
        let keyless = config
            .sources
            .custom
            .iter()
            .filter(|custom| custom.enabled && custom.source.keys.is_empty());
        for custom in keyless {
            let name = Some(custom.name.as_str());
            let Some(table) = self
                .custom
                .iter()
                .find(|table| table.name.as_deref() == name)
            else {
                continue;
            };
            let key = format!("{}.secrets", table.section);
            let detail = format!(
                "missing: set the sender's secret here or in {}",
                env_variable_name(&key)
            );
            self.problems
                .push(ConfigProblem::for_key(&key, table.origin.clone(), detail));
        }
    }

    fn read_custom_source(
        &mut self,
        table: &CustomSourceTable,
        purpose: ConfigPurpose,
    ) -> Option<CustomSourceConfig> {
        let problems_before = self.problems.len();
        let key = |name: &str| format!("{}.{name}", table.section);

        self.check_api_keys(table);
        let enabled = self.read_boolean(&key("enabled"));
        let rate_per_minute = self.read_integer(&key("rate_per_minute"), 0..=u32::MAX.into());
        let signing = self.read_signing(table);
        let keys = self.read_keys(&key("secrets"), signing.as_ref());
        let tolerance = self.read_tolerance(table, signing.as_ref());
        let requires_signed_time = self.read_required_time(table, signing.as_ref());
        let verify_token = self.read_verify_token(&key("verify_token"), signing.as_ref());
        let idempotency_window = self.read_hours(&key("idempotency_window_h"), 24.0 * 366.0);
        let answers_validation_token = self.read_boolean(&key("validation_token"));
        let fields = self.read_field_locators(table, signing.as_ref());
        let layout = self.read_body_layout(table, signing.as_ref());
        let schemas = self.read_event_schemas(table, purpose);

        let (Some(signing), Some(fields), Some(name)) = (signing, fields, &table.name) else {
            return None;
        };
        let kind = Kind::intern_custom(name).filter(|_| self.problems.len() == problems_before)?;
        let source = WebhookSource {
            signing,
            keys,
            tolerance,
            requires_signed_time,
            fields,
            layout,
            schemas,
        };
        self.warn_of_weak_proof(table, &source);
        Some(CustomSourceConfig {
            name: InternedName::intern(name),
            kind,
            enabled,
            source,
            verify_token,
            answers_validation_token,
            rate_per_minute,
            idempotency_window,
        })
    }

    /// Reports a problem of the key `name` of `table`, at the key's origin or at that of the
    /// table.
    fn report_problem(&mut self, table: &CustomSourceTable, name: &str, detail: impl Into<String>) {
        let problem = self.describe_key(table, name, detail);
        self.problems.push(problem);
    }

    fn describe_key(
        &self,
        table: &CustomSourceTable,
        name: &str,
        detail: impl Into<String>,
    ) -> ConfigProblem {
        let key = format!("{}.{name}", table.section);
        let origin = match self.origin_of(&[&key]) {
            SettingOrigin::Defaults => table.origin.clone(),
            origin => origin,
        };
        ConfigProblem::for_key(&key, origin, detail)
    }

    /// Warns of a source that takes a captured request for ever, or tokens made for others.
    fn warn_of_weak_proof(&mut self, table: &CustomSourceTable, source: &WebhookSource) {
        let is_decided = self.is_set(&format!("{}.require_signed_time", table.section));
        if let Some(untimed) = source.signing.untimed_credential().filter(|_| !is_decided) {
            let detail = format!(
                "{untimed} are taken, and a captured request with one stays valid: set it to true if \
                 the sender signs a time, or to false"
            );
            self.warn_of_key(table, "require_signed_time", detail);
        }
        if source.tolerance.is_zero() && source.signing.signs_time() {
            let detail = "0 accepts any time, so a captured request stays valid, unless its sender \
                          signed an end";
            self.warn_of_key(table, "tolerance_s", detail);
        }
        if source.signing.takes_tokens_for_others() {
            let detail = "not set, and neither is the issuer: every token of this public key is \
                          taken, also one that was made for another receiver";
            self.warn_of_key(table, "scheme.audience", detail);
        }
    }

    fn is_set(&self, key: &str) -> bool {
        self.settings
            .get(key)
            .is_some_and(|setting| setting.origin != SettingOrigin::Defaults)
    }

    /// Reads a text with `read`, whose error describes the problem; `None` if the key is not set.
    fn read_optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.is_set(key) {
            return None;
        }
        self.read_as(key, |value| {
            let text = parse_string(value)?;
            read(text.expose()).map(Some)
        })
    }

    /// Returns true if a key of the source's scheme is set.
    fn has_scheme(&self, table: &CustomSourceTable) -> bool {
        let scheme = format!("{}.scheme.", table.section);
        // Only these keys: there may be thousands of sources.
        let keys = self.settings.range(scheme.clone()..).map(|(key, _)| key);
        let mut keys = keys.take_while(|key| key.starts_with(&scheme));
        keys.any(|key| self.is_set(key))
    }

    /// Reads the source's preset or scheme; `None` after a reported problem.
    fn read_signing(&mut self, table: &CustomSourceTable) -> Option<SourceSigning> {
        let key = |name: &str| format!("{}.{name}", table.section);
        match (self.is_set(&key("preset")), self.has_scheme(table)) {
            (true, false) => self
                .read_optional(&key("preset"), parse_preset)
                .map(SourceSigning::Preset),
            (false, true) => self.read_scheme(table).map(SourceSigning::Own),
            (true, true) => {
                self.report_problem(table, "preset", "expected a preset or a scheme, found both");
                None
            }
            (false, false) => {
                let detail = format!(
                    "missing: name one of {}, or describe a scheme",
                    preset_names().join(", ")
                );
                self.report_problem(table, "preset", detail);
                None
            }
        }
    }

    fn read_keys(&mut self, key: &str, signing: Option<&SourceSigning>) -> Vec<VerificationKey> {
        self.read_list(key, |value| {
            let secret = parse_string(value)?;
            // Without a scheme, the format of its secrets is unknown.
            let Some(signing) = signing else {
                return Ok(None);
            };
            signing
                .parse_key(secret.expose())
                .map(Some)
                .map_err(|bad| bad.to_string())
        })
        .into_iter()
        .flatten()
        .collect()
    }

    fn read_tolerance(
        &mut self,
        table: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> Duration {
        let [own, shared] = ["scheme.tolerance_s", "tolerance_s"].map(|name| {
            let key = format!("{}.{name}", table.section);
            if !self.is_set(&key) {
                return None;
            }
            self.read_as(&key, |value| {
                let seconds = parse_number(value, "a number of seconds")?;
                let fits = (0.0..=DAY_S).contains(&seconds);
                let tolerance = fits.then(|| Some((name, Duration::from_secs_f64(seconds))));
                tolerance.ok_or_else(|| format!("expected 0 to {DAY_S} seconds, found {seconds}"))
            })
        });
        if own.is_some() && shared.is_some() {
            self.report_problem(table, "tolerance_s", "already set as scheme.tolerance_s");
        }

        let default = match signing {
            Some(SourceSigning::Preset(preset)) => preset.tolerance,
            Some(SourceSigning::Own(scheme)) => scheme.has_timestamp().then_some(USUAL_TOLERANCE),
            None => Some(USUAL_TOLERANCE),
        };
        if let (Some((name, tolerance)), None) = (own.or(shared), default)
            && !tolerance.is_zero()
        {
            self.report_problem(table, name, "not used: this source signs no timestamp");
        }
        own.or(shared)
            .map(|(_, tolerance)| tolerance)
            .or(default)
            .unwrap_or_default()
    }

    fn read_verify_token(&mut self, key: &str, signing: Option<&SourceSigning>) -> Secret {
        let subscribes = signing
            .is_none_or(|signing| matches!(signing.handshake(), ProviderHandshake::Subscription));
        self.read_as(key, |value| {
            let token = parse_string(value)?;
            if token.is_empty() || subscribes {
                Ok(token)
            } else {
                Err("not used: only the preset meta has a subscription handshake".to_owned())
            }
        })
    }

    /// Returns the places of the event's fields; `None` if a required field has no place.
    fn read_field_locators(
        &mut self,
        table: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> Option<FieldLocators> {
        let preset = match signing {
            Some(SourceSigning::Preset(preset)) => Some(*preset),
            Some(SourceSigning::Own(_)) | None => None,
        };
        let mut read = |name, pick: fn(&PresetFields) -> &'static [&'static str]| {
            let defaults = preset.map_or(&[][..], |preset| pick(&preset.defaults));
            self.read_places(table, name)
                .unwrap_or_else(|| FieldAlternatives::from_preset(defaults))
        };
        let fields = FieldLocators {
            entity: read("entity", |fields| fields.entity),
            event: read("event", |fields| fields.event),
            idempotency_key: read("idempotency_key", |fields| fields.idempotency_key),
            occurred_at: read("occurred_at", |fields| fields.occurred_at),
            expects_time: self.is_set(&format!("{}.occurred_at", table.section)),
            has_preset_key: !self.is_set(&format!("{}.idempotency_key", table.section)),
        };

        let required = [("entity", &fields.entity), ("event", &fields.event)];
        // A preset that is not known yet may have places of its own.
        let has_preset = self.is_set(&format!("{}.preset", table.section));
        let is_own = signing.is_some() || self.has_scheme(table) && !has_preset;
        for (name, places) in required {
            let is_set = self.is_set(&format!("{}.{name}", table.section));
            if places.is_empty() && !is_set && is_own {
                let detail =
                    "missing: set a JSON pointer such as /data/id, or the name of a header";
                self.report_problem(table, name, detail);
            }
        }
        let is_complete = required.iter().all(|(_, places)| !places.is_empty());
        is_complete.then_some(fields)
    }

    /// Returns the way in which the bodies of the source hold its events.
    fn read_body_layout(
        &mut self,
        table: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> BodyLayout {
        let defaults = match signing {
            Some(SourceSigning::Preset(preset)) => &preset.defaults,
            Some(SourceSigning::Own(_)) | None => &PresetFields::NONE,
        };
        let json_field = self.read_optional(&format!("{}.form_json", table.section), |text| {
            Ok(text.to_owned().into_boxed_str())
        });
        let preset_fields = || defaults.json_fields.iter().map(|name| (*name).into());
        BodyLayout {
            items: self
                .read_item_paths(table)
                .unwrap_or_else(|| ItemPaths::from_preset(defaults.items)),
            json_fields: json_field.map_or_else(|| preset_fields().collect(), |name| vec![name]),
            decompress: self.read_boolean(&format!("{}.decompress", table.section)),
            charset: self.read_charset(table, signing),
        }
    }

    /// Returns the character set of the source's forms, if it is set.
    fn read_charset(
        &mut self,
        table: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> Option<FormCharset> {
        let key = format!("{}.charset", table.section);
        if self.is_set(&key) && signing.is_some_and(|signing| !signing.sends_forms()) {
            self.report_problem(table, "charset", "not used: this preset reads JSON only");
        }
        self.read_optional(&key, |text| {
            let charset = FormCharset::parse(&text.to_ascii_lowercase());
            let expected = "one of utf-8, us-ascii, iso-8859-1, windows-1252";
            charset.ok_or_else(|| describe_mismatch(expected, text))
        })
    }

    /// Tells if the source refuses what proves no time.
    fn read_required_time(
        &mut self,
        table: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> bool {
        let requires = self.read_boolean(&format!("{}.require_signed_time", table.section));
        if requires && signing.is_some_and(|signing| !signing.signs_time()) {
            let detail = "not used: this source signs no timestamp";
            self.report_problem(table, "require_signed_time", detail);
        }
        requires
    }

    /// Loads the schemas of the events, if there is a folder of them and `purpose` needs them. The
    /// folder is relative to that of the file that names it.
    fn read_event_schemas(
        &mut self,
        table: &CustomSourceTable,
        purpose: ConfigPurpose,
    ) -> EventSchemas {
        let [schemas, violations] =
            ["schemas", "schema_violations"].map(|name| format!("{}.{name}", table.section));
        if self.is_set(&violations) && !self.is_set(&schemas) {
            let detail = "not used: the source has no schemas";
            self.report_problem(table, "schema_violations", detail);
        }
        let policy = self.read_optional(&violations, |text| {
            parse_choice(text, &SchemaViolationPolicy::ALL)
        });
        let base = match self.origin_of(&[&schemas]) {
            SettingOrigin::File(file, _) => file.parent().map(Path::to_owned),
            _ => None,
        };
        self.read_optional(&schemas, |text| {
            if purpose == ConfigPurpose::Tool {
                return Ok(EventSchemas::default());
            }
            let folder = base.unwrap_or_default().join(text);
            EventSchemas::load(&folder, policy.unwrap_or_default())
                .map_err(|error| format_error_chain(&error))
        })
        .unwrap_or_default()
    }

    /// Reads the lists whose items are events; `None` if they are not set. An empty list of paths
    /// switches the preset's off.
    fn read_item_paths(&mut self, table: &CustomSourceTable) -> Option<ItemPaths> {
        let key = format!("{}.items", table.section);
        if !self.is_set(&key) {
            return None;
        }
        let parse = |text: &str| ItemPath::parse(text).map_err(|wrong| describe_wrong(wrong, text));
        let paths = match self.is_list(&key) {
            true => self.read_list(&key, |value| parse(parse_string(value)?.expose())),
            false => self.read_optional(&key, parse).into_iter().collect(),
        };
        ItemPaths::try_new(paths)
            .map_err(|wrong| self.report_problem(table, "items", wrong.to_string()))
            .ok()
    }

    /// Tells if the value of `key` is a list; an environment variable separates its items by commas.
    fn is_list(&self, key: &str) -> bool {
        self.settings
            .get(key)
            .is_some_and(|setting| match &setting.value {
                SettingValue::List(_) => true,
                SettingValue::Raw(text) => text.expose().contains(','),
                _ => false,
            })
    }

    /// Reads the places of the field `name`, one or a list; `None` if it is not set, or after a
    /// reported problem.
    fn read_places(&mut self, table: &CustomSourceTable, name: &str) -> Option<FieldAlternatives> {
        let key = format!("{}.{name}", table.section);
        if !self.is_set(&key) {
            return None;
        }
        if !self.is_list(&key) {
            let places = self.read_optional(&key, |text| {
                FieldAlternatives::from_text(text).map_err(|wrong| describe_wrong(wrong, text))
            })?;
            self.check_places(table, name, places.as_slice());
            return Some(places);
        }

        let problems_before = self.problems.len();
        let places = self.read_list(&key, |value| {
            let text = parse_string(value)?;
            FieldLocator::parse_alternative(text.expose())
                .map_err(|wrong| describe_wrong(wrong, text.expose()))
        });
        self.check_places(table, name, &places);
        if self.problems.len() > problems_before {
            return None;
        }
        FieldAlternatives::try_new(places)
            .map_err(|wrong| self.report_problem(table, name, wrong.to_string()))
            .ok()
    }
}

fn describe_wrong(wrong: impl Display, text: &str) -> String {
    format!("{wrong}, found {text:?}")
}

fn parse_preset(text: &str) -> Result<&'static ProviderPreset, String> {
    find_preset(text).ok_or_else(|| {
        let hint =
            nearest_name(text, preset_names()).map(|name| format!(" (the nearest is {name:?})"));
        describe_mismatch(&format!("one of {}", preset_names().join(", ")), text)
            + &hint.unwrap_or_default()
    })
}

fn preset_names() -> Vec<&'static str> {
    presets::ALL.iter().map(|preset| preset.name).collect()
}

fn require_header_name(text: &str) -> Result<String, String> {
    parse_header_name(text).ok_or_else(|| describe_mismatch("the name of a header", text))
}

fn parse_choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen
        .map(|(_, choice)| *choice)
        .ok_or_else(|| describe_mismatch(&format!("one of {}", join_names(choices)), text))
}

fn join_names<T>(choices: &[(&str, T)]) -> String {
    choices
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;

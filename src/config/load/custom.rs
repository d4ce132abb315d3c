//! Judges the configured sources: what a preset or a scheme needs, and what does not go together.

use std::borrow::Cow;
use std::time::Duration;

use super::super::custom::{CustomSourceConfig, CustomSourceTable};
use super::super::draft::{ConfigDraft, env_variable_name};
use super::super::problem::{ConfigProblem, SettingOrigin};
use super::super::values::{DAY_S, describe_mismatch, parse_number, parse_string};
use super::super::{Config, Secret};
use crate::event::{InternedName, Kind};
use crate::provider::{
    FieldLocator, FieldLocators, ProviderHandshake, ProviderPreset, SignatureAlgorithm,
    SignatureEncoding, SignatureScheme, SignedContentPart, SignedTemplate, SourceSigning,
    VerificationKey, WebhookSource, find_preset, parse_header_name, presets,
};
use crate::suggest::nearest_name;

/// How far the time in a scheme of one's own may be off unless it says so: what the known providers
/// settled on.
const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// What an algorithm makes of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemeType {
    Signature(SignatureAlgorithm),
    Token,
    Basic,
}

const SCHEME_TYPES: [(&str, SchemeType); 6] = [
    (
        "hmac-sha256",
        SchemeType::Signature(SignatureAlgorithm::HmacSha256),
    ),
    (
        "hmac-sha512",
        SchemeType::Signature(SignatureAlgorithm::HmacSha512),
    ),
    (
        "hmac-sha1",
        SchemeType::Signature(SignatureAlgorithm::HmacSha1),
    ),
    (
        "ed25519",
        SchemeType::Signature(SignatureAlgorithm::Ed25519),
    ),
    ("token", SchemeType::Token),
    ("basic", SchemeType::Basic),
];

/// The keys of a scheme that only signatures have.
const SIGNATURE_ONLY_KEYS: [&str; 4] = ["encoding", "signed", "timestamp_header", "tolerance_s"];

impl ConfigDraft {
    /// Every configured source that has nothing wrong with it; the problems of the others are
    /// noted.
    pub(super) fn read_custom_sources(&mut self) -> Vec<CustomSourceConfig> {
        let listed = std::mem::take(&mut self.custom);
        let sources = listed
            .iter()
            .filter_map(|listed| self.read_custom_source(listed))
            .collect();
        self.custom = listed;
        sources
    }

    /// Notes each enabled configured source without a secret.
    pub(super) fn check_custom_secrets(&mut self, config: &Config) {
        let keyless = config
            .sources
            .custom
            .iter()
            .filter(|custom| custom.enabled && custom.source.keys.is_empty());
        for custom in keyless {
            let name = Some(custom.name.as_str());
            let Some(listed) = self
                .custom
                .iter()
                .find(|listed| listed.name.as_deref() == name)
            else {
                continue;
            };
            let key = format!("{}.secrets", listed.section);
            let detail = format!(
                "missing: set what the sender shows you here or in {}",
                env_variable_name(&key)
            );
            self.problems
                .push(ConfigProblem::for_key(&key, listed.place.clone(), detail));
        }
    }

    fn read_custom_source(&mut self, listed: &CustomSourceTable) -> Option<CustomSourceConfig> {
        let before = self.problems.len();
        let key = |name: &str| format!("{}.{name}", listed.section);
        let enabled = self.read_boolean(&key("enabled"));
        let rate_per_minute = self.read_integer(&key("rate_per_minute"), 0..=u32::MAX.into());
        let signing = self.read_signing(listed);
        let keys = self.read_keys(&key("secrets"), signing.as_ref());
        let tolerance = self.read_tolerance(listed, signing.as_ref());
        let verify_token = self.read_verify_token(&key("verify_token"), signing.as_ref());
        let fields = self.read_field_locators(listed, signing.as_ref());
        let (Some(signing), Some(fields), Some(name)) = (signing, fields, &listed.name) else {
            return None;
        };
        let kind = Kind::intern_custom(name).filter(|_| self.problems.len() == before)?;
        let source = WebhookSource {
            signing,
            keys,
            tolerance,
            fields,
        };
        Some(CustomSourceConfig {
            name: InternedName::intern(name),
            kind,
            enabled,
            source,
            verify_token,
            rate_per_minute,
        })
    }

    /// Notes that something is wrong with the key `name` of `listed`, at its own place or that of
    /// the table.
    fn report_problem(
        &mut self,
        listed: &CustomSourceTable,
        name: &str,
        detail: impl Into<String>,
    ) {
        let key = format!("{}.{name}", listed.section);
        let place = match self.origin_of(&[&key]) {
            SettingOrigin::Defaults => listed.place.clone(),
            place => place,
        };
        self.problems
            .push(ConfigProblem::for_key(&key, place, detail));
    }

    fn is_set(&self, key: &str) -> bool {
        self.settings
            .get(key)
            .is_some_and(|setting| setting.place != SettingOrigin::Defaults)
    }

    /// A text that is `None` unless it is set, read by `read`, whose error says what is wrong.
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

    /// How the sender signs; `None` if that is not to be found out.
    fn read_signing(&mut self, listed: &CustomSourceTable) -> Option<SourceSigning> {
        let key = |name: &str| format!("{}.{name}", listed.section);
        let scheme = key("scheme.");
        let is_described = self
            .settings
            .keys()
            .any(|key| key.starts_with(&scheme) && self.is_set(key));
        match (self.is_set(&key("preset")), is_described) {
            (true, false) => self
                .read_optional(&key("preset"), parse_preset)
                .map(SourceSigning::Preset),
            (false, true) => self.read_scheme(listed).map(SourceSigning::Own),
            (true, true) => {
                self.report_problem(
                    listed,
                    "preset",
                    "expected a preset or a scheme, found both",
                );
                None
            }
            (false, false) => {
                let detail = format!(
                    "missing: name one of {}, or describe a scheme",
                    preset_names().join(", ")
                );
                self.report_problem(listed, "preset", detail);
                None
            }
        }
    }

    fn read_scheme(&mut self, listed: &CustomSourceTable) -> Option<SignatureScheme> {
        let key = |name: &str| format!("{}.scheme.{name}", listed.section);
        let header = self.read_optional(&key("header"), |text| {
            require_header_name(text).map(Cow::Owned)
        });
        let Some(sort) =
            self.read_optional(&key("algorithm"), |text| parse_choice(text, &SCHEME_TYPES))
        else {
            if !self.is_set(&key("algorithm")) {
                self.report_problem(
                    listed,
                    "scheme.algorithm",
                    format!("missing: one of {}", join_names(&SCHEME_TYPES)),
                );
            }
            return None;
        };
        if header.is_none() && sort != SchemeType::Basic && !self.is_set(&key("header")) {
            self.report_problem(
                listed,
                "scheme.header",
                "missing: the header that the signature or the token stands in",
            );
        }
        let prefix = self.read_optional(&key("prefix"), |text| Ok(Cow::Owned(text.to_owned())));
        match sort {
            SchemeType::Signature(algorithm) => {
                self.read_signature_scheme(listed, algorithm, header, prefix)
            }
            SchemeType::Token => {
                self.report_unused_keys(listed, &SIGNATURE_ONLY_KEYS, "token");
                Some(SignatureScheme::Token {
                    header: header?,
                    prefix: prefix.unwrap_or_default(),
                })
            }
            SchemeType::Basic => {
                self.report_unused_keys(listed, &SIGNATURE_ONLY_KEYS, "basic");
                self.report_unused_keys(listed, &["prefix"], "basic");
                Some(SignatureScheme::Basic {
                    header: header.unwrap_or(Cow::Borrowed("authorization")),
                })
            }
        }
    }

    fn read_signature_scheme(
        &mut self,
        listed: &CustomSourceTable,
        algorithm: SignatureAlgorithm,
        header: Option<Cow<'static, str>>,
        prefix: Option<Cow<'static, str>>,
    ) -> Option<SignatureScheme> {
        let key = |name: &str| format!("{}.scheme.{name}", listed.section);
        let encoding = self
            .read_optional(&key("encoding"), |text| {
                parse_choice(text, &SignatureEncoding::ALL)
            })
            .unwrap_or(SignatureEncoding::Hex);
        let signed = self.read_optional(&key("signed"), |text| {
            SignedTemplate::parse(text).map_err(|wrong| format!("{wrong}, found {text:?}"))
        });
        let signed = signed.unwrap_or(SignedTemplate::BODY);
        let timestamp_header = self.read_optional(&key("timestamp_header"), |text| {
            require_header_name(text).map(Cow::Owned)
        });
        match (
            signed.has_part(&SignedContentPart::Timestamp),
            self.is_set(&key("timestamp_header")),
        ) {
            (true, false) => self.report_problem(
                listed,
                "scheme.timestamp_header",
                "missing: {timestamp} is part of what is signed",
            ),
            (false, true) => self.report_problem(
                listed,
                "scheme.timestamp_header",
                "expected {timestamp} in scheme.signed: a time that is not signed proves nothing",
            ),
            (true, true) | (false, false) => {}
        }
        let id_header = if signed.has_part(&SignedContentPart::Id) {
            self.read_id_header(listed)
        } else {
            None
        };
        let (header, prefix) = (header?, prefix.unwrap_or_default());
        Some(SignatureScheme::Signature {
            header,
            prefix,
            algorithm,
            encoding,
            signed,
            timestamp_header,
            id_header,
        })
    }

    /// The header that `{id}` stands for.
    fn read_id_header(&mut self, listed: &CustomSourceTable) -> Option<Cow<'static, str>> {
        let key = format!("{}.idempotency_key", listed.section);
        let text = self
            .settings
            .get(&key)
            .and_then(|setting| parse_string(setting.value.clone()).ok())
            .unwrap_or_default();
        let header = parse_header_name(text.expose());
        if header.is_none() {
            let detail =
                "expected the name of a header: {id} in scheme.signed stands for its value";
            self.report_problem(listed, "idempotency_key", detail);
        }
        header.map(Cow::Owned)
    }

    /// Notes each of `names` that is set, since `algorithm` has no use for it.
    fn report_unused_keys(&mut self, listed: &CustomSourceTable, names: &[&str], algorithm: &str) {
        for name in names {
            if self.is_set(&format!("{}.scheme.{name}", listed.section)) {
                self.report_problem(
                    listed,
                    &format!("scheme.{name}"),
                    format!("has no use with the algorithm {algorithm}"),
                );
            }
        }
    }

    fn read_keys(&mut self, key: &str, signing: Option<&SourceSigning>) -> Vec<VerificationKey> {
        self.read_list(key, |value| {
            let secret = parse_string(value)?;
            // Without a scheme nothing can be said of its secrets.
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
        listed: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> Duration {
        let [own, shared] = ["scheme.tolerance_s", "tolerance_s"].map(|name| {
            let key = format!("{}.{name}", listed.section);
            if !self.is_set(&key) {
                return None;
            }
            self.read_as(&key, |value| {
                let seconds = parse_number(value, "a number of seconds")?;
                let fits = (0.0..=DAY_S).contains(&seconds);
                let given = fits.then(|| Some((name, Duration::from_secs_f64(seconds))));
                given.ok_or_else(|| format!("expected 0 to {DAY_S} seconds, found {seconds}"))
            })
        });
        if own.is_some() && shared.is_some() {
            self.report_problem(listed, "tolerance_s", "is set in the scheme already");
        }
        let usual = match signing {
            Some(SourceSigning::Preset(preset)) => preset.tolerance,
            Some(SourceSigning::Own(scheme)) => scheme.has_timestamp().then_some(USUAL_TOLERANCE),
            None => Some(USUAL_TOLERANCE),
        };
        if let (Some((name, given)), None) = (own.or(shared), usual)
            && !given.is_zero()
        {
            self.report_problem(
                listed,
                name,
                "has no use: this sender signs no time that could be compared",
            );
        }
        own.or(shared)
            .map(|(_, given)| given)
            .or(usual)
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
                Err("has no use: only meta subscribes with one".to_owned())
            }
        })
    }

    /// Where the fields stand; `None` if one that is needed is nowhere.
    fn read_field_locators(
        &mut self,
        listed: &CustomSourceTable,
        signing: Option<&SourceSigning>,
    ) -> Option<FieldLocators> {
        let preset = match signing {
            Some(SourceSigning::Preset(preset)) => Some(*preset),
            Some(SourceSigning::Own(_)) | None => None,
        };
        let own = |pick: fn(&ProviderPreset) -> &Option<FieldLocator>| {
            preset.and_then(|preset| pick(preset).clone())
        };
        let entity = self
            .read_locator(listed, "entity")
            .or_else(|| own(|preset| &preset.defaults.entity));
        let event = self
            .read_locator(listed, "event")
            .or_else(|| own(|preset| &preset.defaults.event));
        let idempotency_key = self
            .read_locator(listed, "idempotency_key")
            .or_else(|| own(|preset| &preset.defaults.idempotency_key));
        let needs_time = self.is_set(&format!("{}.occurred_at", listed.section));
        let occurred_at = self
            .read_locator(listed, "occurred_at")
            .or_else(|| own(|preset| &preset.defaults.occurred_at));
        for (name, is_there) in [("entity", entity.is_some()), ("event", event.is_some())] {
            if !is_there && !self.is_set(&format!("{}.{name}", listed.section)) && signing.is_some()
            {
                let who = preset.map_or_else(String::new, |preset| {
                    format!("the preset {} has no default for it; ", preset.name)
                });
                let detail = format!(
                    "missing: {who}set a JSON pointer such as /data/id, or the name of a header"
                );
                self.report_problem(listed, name, detail);
            }
        }
        Some(FieldLocators {
            entity: entity?,
            event: event?,
            idempotency_key,
            occurred_at,
            needs_time,
        })
    }

    fn read_locator(&mut self, listed: &CustomSourceTable, name: &str) -> Option<FieldLocator> {
        self.read_optional(&format!("{}.{name}", listed.section), |text| {
            FieldLocator::parse(text).map_err(|wrong| format!("{wrong}, found {text:?}"))
        })
    }
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

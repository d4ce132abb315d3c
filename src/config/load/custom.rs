//! Judges the configured sources: what a preset or a scheme needs, and what does not go together.

use std::borrow::Cow;
use std::time::Duration;

use super::super::custom::{Custom, Listed};
use super::super::draft::{Draft, variable};
use super::super::problem::{Place, Problem};
use super::super::values::{DAY_S, found, number, string};
use super::super::{Config, Secret};
use crate::event::{Kind, Name};
use crate::provider::{
    Algorithm, Encoding, Fields, Handshake, Key, Locator, Part, Preset, Scheme, Signing, Source, Template, find_preset,
    header_name, presets,
};
use crate::suggest::nearest_name;

/// How far the time in a scheme of one's own may be off unless it says so: what the known providers settled on.
const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// What an algorithm makes of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Signature(Algorithm),
    Token,
    Basic,
}

const SORTS: [(&str, Sort); 6] = [
    ("hmac-sha256", Sort::Signature(Algorithm::HmacSha256)),
    ("hmac-sha512", Sort::Signature(Algorithm::HmacSha512)),
    ("hmac-sha1", Sort::Signature(Algorithm::HmacSha1)),
    ("ed25519", Sort::Signature(Algorithm::Ed25519)),
    ("token", Sort::Token),
    ("basic", Sort::Basic),
];

/// The keys of a scheme that only signatures have.
const OF_SIGNATURES: [&str; 4] = ["encoding", "signed", "timestamp_header", "tolerance_s"];

impl Draft {
    /// Every configured source that has nothing wrong with it; the problems of the others are noted.
    pub(super) fn custom_sources(&mut self) -> Vec<Custom> {
        let listed = std::mem::take(&mut self.custom);
        let sources = listed.iter().filter_map(|listed| self.custom_source(listed)).collect();
        self.custom = listed;
        sources
    }

    /// Notes each enabled configured source without a secret.
    pub(super) fn check_custom_secrets(&mut self, config: &Config) {
        let keyless = config.sources.custom.iter().filter(|custom| custom.enabled && custom.source.keys.is_empty());
        for custom in keyless {
            let name = Some(custom.name.as_str());
            let Some(listed) = self.custom.iter().find(|listed| listed.name.as_deref() == name) else { continue };
            let key = format!("{}.secrets", listed.section);
            let detail = format!("missing: set what the sender shows you here or in {}", variable(&key));
            self.problems.push(Problem::of(&key, listed.place.clone(), detail));
        }
    }

    fn custom_source(&mut self, listed: &Listed) -> Option<Custom> {
        let before = self.problems.len();
        let key = |name: &str| format!("{}.{name}", listed.section);
        let enabled = self.boolean(&key("enabled"));
        let rate_per_minute = self.integer(&key("rate_per_minute"), 0..=u32::MAX.into());
        let signing = self.signing(listed);
        let keys = self.keys_of(&key("secrets"), signing.as_ref());
        let tolerance = self.tolerance(listed, signing.as_ref());
        let verify_token = self.verify_token(&key("verify_token"), signing.as_ref());
        let fields = self.fields(listed, signing.as_ref());
        let (Some(signing), Some(fields), Some(name)) = (signing, fields, &listed.name) else { return None };
        let kind = Kind::custom(name).filter(|_| self.problems.len() == before)?;
        let source = Source { signing, keys, tolerance, fields };
        Some(Custom { name: Name::intern(name), kind, enabled, source, verify_token, rate_per_minute })
    }

    /// Notes that something is wrong with the key `name` of `listed`, at its own place or that of the table.
    fn note(&mut self, listed: &Listed, name: &str, detail: impl Into<String>) {
        let key = format!("{}.{name}", listed.section);
        let place = match self.place_of(&[&key]) {
            Place::Defaults => listed.place.clone(),
            place => place,
        };
        self.problems.push(Problem::of(&key, place, detail));
    }

    fn is_set(&self, key: &str) -> bool {
        self.settings.get(key).is_some_and(|setting| setting.place != Place::Defaults)
    }

    /// A text that is `None` unless it is set, read by `read`, whose error says what is wrong.
    fn optional<T>(&mut self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if !self.is_set(key) {
            return None;
        }
        self.read_as(key, |value| {
            let text = string(value)?;
            read(text.expose()).map(Some)
        })
    }

    /// How the sender signs; `None` if that is not to be found out.
    fn signing(&mut self, listed: &Listed) -> Option<Signing> {
        let key = |name: &str| format!("{}.{name}", listed.section);
        let scheme = key("scheme.");
        let is_described = self.settings.keys().any(|key| key.starts_with(&scheme) && self.is_set(key));
        match (self.is_set(&key("preset")), is_described) {
            (true, false) => self.optional(&key("preset"), read_preset).map(Signing::Preset),
            (false, true) => self.scheme(listed).map(Signing::Own),
            (true, true) => {
                self.note(listed, "preset", "expected a preset or a scheme, found both");
                None
            }
            (false, false) => {
                let detail = format!("missing: name one of {}, or describe a scheme", preset_names().join(", "));
                self.note(listed, "preset", detail);
                None
            }
        }
    }

    fn scheme(&mut self, listed: &Listed) -> Option<Scheme> {
        let key = |name: &str| format!("{}.scheme.{name}", listed.section);
        let header = self.optional(&key("header"), |text| read_header(text).map(Cow::Owned));
        let Some(sort) = self.optional(&key("algorithm"), |text| choose(text, &SORTS)) else {
            if !self.is_set(&key("algorithm")) {
                self.note(listed, "scheme.algorithm", format!("missing: one of {}", names(&SORTS)));
            }
            return None;
        };
        if header.is_none() && sort != Sort::Basic && !self.is_set(&key("header")) {
            self.note(listed, "scheme.header", "missing: the header that the signature or the token stands in");
        }
        let prefix = self.optional(&key("prefix"), |text| Ok(Cow::Owned(text.to_owned())));
        match sort {
            Sort::Signature(algorithm) => self.signature(listed, algorithm, header, prefix),
            Sort::Token => {
                self.refuse(listed, &OF_SIGNATURES, "token");
                Some(Scheme::Token { header: header?, prefix: prefix.unwrap_or_default() })
            }
            Sort::Basic => {
                self.refuse(listed, &OF_SIGNATURES, "basic");
                self.refuse(listed, &["prefix"], "basic");
                Some(Scheme::Basic { header: header.unwrap_or(Cow::Borrowed("authorization")) })
            }
        }
    }

    fn signature(
        &mut self,
        listed: &Listed,
        algorithm: Algorithm,
        header: Option<Cow<'static, str>>,
        prefix: Option<Cow<'static, str>>,
    ) -> Option<Scheme> {
        let key = |name: &str| format!("{}.scheme.{name}", listed.section);
        let encoding = self.optional(&key("encoding"), |text| choose(text, &Encoding::ALL)).unwrap_or(Encoding::Hex);
        let signed = self
            .optional(&key("signed"), |text| Template::parse(text).map_err(|wrong| format!("{wrong}, found {text:?}")));
        let signed = signed.unwrap_or(Template::BODY);
        let timestamp_header = self.optional(&key("timestamp_header"), |text| read_header(text).map(Cow::Owned));
        match (signed.uses(&Part::Timestamp), self.is_set(&key("timestamp_header"))) {
            (true, false) => {
                self.note(listed, "scheme.timestamp_header", "missing: {timestamp} is part of what is signed")
            }
            (false, true) => self.note(
                listed,
                "scheme.timestamp_header",
                "expected {timestamp} in scheme.signed: a time that is not signed proves nothing",
            ),
            (true, true) | (false, false) => {}
        }
        let id_header = if signed.uses(&Part::Id) { self.id_header(listed) } else { None };
        let (header, prefix) = (header?, prefix.unwrap_or_default());
        Some(Scheme::Signature { header, prefix, algorithm, encoding, signed, timestamp_header, id_header })
    }

    /// The header that `{id}` stands for.
    fn id_header(&mut self, listed: &Listed) -> Option<Cow<'static, str>> {
        let key = format!("{}.idempotency_key", listed.section);
        let text = self.settings.get(&key).and_then(|setting| string(setting.value.clone()).ok()).unwrap_or_default();
        let header = header_name(text.expose());
        if header.is_none() {
            let detail = "expected the name of a header: {id} in scheme.signed stands for its value";
            self.note(listed, "idempotency_key", detail);
        }
        header.map(Cow::Owned)
    }

    /// Notes each of `names` that is set, since `algorithm` has no use for it.
    fn refuse(&mut self, listed: &Listed, names: &[&str], algorithm: &str) {
        for name in names {
            if self.is_set(&format!("{}.scheme.{name}", listed.section)) {
                self.note(listed, &format!("scheme.{name}"), format!("has no use with the algorithm {algorithm}"));
            }
        }
    }

    fn keys_of(&mut self, key: &str, signing: Option<&Signing>) -> Vec<Key> {
        self.list(key, |value| {
            let secret = string(value)?;
            // Without a scheme nothing can be said of its secrets.
            let Some(signing) = signing else { return Ok(None) };
            signing.key(secret.expose()).map(Some).map_err(|bad| bad.to_string())
        })
        .into_iter()
        .flatten()
        .collect()
    }

    fn tolerance(&mut self, listed: &Listed, signing: Option<&Signing>) -> Duration {
        let [own, shared] = ["scheme.tolerance_s", "tolerance_s"].map(|name| {
            let key = format!("{}.{name}", listed.section);
            if !self.is_set(&key) {
                return None;
            }
            self.read_as(&key, |value| {
                let seconds = number(value, "a number of seconds")?;
                let fits = (0.0..=DAY_S).contains(&seconds);
                let given = fits.then(|| Some((name, Duration::from_secs_f64(seconds))));
                given.ok_or_else(|| format!("expected 0 to {DAY_S} seconds, found {seconds}"))
            })
        });
        if own.is_some() && shared.is_some() {
            self.note(listed, "tolerance_s", "is set in the scheme already");
        }
        let usual = match signing {
            Some(Signing::Preset(preset)) => preset.tolerance,
            Some(Signing::Own(scheme)) => scheme.is_timed().then_some(USUAL_TOLERANCE),
            None => Some(USUAL_TOLERANCE),
        };
        if let (Some((name, given)), None) = (own.or(shared), usual)
            && !given.is_zero()
        {
            self.note(listed, name, "has no use: this sender signs no time that could be compared");
        }
        own.or(shared).map(|(_, given)| given).or(usual).unwrap_or_default()
    }

    fn verify_token(&mut self, key: &str, signing: Option<&Signing>) -> Secret {
        let subscribes = signing.is_none_or(|signing| matches!(signing.handshake(), Handshake::Subscription));
        self.read_as(key, |value| {
            let token = string(value)?;
            if token.is_empty() || subscribes {
                Ok(token)
            } else {
                Err("has no use: only meta subscribes with one".to_owned())
            }
        })
    }

    /// Where the fields stand; `None` if one that is needed is nowhere.
    fn fields(&mut self, listed: &Listed, signing: Option<&Signing>) -> Option<Fields> {
        let preset = match signing {
            Some(Signing::Preset(preset)) => Some(*preset),
            Some(Signing::Own(_)) | None => None,
        };
        let own = |pick: fn(&Preset) -> &Option<Locator>| preset.and_then(|preset| pick(preset).clone());
        let entity = self.locator(listed, "entity").or_else(|| own(|preset| &preset.defaults.entity));
        let event = self.locator(listed, "event").or_else(|| own(|preset| &preset.defaults.event));
        let idempotency_key =
            self.locator(listed, "idempotency_key").or_else(|| own(|preset| &preset.defaults.idempotency_key));
        let needs_time = self.is_set(&format!("{}.occurred_at", listed.section));
        let occurred_at = self.locator(listed, "occurred_at").or_else(|| own(|preset| &preset.defaults.occurred_at));
        for (name, is_there) in [("entity", entity.is_some()), ("event", event.is_some())] {
            if !is_there && !self.is_set(&format!("{}.{name}", listed.section)) && signing.is_some() {
                let who = preset
                    .map_or_else(String::new, |preset| format!("the preset {} has no default for it; ", preset.name));
                let detail = format!("missing: {who}set a JSON pointer such as /data/id, or the name of a header");
                self.note(listed, name, detail);
            }
        }
        Some(Fields { entity: entity?, event: event?, idempotency_key, occurred_at, needs_time })
    }

    fn locator(&mut self, listed: &Listed, name: &str) -> Option<Locator> {
        self.optional(&format!("{}.{name}", listed.section), |text| {
            Locator::parse(text).map_err(|wrong| format!("{wrong}, found {text:?}"))
        })
    }
}

fn read_preset(text: &str) -> Result<&'static Preset, String> {
    find_preset(text).ok_or_else(|| {
        let hint = nearest_name(text, preset_names()).map(|name| format!(" (the nearest is {name:?})"));
        found(&format!("one of {}", preset_names().join(", ")), text) + &hint.unwrap_or_default()
    })
}

fn preset_names() -> Vec<&'static str> {
    presets::ALL.iter().map(|preset| preset.name).collect()
}

fn read_header(text: &str) -> Result<String, String> {
    header_name(text).ok_or_else(|| found("the name of a header", text))
}

fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen.map(|(_, choice)| *choice).ok_or_else(|| found(&format!("one of {}", names(choices)), text))
}

fn names<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

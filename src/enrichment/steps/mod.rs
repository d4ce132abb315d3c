//! Steps of one enrichment, without the HTTP calls: decides on the next step, and parses the
//! answers.
//!
//! ```text
//! CPF in the event? ──yes───────────────────────────────┐
//!    no                                                 v
//!     └─> lookup by e-mail ──none──> lookup by phone ─> person ──> reply ──> resolve with the
//!                                        │none                               person's data
//!                                        └─────────────────────────────────> resolve with null
//! ```

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::cpf::Cpf;
use crate::config;
use crate::event::find_members;

/// Longest message that is posted, in bytes; a longer message is truncated.
const MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// Step of an enrichment, which is one HTTP call. Its number is stored, so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnrichmentStep {
    LookupByEmail = 1,
    LookupByPhone = 2,
    Person = 3,
    Reply = 4,
}

impl EnrichmentStep {
    pub(super) const ALL: [Self; 4] = [
        Self::LookupByEmail,
        Self::LookupByPhone,
        Self::Person,
        Self::Reply,
    ];

    /// Returns the step's name in errors and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LookupByEmail | Self::LookupByPhone => "lookup",
            Self::Person => "person",
            Self::Reply => "reply",
        }
    }
}

/// Data of an event that enrichment needs.
pub(super) struct EnrichmentSubject {
    /// Lead id as it was sent: a text or a number.
    lead_id: Value,
    customer: Value,
    cpf: Option<Cpf>,
    email: Option<String>,
    phone: Option<String>,
}

impl EnrichmentSubject {
    /// Parses the payload of an accepted event; missing data stays empty.
    pub(super) fn from_payload(payload: &[u8]) -> Self {
        let text = std::str::from_utf8(payload).unwrap_or_default();
        let [lead_id, customer, attributes] =
            find_members(text, ["lead_id", "customer", "attributes"]).unwrap_or_default();
        // Some events have their customer in `attributes`.
        let in_attributes =
            attributes.and_then(|attributes| find_members(attributes.get(), ["customer"]).ok());
        let [in_attributes] = in_attributes.unwrap_or_default();
        let parsed =
            |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let customer: Value = parsed(customer)
            .filter(Value::is_object)
            .or_else(|| parsed(in_attributes))
            .unwrap_or_default();
        let text_of = |name: &str| {
            customer[name]
                .as_str()
                .map(str::trim)
                .filter(|text| !text.is_empty())
        };
        Self {
            lead_id: parsed(lead_id).unwrap_or_default(),
            cpf: parse_cpf(&customer["cpf"]),
            // Neither value can be `.` or `..`, which would change the path of a lookup's URL even
            // when percent-encoded.
            email: text_of("email")
                .filter(|email| email.contains('@'))
                .map(str::to_owned),
            phone: text_of("phone")
                .filter(|phone| phone.contains(char::is_numeric))
                .map(str::to_owned)
                .or_else(|| Some(customer["phone"].as_u64()?.to_string())),
            customer,
        }
    }

    /// Subject of an event whose content is gone: only the lead is known, by the id of its entity.
    pub(super) fn of_lead(id: &str) -> Self {
        Self {
            lead_id: id.into(),
            customer: Value::Null,
            cpf: None,
            email: None,
            phone: None,
        }
    }

    /// Returns the lead's id as it was sent.
    pub(super) fn lead_id(&self) -> &Value {
        &self.lead_id
    }
}

fn parse_cpf(value: &Value) -> Option<Cpf> {
    value
        .as_str()
        .map_or_else(|| value.as_u64().and_then(Cpf::from_number), Cpf::parse)
}

/// Results of the finished steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EnrichmentProgress {
    /// Result of the lookup by e-mail; the outer `None` means that it is not done.
    by_email: Option<Option<Cpf>>,
    /// Result of the lookup by phone, in the same form.
    by_phone: Option<Option<Cpf>>,
    /// Text of the JSON object with the person's data.
    person: Option<Box<str>>,
    replied: bool,
}

impl EnrichmentProgress {
    /// Records the result of `step`, in the form that [`parse_answer`] returns.
    pub(super) fn record(&mut self, step: EnrichmentStep, result: &str) {
        match step {
            EnrichmentStep::LookupByEmail => self.by_email = Some(Cpf::parse(result)),
            EnrichmentStep::LookupByPhone => self.by_phone = Some(Cpf::parse(result)),
            EnrichmentStep::Person => self.person = Some(result.into()),
            EnrichmentStep::Reply => self.replied = true,
        }
    }

    /// Returns the person's data as JSON text, if the step `person` is done.
    pub(super) fn person(&self) -> Option<&str> {
        self.person.as_deref()
    }
}

/// HTTP call that a step makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StepCall {
    pub(super) step: EnrichmentStep,
    pub(super) url: String,
    /// JSON body of a `POST`; `None` means a `GET`.
    pub(super) body: Option<String>,
}

/// Decision on what follows in an enrichment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextEnrichmentStep {
    Call(StepCall),
    /// All steps are done, so the event can be resolved.
    Resolve,
}

/// Decides on the next step of `subject` after `progress`.
pub(super) fn next_step(
    subject: &EnrichmentSubject,
    progress: &EnrichmentProgress,
    config: &config::EnrichmentConfig,
) -> NextEnrichmentStep {
    let found = [&progress.by_email, &progress.by_phone]
        .into_iter()
        .flatten()
        .flatten()
        .next();
    let Some(cpf) = subject.cpf.as_ref().or(found) else {
        return next_lookup(subject, progress, config)
            .map_or(NextEnrichmentStep::Resolve, NextEnrichmentStep::Call);
    };
    let Some(person) = progress.person() else {
        let url = config.person_url.fill(|_| cpf.digits().to_owned().into());
        return NextEnrichmentStep::Call(StepCall {
            step: EnrichmentStep::Person,
            url,
            body: None,
        });
    };
    match &config.reply_url {
        Some(url) if !progress.replied => {
            let message = build_message(subject, cpf, person, config);
            let body = json!({"lead_id": subject.lead_id, "message": message}).to_string();
            NextEnrichmentStep::Call(StepCall {
                step: EnrichmentStep::Reply,
                url: url.clone(),
                body: Some(body),
            })
        }
        Some(_) | None => NextEnrichmentStep::Resolve,
    }
}

/// Returns the next lookup, if one remains: the URL must have a placeholder for the value.
fn next_lookup(
    subject: &EnrichmentSubject,
    progress: &EnrichmentProgress,
    config: &config::EnrichmentConfig,
) -> Option<StepCall> {
    let template = config.lookup_url.as_ref()?;
    let lookups = [
        (
            EnrichmentStep::LookupByEmail,
            "email",
            &subject.email,
            &progress.by_email,
        ),
        (
            EnrichmentStep::LookupByPhone,
            "phone",
            &subject.phone,
            &progress.by_phone,
        ),
    ];
    let (step, place, value, _) = lookups.into_iter().find(|(_, place, value, result)| {
        result.is_none() && value.is_some() && template.has_place(place)
    })?;
    let value = percent_encode(value.as_deref()?);
    let url = template.fill(|name| {
        if name == place {
            value.clone().into()
        } else {
            Cow::default()
        }
    });
    Some(StepCall {
        step,
        url,
        body: None,
    })
}

/// Percent-encodes `text` for any part of a URL (RFC 3986, section 2.3).
fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn build_message(
    subject: &EnrichmentSubject,
    cpf: &Cpf,
    person: &str,
    config: &config::EnrichmentConfig,
) -> String {
    let person: Value = serde_json::from_str(person).unwrap_or_default();
    let values = json!({
        "lead_id": subject.lead_id,
        "cpf": cpf.digits(),
        "customer": subject.customer,
        "person": person,
    });

    let mut text = config
        .message_template
        .fill(|path| render_value(&values, path).into());
    if text.len() > MESSAGE_MAX_BYTES {
        let end = (0..=MESSAGE_MAX_BYTES)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
    }
    text
}

/// Renders the value at `path`, such as `person.name`: a text as it is, a missing value as an empty
/// text, and any other value as JSON.
fn render_value(values: &Value, path: &str) -> String {
    match path
        .split('.')
        .try_fold(values, |value, name| value.get(name))
    {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Parses the answer to `step` into the step's result; an `answer` of `None` is a 404.
///
/// # Errors
/// Description of the fault in the answer, for a person.
pub(super) fn parse_answer(
    step: EnrichmentStep,
    answer: Option<&[u8]>,
) -> Result<String, &'static str> {
    const NO_OBJECT: &str = "answered no JSON object";
    match (step, answer) {
        (EnrichmentStep::LookupByEmail | EnrichmentStep::LookupByPhone, None) => Ok(String::new()),
        (EnrichmentStep::LookupByEmail | EnrichmentStep::LookupByPhone, Some(body)) => {
            let found: Value = serde_json::from_slice(body).map_err(|_| NO_OBJECT)?;
            // An invalid CPF counts as not found.
            let cpf = || {
                parse_cpf(&found["cpf"])
                    .map(|cpf| cpf.digits().to_owned())
                    .unwrap_or_default()
            };
            (found.is_object() || found.is_null())
                .then(cpf)
                .ok_or(NO_OBJECT)
        }
        (EnrichmentStep::Person, Some(body)) => {
            let person: &RawValue = serde_json::from_slice(body).map_err(|_| NO_OBJECT)?;
            let is_object = person.get().starts_with('{')
                && serde_json::from_str::<Value>(person.get()).is_ok();
            is_object.then(|| person.get().to_owned()).ok_or(NO_OBJECT)
        }
        (EnrichmentStep::Person | EnrichmentStep::Reply, None) => Err("answered 404"),
        (EnrichmentStep::Reply, Some(_)) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests;

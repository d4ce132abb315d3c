//! Decoder of one published event into a command, or every wrong field.

use std::collections::BTreeMap;
use std::str;

use bytes::Bytes;
use serde_json::value::RawValue;
use tracing::Span;

use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::raw_json;
use super::super::source::CRM;
use crate::config;
use crate::entity::generic::{self, JsonText};
use crate::entity::{Command, EntityAction};
use crate::event::{
    EntityKey, ID_MAX_BYTES, InternedName, Kind, catalogue, check_id, find_members, hash_content,
    replace_half_surrogates,
};

/// Events that can be published: the built-in ones and those that the configuration declares.
#[derive(Debug)]
pub struct BusEventCatalogue(Vec<BusEvent>);

/// One event type that can be published.
#[derive(Clone, Copy, Debug)]
struct BusEvent {
    name: &'static str,
    kind: Kind,
    /// Member of the data with the entity's id, such as `organisation_id`.
    id_member: &'static str,
}

impl BusEventCatalogue {
    /// Collects the built-in events and those that `config` declares.
    #[must_use]
    pub fn new(config: &config::CrmConfig) -> Self {
        let built_in = catalogue::entries_of_source(CRM.as_str())
            .filter_map(|entry| Some((entry.name, entry.kind?)));
        let mut events: Vec<BusEvent> = built_in
            .map(|(name, kind)| BusEvent::new(name, kind))
            .collect();
        for declared in &config.events {
            if !events
                .iter()
                .any(|event| event.name == declared.name.as_str())
            {
                events.push(BusEvent::new(declared.name.as_str(), declared.kind));
            }
        }
        Self(events)
    }

    fn find_event(&self, name: &str) -> Option<BusEvent> {
        self.0.iter().find(|event| event.name == name).copied()
    }

    fn event_names(&self) -> String {
        self.0
            .iter()
            .map(|event| event.name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl BusEvent {
    fn new(name: &'static str, kind: Kind) -> Self {
        let subject = name.split('.').next().unwrap_or(name);
        Self {
            name,
            kind,
            id_member: InternedName::intern(&format!("{subject}_id")).as_str(),
        }
    }

    fn into_action(self, fields: Vec<(String, JsonText)>) -> generic::GenericAction {
        match self.name {
            "task.completed" => generic::GenericAction::Mark {
                name: "completed",
                fields,
            },
            "mandat.signed" => generic::GenericAction::Mark {
                name: "signed",
                fields,
            },
            name if name.ends_with(".created") => generic::GenericAction::Create { fields },
            name if name.ends_with(".deleted") => generic::GenericAction::Delete { fields },
            _ => generic::GenericAction::Merge { fields },
        }
    }
}

/// Decodes `json`, a part of `body`, into a command that is logged under `span`. `key` is the
/// idempotency key of a header, which takes precedence over the event's own key. Of members with
/// the same name the last one counts. Unknown members stay in the payload, which is `json` as it
/// was received.
///
/// # Errors
/// [`ApiError::InvalidJson`], [`ApiError::UnknownEvent`], or [`ApiError::InvalidFields`] with every
/// wrong field.
pub fn decode_bus_event(
    events: &BusEventCatalogue,
    body: &Bytes,
    json: &str,
    key: Option<&[u8]>,
    span: Span,
) -> Result<Command, ApiError> {
    let names = ["event", "user_id", "timestamp", "idempotency_key", "data"];
    let readable = replace_half_surrogates(json);
    let [event, user_id, timestamp, own_key, data] =
        find_members(&readable, names).map_err(|error| ApiError::from_json_error(&error))?;

    let mut faults = FieldErrors::default();
    let event = decode_event_name(events, event, &mut faults)?;
    check_user_id(user_id, &mut faults);
    let at = faults.read_optional_time("timestamp", timestamp);
    let idempotency_key = decode_idempotency_key(key, own_key, &mut faults);
    let data = decode_data_object(data, &mut faults);
    let id = event
        .zip(data)
        .and_then(|(event, data)| decode_entity_id(event, data, &mut faults));
    let fields = data
        .map(|data| decode_fields(data, &mut faults))
        .unwrap_or_default();
    faults.finish(())?;

    // A missing part has added a field error, so it cannot be missing after `finish`.
    let (Some(event), Some(id)) = (event, id) else {
        return Err(ApiError::Internal);
    };
    let entity = EntityKey::try_new(event.kind, &id).map_err(|_| ApiError::Internal)?;
    let action = EntityAction::Generic(event.into_action(fields));
    let payload = body.slice_ref(json.as_bytes());
    // Without the time, which a publisher may set anew when it publishes an event again.
    let content = [user_id, data].map(|raw| raw.map_or("", RawValue::get).as_bytes());
    let content = hash_content([event.name.as_bytes()].into_iter().chain(content));
    Ok(Command {
        at,
        request_hash: Some(content),
        idempotency_key,
        span,
        ..Command::new(CRM, entity, action, event.name, payload)
    })
}

fn decode_event_name(
    events: &BusEventCatalogue,
    raw: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Result<Option<BusEvent>, ApiError> {
    let Some(raw) = raw.filter(|raw| raw.get().starts_with('"')) else {
        faults.read_text("event", raw);
        return Ok(None);
    };
    let name: Option<String> = serde_json::from_str(raw.get()).ok();
    let found = name.and_then(|name| events.find_event(&name));
    found
        .map(Some)
        .ok_or_else(|| ApiError::UnknownEvent(events.event_names()))
}

fn check_user_id(raw: Option<&RawValue>, faults: &mut FieldErrors) {
    if non_null(raw).is_some_and(|raw| raw_json::parse_id(raw).is_none()) {
        faults.add("user_id", "must be a whole number or a string");
    }
}

pub(super) fn decode_idempotency_key(
    header: Option<&[u8]>,
    own: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Option<String> {
    let Some(header) = header else {
        return non_null(own).map(|own| faults.read_id("idempotency_key", Some(own)));
    };
    let key = str::from_utf8(header)
        .ok()
        .filter(|key| check_id(key).is_ok());
    if key.is_none() {
        let problem = format!(
            "(header Idempotency-Key) must have 1 to {ID_MAX_BYTES} bytes of UTF-8 \
             and no control characters"
        );
        faults.add("idempotency_key", problem);
    }
    key.map(str::to_owned)
}

fn decode_data_object<'a>(
    raw: Option<&'a RawValue>,
    faults: &mut FieldErrors,
) -> Option<&'a RawValue> {
    let Some(raw) = non_null(raw) else {
        faults.add("data", "is required");
        return None;
    };
    faults.check_optional_object("data", Some(raw));
    raw_json::is_object(raw).then_some(raw)
}

/// Decodes the entity's id: the member named after its kind, else `id`.
fn decode_entity_id(event: BusEvent, data: &RawValue, faults: &mut FieldErrors) -> Option<String> {
    // `data` is known to be a JSON object, so this cannot fail.
    let [own, plain] = find_members(data.get(), [event.id_member, "id"]).unwrap_or_default();
    let (member, raw) = match (non_null(own), non_null(plain)) {
        (Some(own), _) => (event.id_member, own),
        (None, Some(plain)) => ("id", plain),
        (None, None) => {
            faults.add(
                format!("data.{}", event.id_member),
                "is required, or data.id",
            );
            return None;
        }
    };
    let id = raw_json::parse_id(raw);
    if id.is_none() {
        let problem = format!(
            "must be a whole number or a string, of 1 to {ID_MAX_BYTES} bytes \
             without control characters"
        );
        faults.add(format!("data.{member}"), problem);
    }
    id
}

fn decode_fields(data: &RawValue, faults: &mut FieldErrors) -> Vec<(String, JsonText)> {
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(data.get());
    let Ok(fields) = fields else {
        faults.add("data", "must have names of valid Unicode text");
        return Vec::new();
    };
    fields
        .into_iter()
        .map(|(name, value)| (name, JsonText::from_raw(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Timestamp;

    fn catalogue() -> BusEventCatalogue {
        let declared = |name, kind| config::DeclaredBusEvent {
            name: InternedName::from_static(name),
            kind,
        };
        let events = vec![declared(
            "invoice.paid",
            Kind::intern_custom("invoice").expect("a name"),
        )];
        BusEventCatalogue::new(&config::CrmConfig {
            enabled: true,
            tokens: Vec::new(),
            events,
        })
    }

    fn decoded(json: &str) -> Result<Command, ApiError> {
        let body = Bytes::copy_from_slice(json.as_bytes());
        decode_bus_event(
            &catalogue(),
            &body,
            str::from_utf8(&body).expect("text"),
            None,
            Span::none(),
        )
    }

    fn error_details(json: &serde_json::Value) -> Vec<String> {
        let Err(ApiError::InvalidFields(faults)) = decoded(&json.to_string()) else {
            panic!("it is valid: {json}")
        };
        faults.into_iter().map(|fault| fault.detail).collect()
    }

    #[test]
    fn the_id_is_read_from_the_kinds_own_member_or_from_id() {
        let id = |event: &str, data: serde_json::Value| {
            decoded(&json!({"event": event, "data": data}).to_string())
                .expect("valid")
                .entity
                .to_string()
        };
        assert_eq!(
            id(
                "organisation.created",
                json!({"organisation_id": 51, "id": 9})
            ),
            "organisation:51"
        );
        assert_eq!(
            id("person.created", json!({"person_id": null, "id": "P-1"})),
            "person:P-1"
        );
        assert_eq!(
            id("invoice.paid", json!({"invoice_id": "7"})),
            "custom:invoice:7"
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        let all = json!({
            "event": 1, "user_id": [], "timestamp": "soon", "idempotency_key": "", "data": [],
        });
        let expected = [
            "event must be a string, not a number",
            "user_id must be a whole number or a string",
            "timestamp must be an RFC 3339 time",
            "idempotency_key must have 1 to 256 bytes of valid Unicode text and no control characters",
            "data must be an object, not a list",
        ];
        assert_eq!(error_details(&all), expected);
        assert_eq!(
            error_details(&json!({})),
            ["event is required", "data is required"]
        );
        let no_id = error_details(&json!({"event": "task.created", "data": {"title": "x"}}));
        assert_eq!(no_id, ["data.task_id is required, or data.id"]);
        let bad_id = error_details(&json!({"event": "task.created", "data": {"task_id": 1.5}}));
        assert!(
            bad_id[0].starts_with("data.task_id must be a whole number or a string"),
            "{bad_id:?}"
        );
    }

    #[test]
    fn an_unknown_event_is_refused_with_the_names_there_are() {
        let error =
            decoded(r#"{"event": "organisation.merged", "data": {"id": 1}}"#).expect_err("unknown");
        let detail = error.to_string();
        assert!(
            detail.starts_with("event must be one of organisation.created, "),
            "{detail}"
        );
        assert!(
            detail.ends_with(", interaction.updated, invoice.paid"),
            "{detail}"
        );
        assert_eq!(error.code(), "unknown_event");
    }

    #[test]
    fn what_was_sent_is_kept_to_the_last_byte() {
        let json = r#"{ "event":"mandat.sign\u0065d", "timestamp":"2025-10-18T11:43:12.442+02:00",
            "data":{"mandat_id":12,"amount":50000.00,"amount":50000.10}, "extra":[1] }"#;
        let command = decoded(json).expect("valid");
        assert_eq!(command.payload, json);
        assert_eq!(command.event_type, "mandat.signed");
        assert_eq!(command.at, Timestamp::parse("2025-10-18T09:43:12.442Z"));
        let EntityAction::Generic(generic::GenericAction::Mark {
            name: "signed",
            fields,
        }) = command.action
        else {
            panic!()
        };
        let amount = fields
            .iter()
            .find(|(name, _)| name == "amount")
            .expect("there");
        assert_eq!(
            serde_json::to_string(&amount.1).expect("JSON"),
            "50000.10",
            "the last one counts"
        );
    }
}

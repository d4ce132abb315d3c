//! `GET /api/v1/webhooks/events/available`: every event that a subscription can match, with an
//! example of its delivery.

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answer;
use super::context::RequestContext;
use super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::entity_reference::EntityReference;
use super::error::ApiError;
use super::list::ListPage;
use crate::config::{Config, CustomSourceConfig, DeclaredBusEvent};
use crate::event::{Kind, Timestamp, catalogue};
use crate::provider::FieldLocator;

/// Time of the events in the examples.
const EXAMPLE_AT: &str = "2025-10-18T09:43:12.442Z";
/// Publisher of the bus events in the examples.
const EXAMPLE_USER: u64 = 12;
/// Event name in the examples of configured sources.
const EXAMPLE_EVENT: &str = "created";
/// Idempotency key in the examples of configured sources.
const EXAMPLE_KEY: &str = "evt_1042";
/// Largest number in a JSON pointer that the example reads as an index of a list; larger numbers
/// become names of members, so that no example grows a long list.
const EXAMPLE_INDEX_MAX: usize = 9;

#[derive(Serialize, ToSchema)]
pub(super) struct AvailableEvent {
    pub(super) event: String,
    pub(super) source: Option<String>,
    pub(super) kind: Option<Kind>,
    pub(super) wire_name: Option<String>,
    pub(super) description: String,
    example: DeliveryExample,
}

/// Body of a delivery, as an example.
#[derive(Serialize, ToSchema)]
struct DeliveryExample {
    event: String,
    #[schema(value_type = Timestamp)]
    timestamp: &'static str,
    user_id: Option<u64>,
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    #[schema(value_type = Option<EntityReference<'static>>)]
    entity: Option<Value>,
    late: bool,
}

/// Handles `GET /api/v1/webhooks/events/available`. The list is one page, since its length is
/// bounded by the catalogue and the configuration.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    context.refuse_parameters()?;
    let items = list_available_events(&context.edge.config);
    Ok(answer::ok_json(&ListPage::whole(items)))
}

pub(super) fn list_available_events(config: &Config) -> Vec<AvailableEvent> {
    let declared = config
        .sources
        .crm
        .events
        .iter()
        .filter(|declared| catalogue::find_entry(&declared.name).is_none());
    let declared = declared.map(|declared| AvailableEvent {
        event: declared.name.to_string(),
        source: Some(catalogue::CRM_SOURCE.to_owned()),
        kind: Some(declared.kind),
        wire_name: Some(declared.name.to_string()),
        description:
            "Declared in the configuration, sources.crm.events. The publisher decides what \
                      the data holds."
                .to_owned(),
        example: DeliveryExample {
            user_id: Some(EXAMPLE_USER),
            ..delivery_example(
                declared.name.to_string(),
                Some(declared.kind),
                to_raw_json(&declared_data(declared)),
            )
        },
    });
    let configured = config.sources.custom.iter().map(|custom| AvailableEvent {
        event: format!("{}.*", custom.name),
        source: Some(custom.name.to_string()),
        kind: Some(custom.kind),
        wire_name: None,
        description:
            "Every event of a configured source, under the name that its sender uses. The \
                      data is the whole body; the example has the fields that the configuration \
                      reads."
                .to_owned(),
        example: delivery_example(
            format!("{}.{EXAMPLE_EVENT}", custom.name),
            Some(custom.kind),
            to_raw_json(&configured_data(custom)),
        ),
    });
    catalogue::all_entries()
        .map(built_in_event)
        .chain(declared)
        .chain(configured)
        .collect()
}

fn built_in_event(entry: catalogue::CatalogueEntry) -> AvailableEvent {
    let data =
        serde_json::from_str(entry.data).expect("a test of the catalogue parses all examples");
    let user_id = (entry.source == Some(catalogue::CRM_SOURCE)).then_some(EXAMPLE_USER);
    let example = DeliveryExample {
        user_id,
        ..delivery_example(entry.name.to_owned(), entry.kind, data)
    };
    AvailableEvent {
        event: entry.name.to_owned(),
        source: entry.source.map(str::to_owned),
        kind: entry.kind,
        wire_name: entry.wire_name.map(str::to_owned),
        description: entry.description.to_owned(),
        example,
    }
}

fn delivery_example(event: String, kind: Option<Kind>, data: Box<RawValue>) -> DeliveryExample {
    let entity = kind.map(|kind| json!({"kind": kind, "id": example_id(kind), "sequence": 1}));
    DeliveryExample {
        event,
        timestamp: EXAMPLE_AT,
        user_id: None,
        data,
        entity,
        late: false,
    }
}

fn to_raw_json(data: &Value) -> Box<RawValue> {
    to_raw_value(data).expect("a value has a JSON text")
}

/// Builds example data of a declared event: the id of its entity, which is required.
fn declared_data(declared: &DeclaredBusEvent) -> Value {
    let entity = declared.name.as_str().split('.').next().unwrap_or_default();
    json!({ format!("{entity}_id"): example_id(declared.kind) })
}

/// Builds an example body of the source `custom`, with every field that its configuration reads.
fn configured_data(custom: &CustomSourceConfig) -> Value {
    let fields = &custom.source.fields;
    let located_values = [
        (&fields.idempotency_key, EXAMPLE_KEY),
        (&fields.event, EXAMPLE_EVENT),
        (&fields.occurred_at, EXAMPLE_AT),
        (&fields.entity, example_id(custom.kind)),
    ];
    let mut data = json!({});
    for (places, value) in located_values {
        // Earlier places are templates of several values, which the example does not have.
        let pointer = places.as_slice().iter().find_map(FieldLocator::as_pointer);
        let is_in_header = places
            .as_slice()
            .first()
            .is_some_and(|place| place.as_header().is_some());
        if let Some(pointer) = pointer.filter(|_| !is_in_header) {
            let pointer = pointer.to_string();
            let steps = pointer
                .split('/')
                .skip(1)
                .map(|step| step.replace("~1", "/").replace("~0", "~"));
            insert_at(&mut data, &steps.collect::<Vec<_>>(), value);
        }
    }
    data
}

/// Puts `value` at the path `steps` below `within`, and creates missing lists and objects.
fn insert_at(within: &mut Value, steps: &[String], value: &str) {
    let Some((step, rest)) = steps.split_first() else {
        *within = value.into();
        return;
    };
    let index = step
        .parse::<usize>()
        .ok()
        .filter(|index| *index <= EXAMPLE_INDEX_MAX);
    let next = match (index, &mut *within) {
        (Some(index), Value::Null) => {
            *within = Value::Array(vec![Value::Null; index + 1]);
            &mut within[index]
        }
        (Some(index), Value::Array(items)) => {
            items.resize(items.len().max(index + 1), Value::Null);
            &mut items[index]
        }
        (_, Value::Object(members)) => members.entry(step.as_str()).or_insert(Value::Null),
        (
            _,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
        ) => {
            *within = json!({});
            &mut within[step.as_str()]
        }
    };
    insert_at(next, rest, value);
}

/// Returns the id of the entity in the examples of `kind`.
fn example_id(kind: Kind) -> &'static str {
    match kind {
        Kind::Ticket => "SUP-1042",
        Kind::PreLead => "123",
        Kind::Lead => "789",
        Kind::Customer => "505",
        Kind::C2sLead => "7f3a",
        Kind::Conversation => "conv_1234567890_0987654321",
        Kind::Organisation => "51",
        Kind::Person => "204",
        Kind::Task => "33",
        Kind::Mandat => "12",
        Kind::Interaction => "870",
        Kind::Custom(_) => "1",
    }
}

/// Describes the endpoint for the OpenAPI description.
pub(super) fn describe() -> EndpointDoc {
    let example = catalogue::find_entry("organisation.created").map(built_in_event);
    EndpointDoc::new("Event bus", "listAvailableEvents", "List all known events")
        .about(
            "Each event has the name that its source uses, a sentence on when it \
            happens, and the body of a delivery as an example.",
        )
        .access(EndpointAccess::Admin)
        .answers_page::<AvailableEvent>(&[json!(example)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(pointers: &[&str]) -> Value {
        let mut data = json!({});
        for pointer in pointers {
            let steps: Vec<_> = pointer.split('/').skip(1).map(str::to_owned).collect();
            insert_at(&mut data, &steps, "x");
        }
        data
    }

    #[test]
    fn a_value_is_put_where_a_pointer_leads() {
        assert_eq!(
            placed(&["/a/b", "/a/c"]),
            json!({"a": {"b": "x", "c": "x"}})
        );
        assert_eq!(
            placed(&["/entry/1/id", "/entry/0/id"]),
            json!({"entry": [{"id": "x"}, {"id": "x"}]})
        );
        assert_eq!(
            placed(&["/0", "/a/4096"]),
            json!({"0": "x", "a": {"4096": "x"}}),
            "no list is made that long"
        );
        assert_eq!(
            placed(&["/a", "/a/b"]),
            json!({"a": {"b": "x"}}),
            "the last one counts"
        );
    }
}

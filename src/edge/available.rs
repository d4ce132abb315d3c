//! `GET /api/v1/webhooks/events/available`: every event that can be followed, with an example of its delivery.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call::Call;
use super::docs::endpoint::{Access, Endpoint};
use super::error::Error;
use super::query::Parameters;
use super::{Edge, admin, answer};
use crate::config::Config;
use crate::event::{Kind, catalogue};

/// When the events of the examples happened.
const EXAMPLE_AT: &str = "2025-10-18T09:43:12.442Z";

#[derive(Serialize)]
struct Available {
    event: String,
    source: Option<String>,
    kind: Option<Kind>,
    wire_name: Option<String>,
    description: String,
    example: Option<Example>,
}

/// The body of a delivery.
#[derive(Serialize)]
struct Example {
    event: &'static str,
    timestamp: &'static str,
    user_id: Option<u64>,
    data: &'static RawValue,
    entity: Option<Value>,
    late: bool,
}

/// Lists them all, source by source. The list is one page, since it is as long as the program and the configuration are.
pub(super) async fn list(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let call = Call::begin(&request, admin::SOURCE);
    let result = answer(&request, &edge);
    call.end(&request, payload.into_inner(), &edge, result)
}

fn answer(request: &HttpRequest, edge: &Edge) -> Result<HttpResponse, Error> {
    admin::authorize(request, edge)?;
    Parameters::parse(request.query_string(), &[]).finish(())?;
    let items = available(&edge.config);
    let total = items.len();
    let list = json!({"items": items, "total": total, "page": 1, "page_size": total, "pages": 1});
    Ok(answer::uncached(StatusCode::OK, &list))
}

fn available(config: &Config) -> Vec<Available> {
    let declared = config.sources.crm.events.iter().filter(|declared| catalogue::find(&declared.name).is_none());
    let declared = declared.map(|declared| Available {
        event: declared.name.to_string(),
        source: Some(catalogue::CRM.to_owned()),
        kind: Some(declared.kind),
        wire_name: Some(declared.name.to_string()),
        description: "Declared in the configuration, sources.crm.events.".to_owned(),
        example: None,
    });
    let configured = config.sources.custom.iter().map(|custom| Available {
        event: format!("{}.*", custom.name),
        source: Some(custom.name.to_string()),
        kind: Some(custom.kind),
        wire_name: None,
        description: "Every event of a configured source, each under the name that it has there.".to_owned(),
        example: None,
    });
    catalogue::all().map(built_in).chain(declared).chain(configured).collect()
}

fn built_in(entry: catalogue::Entry) -> Available {
    let entity = entry.kind.map(|kind| json!({"kind": kind, "id": example_id(kind), "sequence": 1}));
    let is_published = entry.source == Some(catalogue::CRM);
    let data = serde_json::from_str(entry.data).expect("a test of the catalogue parses all examples");
    let example = Example {
        event: entry.name,
        timestamp: EXAMPLE_AT,
        user_id: is_published.then_some(12),
        data,
        entity,
        late: false,
    };
    Available {
        event: entry.name.to_owned(),
        source: entry.source.map(str::to_owned),
        kind: entry.kind,
        wire_name: entry.wire_name.map(str::to_owned),
        description: entry.description.to_owned(),
        example: Some(example),
    }
}

/// The id that the entities of the examples have; that of the bus is in their data too.
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

/// What the description of the API says of it.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let example = catalogue::find("organisation.created").map(built_in);
    let items = json!({"items": [example], "total": 1, "page": 1, "page_size": 1, "pages": 1});
    let endpoint = Endpoint::get("Event bus", "/api/v1/webhooks/events/available", "List every event there is")
        .about("Each with the name that its own source uses, when it happens, and the body of a delivery.")
        .access(Access::Admin)
        .free(&["data", "kind", "source", "wire_name", "user_id"])
        .answers(200, "All of them.", items);
    vec![endpoint]
}

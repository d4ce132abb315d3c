//! Tests of the decoder: accepted bodies, and the field errors of the others.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};
use crate::edge::signature::VerifiedBody;
use crate::entity::{lead, pre_lead, sales};
use crate::event::catalogue;

fn new_code() -> Option<String> {
    Some("CUST-TEST".to_owned())
}

/// Decodes `body` for the path of the event `name`, or for the common path.
fn decode_text(name: Option<&str>, body: &str) -> Result<DecodedLeadEvent, ApiError> {
    let body = VerifiedBody::unsigned(Bytes::from(body.to_owned()));
    let event = name.map(|name| LeadEvent::from_wire_name(name).expect("an event"));
    let id = event
        .is_some_and(|event| matches!(event.subject, LeadEventSubject::Known(_)))
        .then_some(7);
    decode_lead_event(
        &body,
        LeadRequestContext {
            event,
            id,
            new_customer_code: new_code,
        },
    )
}

fn envelope(event: &str, data: &Value) -> String {
    json!({"event": event, "source": "crm", "data": data}).to_string()
}

fn decode_data(event: &str, data: Value) -> Result<DecodedLeadEvent, ApiError> {
    decode_text(Some(event), &envelope(event, &data))
}

/// Returns the field and the detail of each field error.
fn field_errors(decoded: Result<DecodedLeadEvent, ApiError>) -> Vec<(String, String)> {
    match decoded {
        Err(ApiError::InvalidFields(faults)) => faults
            .into_iter()
            .map(|fault| (fault.field.into_owned(), fault.detail))
            .collect(),
        other => panic!("expected faults: {other:?}"),
    }
}

fn only_field_error(event: &str, data: Value) -> (String, String) {
    let mut faults = field_errors(decode_data(event, data));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

/// Such a body was once answered with a 500, and later refused for ever.
#[test]
fn half_a_surrogate_in_a_name_or_a_text_is_no_fault() {
    let body = r#"{"event":"new_lead","source":"x","data":{"\ud800":1,"first_name":"A\udfff","phone":"1"}}"#;
    for path in [None, Some("new_lead")] {
        assert!(decode_text(path, body).is_ok(), "{path:?}");
    }
}

#[test]
fn the_source_is_any_text_that_is_not_empty() {
    let of = |source: &str| {
        let body = format!(
            r#"{{"event":"new_lead","source":{source},"data":{{"first_name":"A","phone":"1"}}}}"#
        );
        decode_text(None, &body)
    };
    for source in [r#"" ""#, r#""crm""#, r#""\t""#] {
        assert!(of(source).is_ok(), "{source}");
    }
    for (source, detail) in [
        (r#""""#, "source must not be empty"),
        ("null", "source is required"),
    ] {
        assert_eq!(
            field_errors(of(source)),
            [("source".to_owned(), detail.to_owned())]
        );
    }
}

#[test]
fn a_missing_field_is_named_as_the_contract_names_it() {
    let cases = [
        ("lead_status_update", json!({}), "lead_status"),
        (
            "pre_lead_status_update",
            json!({"lead_status": null}),
            "lead_status",
        ),
        ("lead_contact_add", json!({"last_name": "x"}), "first_name"),
        ("pre_lead_memo_add", json!({"title": "x"}), "content"),
        ("lead_activity_add", json!({"title": "x"}), "activity_type"),
        (
            "lead_activity_add",
            json!({"activity_type": "call"}),
            "title",
        ),
        ("new_lead", json!({"phone": "1"}), "first_name"),
    ];
    for (event, data, name) in cases {
        assert_eq!(
            only_field_error(event, data),
            (format!("data.{name}"), format!("{name} is required")),
            "{event}"
        );
    }
    let said = only_field_error(
        "new_inquiry",
        json!({"first_name": "John", "email": "", "phone": null}),
    );
    assert_eq!(
        said,
        ("data.email".into(), "email or phone is required".into())
    );
}

#[test]
fn values_are_those_of_the_lists() {
    let cases = [
        (
            "lead_update",
            json!({"lead_status": "discarded"}),
            "data.lead_status",
        ),
        (
            "lead_status_update",
            json!({"lead_status": "converted"}),
            "data.lead_status",
        ),
        (
            "pre_lead_update",
            json!({"source": "television"}),
            "data.source",
        ),
        (
            "lead_update",
            json!({"priority": "urgent"}),
            "data.priority",
        ),
        ("pre_lead_convert", json!({"priority": ""}), "data.priority"),
        (
            "lead_memo_add",
            json!({"content": "x", "memo_type": "letter"}),
            "data.memo_type",
        ),
        (
            "lead_activity_add",
            json!({"activity_type": "walk", "title": "x"}),
            "data.activity_type",
        ),
        (
            "lead_contact_add",
            json!({"first_name": "x", "email": "nobody"}),
            "data.email",
        ),
        (
            "lead_contact_add",
            json!({"first_name": " "}),
            "data.first_name",
        ),
        ("lead_update", json!({"first_name": ""}), "data.first_name"),
        (
            "lead_update",
            json!({"expected_value": -1}),
            "data.expected_value",
        ),
        (
            "lead_convert",
            json!({"credit_limit": "100"}),
            "data.credit_limit",
        ),
        (
            "lead_convert",
            json!({"customer_code": ""}),
            "data.customer_code",
        ),
        (
            "lead_status_update",
            json!({"lead_status": "won", "status_date": "soon"}),
            "data.status_date",
        ),
        (
            "lead_activity_add",
            json!({"activity_type": "call", "title": "x", "scheduled_at": 5}),
            "data.scheduled_at",
        ),
        (
            "order_created",
            json!({"order_id": 1, "amount": 1, "currency": "EUR"}),
            "data.customer_id",
        ),
        (
            "order_created",
            json!({"customer_id": 1, "amount": 1, "currency": "EUR"}),
            "data.order_id",
        ),
        (
            "order_created",
            json!({"customer_id": 1, "order_id": 1, "currency": "EUR"}),
            "data.amount",
        ),
        (
            "payment_received",
            json!({"customer_id": 1, "payment_id": 1, "amount": 1}),
            "data.currency",
        ),
        (
            "payment_received",
            json!({"customer_id": 1, "payment_id": 1, "amount": 1, "currency": "€"}),
            "data.currency",
        ),
        (
            "payment_received",
            json!({"customer_id": "x", "payment_id": 1, "amount": 1, "currency": "EUR"}),
            "data.customer_id",
        ),
    ];
    for (event, data, field) in cases {
        let (found, detail) = only_field_error(event, data.clone());
        assert_eq!(found, field, "{event} {data}: {detail}");
        let name = field.trim_start_matches("data.");
        assert!(detail.starts_with(name), "{detail}");
    }
}

#[test]
fn every_wrong_field_is_named_envelope_and_data_alike() {
    let body =
        r#"{"event": "lead_update", "source": "", "timestamp": "now", "data": {"lead_status": 1}}"#;
    let said = field_errors(decode_text(Some("new_lead"), body));
    let fields: Vec<_> = said.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "event",
            "source",
            "timestamp",
            "data.lead_status",
            "data.first_name",
            "data.email"
        ]
    );
    assert_eq!(said[0].1, "event must be new_lead here");
    for (data, detail) in [
        ("", "data is required"),
        (r#", "data": []"#, "data must be an object, not a list"),
    ] {
        let said = field_errors(decode_text(
            Some("new_lead"),
            &format!(r#"{{"event": "new_lead", "source": "x"{data}}}"#),
        ));
        assert_eq!(said, [("data".to_owned(), detail.to_owned())]);
    }
}

#[test]
fn the_common_path_takes_each_event_and_the_id_from_its_data() {
    for id in [json!(12), json!("12")] {
        let body = envelope(
            "lead_memo_add",
            &json!({"lead_id": id, "content": "x", "pre_lead_id": 5}),
        );
        let decoded = decode_text(None, &body).expect("valid");
        assert_eq!(
            decoded.target,
            LeadEventTarget::Known(EntityKey::from_number(Kind::Lead, 12))
        );
    }
    let said = field_errors(decode_text(
        None,
        &envelope("lead_memo_add", &json!({"content": "x"})),
    ));
    assert_eq!(
        said,
        [("data.lead_id".to_owned(), "lead_id is required".to_owned())]
    );
    let said = field_errors(decode_text(
        None,
        &envelope("pre_lead_discard", &json!({"pre_lead_id": "x1"})),
    ));
    assert_eq!(
        said,
        [(
            "data.pre_lead_id".to_owned(),
            "pre_lead_id must be a whole number".to_owned()
        )]
    );
    let said = field_errors(decode_text(None, &envelope("lead_deleted", &json!({}))));
    let (field, detail) = &said[0];
    assert_eq!(field, "event");
    assert!(
        LEAD_EVENTS.iter().all(|event| detail.contains(event.name)),
        "{detail}"
    );
}

#[test]
fn a_customer_is_named_by_its_id_or_its_code() {
    let order = |who: Value| {
        let mut data = json!({"order_id": "o-1", "amount": 10.50, "currency": "eur"});
        data.as_object_mut()
            .expect("an object")
            .extend(who.as_object().expect("an object").clone());
        decode_text(None, &envelope("order_created", &data))
            .expect("valid")
            .target
    };
    let customer = |id| LeadEventTarget::Known(EntityKey::from_number(Kind::Customer, id));
    assert_eq!(order(json!({"customer_id": 5})), customer(5));
    assert_eq!(
        order(json!({"customer_code": "C-1"})),
        LeadEventTarget::Code("C-1".into())
    );
    assert_eq!(
        order(json!({"customer_id": "5", "customer_code": "C-1"})),
        customer(5)
    );
}

#[test]
fn the_time_of_a_status_is_its_own() {
    let at = |body: &str| {
        decode_text(Some("lead_status_update"), body)
            .expect("valid")
            .at
            .map(|at| at.to_string())
    };
    let body = |members: &str, date: &str| {
        format!(
            r#"{{"event": "lead_status_update", "source": "x", "data": {{"lead_status": "won"{date}}}{members}}}"#
        )
    };
    let (timestamp, date) = (
        r#", "timestamp": "2024-02-01T00:00:00Z""#,
        r#", "status_date": "2024-01-25T10:00:00+01:00""#,
    );
    assert_eq!(
        at(&body(timestamp, date)).as_deref(),
        Some("2024-01-25T09:00:00.000Z")
    );
    assert_eq!(
        at(&body(timestamp, "")).as_deref(),
        Some("2024-02-01T00:00:00.000Z")
    );
    assert_eq!(at(&body("", "")), None);
}

#[test]
fn a_customer_code_is_claimed_given_or_made() {
    let code = |data| {
        let decoded = decode_data("lead_convert", data).expect("valid");
        let EntityAction::Lead(lead::LeadAction::Convert { customer_code, .. }) = decoded.action
        else {
            panic!("a conversion")
        };
        assert_eq!(
            decoded.unique_key.as_deref(),
            Some(&*customer_code),
            "the code in the state is the one that is claimed"
        );
        customer_code.to_string()
    };
    assert_eq!(
        code(json!({"customer_code": "CUST-XYZ-001"})),
        "CUST-XYZ-001"
    );
    assert_eq!(code(json!({"customer_code": null})), "CUST-TEST");
}

#[test]
fn of_members_with_one_name_the_last_counts_also_when_escaped() {
    let body = r#"{"event": "x", "source": "crm", "data": {}, "data": {"first_name": "A", "phone": "1", "f\u0069rst_name": "J\u00f6rg"}, "event": "new_inquiry"}"#;
    let decoded = decode_text(Some("new_inquiry"), body).expect("valid");
    let EntityAction::PreLead(pre_lead::PreLeadAction::Prospect(sales::ProspectAction::Create {
        fields,
    })) = decoded.action
    else {
        panic!("a creation")
    };
    assert_eq!(
        fields.get(&sales::SalesField::FirstName),
        Some(&sales::SalesValue::Text("Jörg".into()))
    );
}

#[test]
fn what_is_no_object_is_refused() {
    for body in [
        "",
        "[]",
        "{",
        "null",
        "{\"event\": \"new_lead\"} x",
        "\u{feff}",
    ] {
        assert!(
            matches!(decode_text(None, body), Err(ApiError::InvalidJson(_))),
            "{body}"
        );
    }
    let bytes = VerifiedBody::unsigned(Bytes::from_static(b"{\"event\": \"\xff\"}"));
    let decoded = decode_lead_event(
        &bytes,
        LeadRequestContext {
            event: None,
            id: None,
            new_customer_code: new_code,
        },
    );
    assert!(matches!(decoded, Err(ApiError::InvalidJson(_))));
}

/// Body of each event, with the example of the catalogue.
fn samples() -> Vec<String> {
    let examples = LEAD_EVENTS.iter().map(|event| {
        let entry = catalogue::find_entry(event.event_type).expect("an entry");
        let data = serde_json::from_str(entry.data).expect("JSON");
        envelope(event.name, &data)
    });
    examples.collect()
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_event_of_a_lead_is_decoded_or_refused(
        path in prop::sample::select(&LEAD_EVENTS[..]),
        body in damaged_text(&samples().iter().map(String::as_str).collect::<Vec<_>>()),
    ) {
        for path in [None, path.path.map(|_| path.name)] {
            prop_assert!(!matches!(decode_text(path, &body), Err(ApiError::Internal)));
        }
    }

    #[test]
    fn any_text_is_decoded_or_refused(body in any::<String>()) {
        prop_assert!(decode_text(None, &body).is_err());
    }

    #[test]
    fn any_data_is_decoded_or_refused_without_an_internal_error(
        event in prop::sample::select(&LEAD_EVENTS[..]), name in "[a-z_]{1,14}",
        value in prop_oneof![
            any::<f64>().prop_map(|n| json!(n)),
            any::<String>().prop_map(|s| json!(s)),
            any::<bool>().prop_map(|b| json!(b)),
            Just(json!(null)), Just(json!([1])), Just(json!({"a": {}})),
        ],
    ) {
        let data = json!({
            name: value.clone(), "first_name": value, "lead_status": value, "email": value,
            "amount": value,
        });
        for path in [Some(event.name), None] {
            if path.is_some() && event.path.is_none() {
                continue;
            }
            if let Err(error) = decode_text(path, &envelope(event.name, &data)) {
                prop_assert!(matches!(error, ApiError::InvalidFields(_)), "{}", error);
            }
        }
    }
}

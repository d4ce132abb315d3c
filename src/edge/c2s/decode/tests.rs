//! Tests of the decoder: accepted bodies, and the field errors of the others.

use super::*;

fn single(body: &str) -> Result<C2sEvent, Vec<String>> {
    match decode_c2s_request(&Bytes::copy_from_slice(body.as_bytes())).expect("JSON") {
        C2sRequest::Single(event) => {
            event.map_err(|faults| faults.into_iter().map(|fault| fault.detail).collect())
        }
        C2sRequest::Batch(_) => panic!("no list"),
    }
}

fn error_details(body: &str) -> Vec<String> {
    single(body).expect_err("something is wrong")
}

fn refusal(body: &str) -> (&'static str, String) {
    let error = decode_c2s_request(&Bytes::copy_from_slice(body.as_bytes())).expect_err("refused");
    (error.code(), error.to_string())
}

const TIME: &str = "2025-01-20T10:00:00Z";

#[test]
fn a_number_and_its_digits_are_one_lead() {
    let id = |lead_id: &str| {
        let event = single(&format!(
            r#"{{"lead_id": {lead_id}, "updated_at": "{TIME}"}}"#
        ))
        .expect("valid");
        event.entity.to_string()
    };
    assert_eq!(
        (id("7"), id(r#""7""#)),
        ("c2s_lead:7".to_owned(), "c2s_lead:7".to_owned())
    );
    assert_eq!(
        id("123456789012345678901234567890"),
        "c2s_lead:123456789012345678901234567890"
    );
    assert_eq!(id("-3"), "c2s_lead:-3");
    assert_eq!(id(r#""\u0037""#), "c2s_lead:7");
}

#[test]
fn the_time_stands_beside_the_attributes_or_among_them() {
    let at = |body: &str| single(body).expect("valid").at.to_string();
    assert_eq!(
        at(r#"{"lead_id": 1, "updated_at": "2025-01-20T12:00:00+02:00"}"#),
        "2025-01-20T10:00:00.000Z"
    );
    let nested = r#"{"lead_id": 1, "updated_at": null, "attributes": {"updated_at": "2025-01-20T11:00:00Z"}}"#;
    assert_eq!(at(nested), "2025-01-20T11:00:00.000Z");
    let both = r#"{"lead_id": 1, "attributes": {"updated_at": "no"}, "updated_at": "2025-01-20T11:00:00Z"}"#;
    assert_eq!(
        at(both),
        "2025-01-20T11:00:00.000Z",
        "the one beside them counts"
    );
}

#[test]
fn every_wrong_field_is_named() {
    assert_eq!(
        error_details("{}"),
        ["lead_id is required", "updated_at is required"]
    );
    let wrong = r#"{"lead_id": 1.5, "updated_at": "soon", "hook_action": 1, "customer": "Ana"}"#;
    let expected = [
        "lead_id must be a string or a whole number, of at most 256 bytes",
        "updated_at must be an RFC 3339 time",
        "hook_action must be a string, not a number",
        "customer must be an object, not a string",
    ];
    assert_eq!(error_details(wrong), expected);
    let nested = r#"{"lead_id": "", "attributes": {"updated_at": 7}}"#;
    let expected = [
        "lead_id must have 1 to 256 bytes of valid Unicode text and no control characters",
        "attributes.updated_at must be an RFC 3339 time, not a number",
    ];
    assert_eq!(error_details(nested), expected);
    for lead_id in ["true", "[]", "{}", "1e3", &"9".repeat(257)] {
        let body = format!(r#"{{"lead_id": {lead_id}, "updated_at": "{TIME}"}}"#);
        assert_eq!(
            error_details(&body),
            ["lead_id must be a string or a whole number, of at most 256 bytes"],
            "{lead_id}"
        );
    }
    let lists = r#"{"lead_id": 1, "attributes": [{"updated_at": "2025-01-20T11:00:00Z"}]}"#;
    assert_eq!(error_details(lists), ["updated_at is required"]);
}

#[test]
fn each_event_of_a_list_is_decoded_by_itself_and_kept_as_it_was_sent() {
    let good = format!(r#"{{ "lead_id":1,  "updated_at": "{TIME}", "x": 1.50 }}"#);
    let body = Bytes::from(format!("  [ {good} , 7, {{}} ] "));
    let C2sRequest::Batch(events) = decode_c2s_request(&body).expect("a list") else {
        panic!("a list")
    };
    let decoded: Vec<_> = events
        .iter()
        .map(|event| event.as_ref().map(|event| &event.payload[..]))
        .collect();
    assert_eq!(decoded[0].expect("valid"), good.as_bytes());
    assert_eq!(
        decoded[1].expect_err("no object")[0].detail,
        "event must be a JSON object of valid Unicode text"
    );
    assert_eq!(decoded[2].expect_err("empty").len(), 2);
}

#[test]
fn a_body_that_is_no_event_is_refused_as_a_whole() {
    assert_eq!(
        refusal("[]"),
        (
            "validation_failed",
            "body must have 1 to 1000 events".into()
        )
    );
    let list = |count| format!("[{}]", vec!["{}"; count].join(","));
    assert_eq!(refusal(&list(1_001)).0, "validation_failed");
    assert_eq!(refusal(&list(5_000)).0, "validation_failed");
    assert!(
        matches!(decode_c2s_request(&list(1_000).into()), Ok(C2sRequest::Batch(events)) if events.len() == 1_000)
    );
    for body in ["7", "null", "\"text\"", "true"] {
        assert_eq!(
            refusal(body),
            (
                "invalid_json",
                "body must be a JSON object or a list of them".into()
            ),
            "{body}"
        );
    }
    for body in ["", "{", "[", "[{}", "[{}] x", "{} {}", "[{},]", "nul"] {
        assert_eq!(refusal(body).0, "invalid_json", "{body}");
    }
    let error = decode_c2s_request(&Bytes::from_static(b"\xff")).expect_err("no text");
    assert_eq!(error.code(), "invalid_json");
}

#[test]
fn the_fields_of_a_state_begin_with_the_known_ones_and_are_bounded() {
    let others: Vec<_> = (0..1_200).map(|n| format!(r#""f{n:04}": {n}"#)).collect();
    let body = format!(
        r#"{{{}, "lead_id": "7", "attributes": {{"updated_at": "{TIME}"}}}}"#,
        others.join(",")
    );
    let C2sLeadAction::Received { fields, .. } = single(&body).expect("valid").action else {
        panic!("received")
    };
    let names: Vec<_> = fields
        .iter()
        .take(4)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["lead_id", "updated_at", "attributes", "f0000"]);
    assert_eq!(fields.len(), 3 + OTHER_FIELDS_MAX);
}

//! OTLP in JSON: the body of a request to `/v1/traces` of a collector (OTLP 1.0, in which ids are
//! hex and times are nanoseconds as text).

use serde_json::{Value, json};

use super::span::{AttributeValue, FinishedSpan};
use crate::event::Timestamp;

/// Status of a span that failed, by the numbers of OTLP.
const STATUS_ERROR: u8 = 2;

/// Encodes `spans` of the process `instance` as the body of one export.
pub(super) fn encode_export(spans: &[FinishedSpan], instance: &str) -> Vec<u8> {
    let spans: Vec<_> = spans.iter().map(encode_span).collect();
    let resource = [
        ("service.name", "hookyard".into()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", instance.into()),
    ];
    let export = json!({"resourceSpans": [{
        "resource": {"attributes": encode_attributes(&resource)},
        "scopeSpans": [{"scope": {"name": "hookyard"}, "spans": spans}],
    }]});
    export.to_string().into_bytes()
}

fn encode_span(span: &FinishedSpan) -> Value {
    let mut encoded = json!({
        "traceId": hex::encode(span.trace_id),
        "spanId": hex::encode(span.span_id),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": unix_nanos(span.began_at),
        "endTimeUnixNano": unix_nanos(span.ended_at),
        "attributes": encode_attributes(&span.attributes),
    });
    if let Some(parent) = span.parent_id {
        encoded["parentSpanId"] = hex::encode(parent).into();
    }
    if let Some(code) = span.failure {
        encoded["status"] = json!({"code": STATUS_ERROR, "message": code});
    }
    encoded
}

fn encode_attributes(attributes: &[(&'static str, AttributeValue)]) -> Vec<Value> {
    let encode = |(name, value): &(&'static str, AttributeValue)| {
        let value = match value {
            AttributeValue::Text(text) => json!({ "stringValue": text }),
            // 64 bits are a text, since JavaScript has no such numbers.
            AttributeValue::Integer(number) => json!({ "intValue": number.to_string() }),
            AttributeValue::Boolean(value) => json!({ "boolValue": value }),
        };
        json!({"key": name, "value": value})
    };
    attributes.iter().map(encode).collect()
}

fn unix_nanos(at: Timestamp) -> String {
    (i128::from(at.as_micros()) * 1_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::span::SpanKind;
    use super::*;

    #[test]
    fn spans_are_written_as_the_protocol_says() {
        let span = FinishedSpan {
            trace_id: [0xab; 16],
            span_id: [0xcd; 8],
            parent_id: Some([0xef; 8]),
            name: "deliver",
            kind: SpanKind::Client,
            began_at: Timestamp::from_micros(1_764_844_200_000_001),
            ended_at: Timestamp::from_micros(1_764_844_200_000_003),
            attributes: vec![
                ("hookyard.attempt", AttributeValue::Integer(2)),
                ("hookyard.replay", AttributeValue::Boolean(false)),
            ],
            failure: Some("status"),
        };
        let root = FinishedSpan {
            parent_id: None,
            failure: None,
            attributes: Vec::new(),
            ..span.clone()
        };
        let body: Value =
            serde_json::from_slice(&encode_export(&[span, root], "one")).expect("JSON");
        let group = &body["resourceSpans"][0];
        assert_eq!(
            group["resource"]["attributes"][0],
            json!({"key": "service.name", "value": {"stringValue": "hookyard"}})
        );
        let spans = &group["scopeSpans"][0]["spans"];
        let expected = json!({
            "traceId": "ab".repeat(16), "spanId": "cd".repeat(8), "parentSpanId": "ef".repeat(8),
            "name": "deliver", "kind": 3, "startTimeUnixNano": "1764844200000001000",
            "endTimeUnixNano": "1764844200000003000", "attributes": [
                {"key": "hookyard.attempt", "value": {"intValue": "2"}},
                {"key": "hookyard.replay", "value": {"boolValue": false}},
            ],
            "status": {"code": 2, "message": "status"},
        });
        assert_eq!(spans[0], expected);
        assert!(spans[1].get("parentSpanId").is_none() && spans[1].get("status").is_none());
    }
}

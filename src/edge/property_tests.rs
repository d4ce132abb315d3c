//! Property tests of the decoders of all contracts: any bytes are decoded or refused with an error of
//! the sender, without a panic and without an internal error.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tracing::Span;

use super::error::ApiError;
use super::query::{QueryParameters, parse_number};
use super::signature::VerifiedBody;
use super::{access, browser_guard, c2s, client_address, crm, dead_letters, instagram, support};
use crate::config;
use crate::damaged_samples::{CHEAP, damage_cases, damaged, damaged_text};
use crate::event::{self, EventId, Kind, Timestamp, TraceContext};
use crate::provider::{JsonPointer, parse_moment};
use crate::retry_after::parse_retry_after;
use crate::subscriber::SubscriberId;
use crate::subscription::{FilterExpression, TransformExpression};

/// Names that the contracts read, so that random objects reach deep into the decoders.
const NAMES: [&str; 32] = [
    "event",
    "support_uid",
    "idempotency_key",
    "timestamp",
    "data",
    "actor",
    "message_id",
    "text",
    "status",
    "lead_id",
    "updated_at",
    "customer",
    "attributes",
    "object",
    "entry",
    "messaging",
    "changes",
    "value",
    "sender",
    "recipient",
    "id",
    "message",
    "mid",
    "attachments",
    "type",
    "payload",
    "is_deleted",
    "reaction",
    "user_id",
    "time",
    "tags",
    "name",
];
/// Texts that the contracts take somewhere.
const TEXTS: [&str; 9] = [
    "instagram",
    "message.created",
    "tags.updated",
    "organisation.created",
    "2025-12-04T10:30:00Z",
    "SUP-1",
    "true",
    "\u{fffd}",
    "",
];

/// Bodies of each contract, among them all forms of an event or a list.
const SAMPLES: [&str; 10] = [
    r#"{"event":"message.created","support_uid":"SUP-1","idempotency_key":"k","timestamp":"2025-12-04T10:30:00Z","actor":{"type":"agent","id":7,"name":"Ada"},"data":{"message_id":"m","text":"a\ud83d\ude42\u0000","author":{"name":"Ada"},"is_internal":true,"attachments":[{"url":"https://x/y"}]}}"#,
    r#"{"event":"tags.updated","support_uid":"S","data":{"tags":["a","b"],"previous":[]}}"#,
    r#"{"lead_id":71,"updated_at":"2025-12-04T10:30:00-03:00","attributes":{"customer":{"name":"Ada","cpf":"529.982.247-25"},"price":12.50}}"#,
    r#"[{"lead_id":"71","updated_at":"2025-12-04T10:30:00Z"},{"id":"x","attributes":{"updated_at":"2025-12-04"}}]"#,
    r#"{"object":"instagram","entry":[{"id":"9","time":1764844200000,"messaging":[{"sender":{"id":"1"},"recipient":{"id":"9"},"timestamp":1764844200123,"message":{"mid":"m","text":"Hi","attachments":[{"type":"image","payload":{"url":"https://x"}}],"is_deleted":true}}]}]}"#,
    r#"{"object":"instagram","entry":[{"id":"9","changes":[{"field":"comments","value":{"id":"c","text":"Nice"}}]},{"messaging":[{"reaction":{"mid":"m","action":"react","emoji":"x"},"read":{"mid":"m"}}]}]}"#,
    r#"{"event":"organisation.created","timestamp":"2025-12-04T10:30:00Z","user_id":3,"idempotency_key":"k","data":{"organisation_id":7,"name":"A","amount":1e400}}"#,
    r#"[{"event":"task.created","data":{"task_id":1}},{"event":"deal.updated","data":{"deal_id":"2"}}]"#,
    r#"{"event":"new_lead","source":"crm","data":{"first_name":"Ada","phone":"1","email":"a@b.example","amount":"12.345","lead_status":{"id":4,"name":"won"},"tags":["x"]}}"#,
    "\u{feff}{\"event\":\"status.changed\",\"support_uid\":\"S\",\"data\":{\"status\":\"open\"}}",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let names = prop_oneof![
            9 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
            1 => ".{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(names, inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Bodies of JSON, of JSON with a few bytes replaced, and of anything.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let json = any_json().prop_map(|json| json.to_string().into_bytes());
    let halves = any_json().prop_map(|json| json.to_string().replace('\u{fffd}', "\\ud800").into());
    let damaged =
        (any_json(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(json, at, byte)| {
            let mut bytes = json.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    let bytes = prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![4 => json, 2 => halves, 2 => damaged, 1 => bytes]
}

fn is_senders_fault<T>(result: &Result<T, ApiError>) -> bool {
    !matches!(result, Err(ApiError::Internal))
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_body_of_each_contract_is_decoded_or_refused(
        body in prop_oneof![any_body(), damaged(&SAMPLES)],
    ) {
        let bytes = Bytes::from(body);
        let verified = VerifiedBody::unsigned(bytes.clone());
        let context = || support::SupportRequestContext {
            idempotency_key: Some(b"k"),
            at: None,
            unknown_entity: config::UnknownEntityPolicy::Create,
        };
        let ticket = support::decode_support_event(&verified, context(), Span::none());
        prop_assert!(is_senders_fault(&ticket), "support");
        prop_assert!(is_senders_fault(&c2s::decode_c2s_request(&bytes)), "c2s");
        let calls = instagram::decode_instagram_call(&verified, &Span::none());
        prop_assert!(is_senders_fault(&calls), "instagram");

        let events = crm::BusEventCatalogue::new(&config::CrmConfig {
            enabled: true,
            tokens: Vec::new(),
            events: Vec::new(),
        });
        if let Ok(text) = str::from_utf8(&bytes) {
            let event = crm::decode_bus_event(&events, &bytes, text, None, Span::none());
            prop_assert!(is_senders_fault(&event), "crm");
        }
    }

    /// The decoders see objects of the right shape more often than chance would make them.
    #[test]
    fn any_member_of_a_contracts_envelope_is_decoded_or_refused(
        data in any_json(), actor in any_json(), entry in any_json(),
    ) {
        let ticket = json!({"event": "message.created", "support_uid": "S", "data": data, "actor": actor});
        let verified = VerifiedBody::unsigned(ticket.to_string().into());
        let context = support::SupportRequestContext {
            idempotency_key: Some(b"k"),
            at: None,
            unknown_entity: config::UnknownEntityPolicy::Create,
        };
        let decoded = support::decode_support_event(&verified, context, Span::none());
        prop_assert!(is_senders_fault(&decoded), "support");

        let call = json!({"object": "instagram", "entry": [{"id": "9", "messaging": [entry, data]}, actor]});
        let verified = VerifiedBody::unsigned(call.to_string().into());
        let decoded = instagram::decode_instagram_call(&verified, &Span::none());
        prop_assert!(decoded.is_ok(), "an authentic update is never refused");
    }
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_text_of_a_header_a_path_or_a_query_is_read_or_refused(
        text in damaged_text(&[
            "Fri, 31 Dec 1999 23:59:59 GMT", "120", "2025-12-04T10:30:00.123456+02:00",
            "Tue, 20 Apr 2021 02:07:55 -0330", "1764374400.5", "evt_3f9a2c41_1042", "custom:shop",
            "webhook:18446744073709551615", "/data/0/~1id", "https://user@[::1]:65536/a?b#c",
        ]),
        trace in damaged(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "8", "255"]),
        query in damaged_text(&[
            "since=2025-12-04T10:30:00+02:00&kind=ticket&page=4294967295&page_size=100",
            "entity=%F0%9F%92%A9&webhook_id=1&reason=expired&page=1&page=2&a[]=%zz",
        ]),
    ) {
        let now = Timestamp::from_micros(1_764_374_400_000_000);
        let _ = (parse_retry_after(&text, now), parse_moment(&text), Timestamp::parse(&text));
        let _ = (EventId::parse(&text), Kind::parse(&text), SubscriberId::parse(&text));
        let _ = (JsonPointer::parse(&text), config::parse_web_url(&text), parse_number(&text));
        let values = || std::iter::once(&trace[..]);
        let _ = (TraceContext::parse_header(values()), event::parse_hops(values()));

        let known = dead_letters::filter::LIST_PARAMETERS;
        let mut parameters = QueryParameters::parse(&query, &known);
        let page = parameters.page_request();
        prop_assert!(page.page >= 1 && page.page_size <= 100);
        let _ = dead_letters::filter::filter_from_query(&mut parameters);
    }

    /// Addresses of the client, credentials and origins.
    #[test]
    fn any_text_that_proves_the_caller_is_read_or_refused(
        forwarded in damaged_text(&[
            "203.0.113.9, 198.51.100.7:4711, , [2001:db8::7]:443, ::ffff:10.0.0.2", "unknown,_hidden,fd00::2",
        ]),
        bearer in damaged(&["Bearer hyt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "bearer  x"]),
        host in damaged_text(&["localhost:8080", "[::1]:8080", "127.0.0.1.evil.example"]),
        origin in damaged(&["https://hooks.example.com:8080", "null"]),
    ) {
        let headers = [
            ("x-forwarded-for", forwarded.as_bytes()),
            ("authorization", &bearer),
            ("host", host.as_bytes()),
            ("origin", &origin),
        ];
        let mut request = actix_web::test::TestRequest::default()
            .peer_addr("10.0.0.1:5000".parse().expect("an address"));
        for (name, value) in headers {
            // The server of HTTP takes no other values.
            if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(value) {
                request = request.append_header((name, value));
            }
        }
        let request = request.to_http_request();
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let _ = client_address::client_network(client_address::resolve_client_address(&request, &trusted));
        let _ = access::bearer_token(&bearer);
        let _ = browser_guard::refuse_foreign_origin(request.headers());
        let _ = browser_guard::refuse_foreign_host(&request, Some("https://hooks.example.com"));
    }

    #[test]
    fn any_expression_is_compiled_or_refused(text in damaged_text(&[
        "event == 'lead.created' && data.tags.exists(tag, tag.matches('^v[0-9]+$')) || late",
        "{'text': event, 'sum': data.items.map(one, one.price * 1.5), 'at': timestamp(timestamp)}",
        "entity.id in ['a', \"b\"] ? -9223372036854775808 : 18446744073709551615u",
    ])) {
        let _ = (FilterExpression::compile(&text), TransformExpression::compile(&text));
    }
}

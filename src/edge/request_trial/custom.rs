//! Checks a request against a configured source.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::finding::{
    NO_KEY, SHOWN_MAX, TrialFinding, describe_missing_time, format_line, format_lines,
};
use super::handshake::check_subscription;
use crate::config::CustomSourceConfig;
use crate::edge::configured::hash_item;
use crate::event::{KeyReusePolicy, Timestamp};
use crate::provider::{
    BatchItem, ClaimError, ExtractedFields, HandshakeReply, ProviderHandshake, RequestView,
    SchemaViolationPolicy, VerificationOutcome, WebhookSource, decompress_gzip,
    find_validation_token,
};

pub(super) fn check_custom(
    custom: &CustomSourceConfig,
    request: &RequestView<'_>,
    now: Timestamp,
    body_limit_bytes: usize,
) -> [TrialFinding; 2] {
    let has_subscription_handshake = matches!(
        custom.source.signing.handshake(),
        ProviderHandshake::Subscription
    );
    if request.method == "GET" && has_subscription_handshake && !request.query().is_empty() {
        return check_subscription(request, &custom.verify_token);
    }
    let head_error = custom.source.signing.find_header_error(request);
    let is_signed = !matches!(head_error, Some(ClaimError::NoHeader(_)));
    match request.method {
        "POST" => {}
        "GET" if is_signed && custom.source.signing.sends_by_get() => {}
        "GET" | "HEAD" if !is_signed || request.method == "HEAD" => {
            return [
                TrialFinding::passed(format_line("signature", "not required")),
                TrialFinding::passed(format_line("answer", "what this address is for; no event")),
            ];
        }
        _ => {
            return [
                TrialFinding::failed("a source takes POST; a node answers 405"),
                TrialFinding::failed("not decoded, because the method is wrong"),
            ];
        }
    }
    let signing = &custom.source.signing;
    let is_unsigned_handshake = signing.handshake().is_unsigned_body(request.body);
    if is_unsigned_handshake && signing.find_header_error(request).is_some() {
        return [
            TrialFinding::passed(format_line(
                "signature",
                "not required: a handshake has none",
            )),
            TrialFinding::passed(format_line("handshake", "a ping; no event")),
        ];
    }
    let is_validation = custom.answers_validation_token
        && signing.find_header_error(request).is_some()
        && find_validation_token(request.query()).is_some();
    if is_validation {
        return [
            TrialFinding::passed(format_line(
                "signature",
                "not required: a handshake has none",
            )),
            TrialFinding::passed(format_line(
                "handshake",
                "a validation token, which a node returns; no event",
            )),
        ];
    }
    let sent = explain_request(custom, request, now);
    let encoding = request.header("content-encoding").unwrap_or("identity");
    if encoding.eq_ignore_ascii_case("identity") {
        return [sent, decode_event(custom, request)];
    }
    if !custom.source.layout.decompress || !encoding.eq_ignore_ascii_case("gzip") {
        let reason = "the body is encoded; only gzip is accepted, with decompress = true";
        return [sent, TrialFinding::failed(reason)];
    }

    let plain = match decompress_gzip(request.body, body_limit_bytes) {
        Ok(plain) => plain,
        Err(wrong) => return [sent, TrialFinding::failed(wrong)],
    };
    let plain = RequestView {
        body: &plain,
        ..request.clone()
    };
    // Some senders sign the body before they compress it.
    let signed_before = explain_request(custom, &plain, now);
    let verification = if sent.is_good { sent } else { signed_before };
    [verification, decode_event(custom, &plain)]
}

fn explain_request(
    custom: &CustomSourceConfig,
    request: &RequestView<'_>,
    now: Timestamp,
) -> TrialFinding {
    let explanation = custom.source.explain(request, now);
    TrialFinding {
        is_good: explanation.outcome == VerificationOutcome::Verified,
        text: explanation.to_string(),
    }
}

fn decode_event(custom: &CustomSourceConfig, request: &RequestView<'_>) -> TrialFinding {
    let document = match custom.source.parse_document(request) {
        Ok(document) => document,
        Err(wrong) => return TrialFinding::failed(wrong),
    };
    if let Some(reply) = custom.source.answer_handshake(&document) {
        let answer = match reply {
            HandshakeReply::Challenge(_) => "a challenge, which a node returns; no event",
            HandshakeReply::Json(_) | HandshakeReply::Empty(_) => "a ping; no event",
        };
        return TrialFinding::passed(format_line("handshake", answer));
    }
    // Reads the fields even of an unverified request: the report is for the operator, not for the
    // journal.
    let fields = &custom.source.fields;
    let describe = |found: &ExtractedFields, json: &RawValue| {
        let (schema, _) = check_schema(custom, found, json);
        describe_fields(custom, request, found) + &describe_places(&custom.source, found) + &schema
    };
    let items = match custom.source.split_items(&document) {
        Ok(Some(items)) => items,
        Ok(None) => {
            let found = fields.extract_whole(request, &document);
            return TrialFinding {
                is_good: check_schema(custom, &found, document.json()).1,
                text: describe(&found, document.json()),
            };
        }
        Err(wrong) => return TrialFinding::failed(wrong),
    };

    let all = fields.extract_items(request, &document, &items);
    let shown = all.iter().enumerate().zip(&items).take(SHOWN_MAX);
    let shown = shown
        .map(|((index, found), item)| format_line("item", index) + &describe(found, item.json));
    let count = match items.len() {
        0 => "none: the list is empty, and a node answers 200".to_owned(),
        count => format!("{count}, in the order of the body"),
    };
    let text = std::iter::once(format_line("events", count)).chain(shown);
    let mut text: String = text.collect();

    let mut judged = all.iter().zip(&items);
    let misfit = judged.position(|(found, item)| !check_schema(custom, found, item.json).1);
    let reused = find_reused_key(custom, &all, &items);
    let reasons = [
        misfit.map(|index| format!("item {index} does not fit its schema; a node answers 400")),
        reused.map(|(first, index)| {
            format!(
                "item {index} has the key of item {first} and other content; a node answers 409 for \
                 the whole call, and stores the others"
            )
        }),
    ];
    let is_good = reasons.iter().all(Option::is_none);
    text.extend(
        reasons
            .into_iter()
            .flatten()
            .map(|reason| format_line("reason", reason)),
    );
    TrialFinding { is_good, text }
}

/// Describes an event that does not fit its schema, and tells if a node would keep it.
fn check_schema(
    custom: &CustomSourceConfig,
    found: &ExtractedFields,
    json: &RawValue,
) -> (String, bool) {
    let schemas = &custom.source.schemas;
    match (schemas.check(&found.event, json), schemas.policy) {
        (Ok(()), _) => (String::new(), true),
        (Err(wrong), SchemaViolationPolicy::Mark) => (format_line("warning", wrong), true),
        (Err(wrong), SchemaViolationPolicy::Refuse) => {
            let reason = format!("{wrong}; a node answers 400");
            (format_line("reason", reason), false)
        }
    }
}

/// Finds two items of a call with the same key and other content, of which a node refuses the second,
/// and returns their numbers.
fn find_reused_key(
    custom: &CustomSourceConfig,
    all: &[ExtractedFields],
    items: &[BatchItem<'_, '_>],
) -> Option<(usize, usize)> {
    let mut first_of = HashMap::new();
    all.iter()
        .zip(items)
        .enumerate()
        .find_map(|(index, (found, item))| {
            // A key that all items share is joined with the number of the item.
            let is_refused = found.is_key_of_item
                && custom.source.key_reuse_policy(found) == KeyReusePolicy::Refuse;
            let key = found.idempotency_key.as_deref().filter(|_| is_refused)?;
            let content = hash_item(custom, found, item.json);
            let (first, other) = *first_of.entry(key).or_insert((index, content));
            (other != content).then_some((first, index))
        })
}

fn describe_fields(
    custom: &CustomSourceConfig,
    request: &RequestView<'_>,
    found: &ExtractedFields,
) -> String {
    let claim = custom.source.signing.read_claim(request);
    // Of a request without a readable signature, the source tells what is usual.
    let signs_time = claim.map_or_else(
        |_| custom.source.signing.signs_time(),
        |claim| claim.proves_sending(),
    );
    let no_key = match signs_time {
        true => "none; the signature counts, which covers a time",
        false => NO_KEY,
    };
    format_lines(&[
        ("entity", &format!("{} {}", custom.kind, found.entity)),
        ("event", &format!("{}.{}", custom.name, found.event)),
        ("key", found.idempotency_key.as_deref().unwrap_or(no_key)),
        (
            "time",
            &found
                .occurred_at
                .map_or_else(describe_missing_time, |at| at.to_string()),
        ),
    ])
}

/// Describes the alternative that found each field which has several, and the warnings.
fn describe_places(source: &WebhookSource, found: &ExtractedFields) -> String {
    let (fields, unsigned) = (&source.fields, source.describe_unsigned());
    let used = &found.used;
    let places = [
        ("entity from", &fields.entity, used.entity),
        ("event from", &fields.event, used.event),
        ("key from", &fields.idempotency_key, used.idempotency_key),
        ("time from", &fields.occurred_at, used.occurred_at),
    ];
    let alternatives = places.into_iter().filter_map(|(name, places, used)| {
        let (all, used) = (places.as_slice(), used?);
        let place = all.get(used).filter(|_| all.len() > 1)?;
        let text = format!("{place} (place {} of {})", used + 1, all.len());
        Some(format_line(name, text))
    });
    let warnings = found
        .warnings
        .iter()
        .map(|warning| format_line("warning", warning));
    let unsigned = unsigned.map(|fields| format_line("not signed", fields));
    alternatives.chain(unsigned).chain(warnings).collect()
}

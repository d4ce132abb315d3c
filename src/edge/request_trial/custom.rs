//! Checks a request against a configured source.

use serde_json::value::RawValue;

use super::finding::{
    NO_KEY, SHOWN_MAX, TrialFinding, describe_missing_time, format_line, format_lines,
};
use super::handshake::check_subscription;
use crate::config::CustomSourceConfig;
use crate::event::Timestamp;
use crate::provider::{
    ClaimError, ExtractedFields, HandshakeReply, ProviderHandshake, RequestView,
    VerificationOutcome, WebhookSource, decompress_gzip, find_validation_token,
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
        let schema = custom.source.schemas.check(&found.event, json).err();
        let schema = schema.map_or_else(String::new, |wrong| format_line("warning", wrong));
        describe_fields(custom, request, found) + &describe_places(&custom.source, found) + &schema
    };
    let items = match custom.source.split_items(&document) {
        Ok(Some(items)) => items,
        Ok(None) => {
            return TrialFinding::passed(describe(
                &fields.extract_whole(request, &document),
                document.json(),
            ));
        }
        Err(wrong) => return TrialFinding::failed(wrong),
    };

    let shown = &items[..items.len().min(SHOWN_MAX)];
    let shown = fields.extract_items(request, &document, shown);
    let shown = shown
        .iter()
        .enumerate()
        .zip(&items)
        .map(|((index, found), item)| format_line("item", index) + &describe(found, item.json));
    let count = format_line(
        "events",
        format!("{}, in the order of the body", items.len()),
    );
    TrialFinding::passed(std::iter::once(count).chain(shown).collect())
}

fn describe_fields(
    custom: &CustomSourceConfig,
    request: &RequestView<'_>,
    found: &ExtractedFields,
) -> String {
    let claim = custom.source.signing.read_claim(request);
    let no_key = match claim.is_ok_and(|claim| claim.proves_sending()) {
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

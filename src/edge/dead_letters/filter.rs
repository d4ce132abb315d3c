//! DeadLetterFilter of dead letters, with the same members in a query and in a body.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::gate::NodeCore;
use super::super::query::{QueryParameters, parse_number};
use super::super::reads::events::describe_unknown_name;
use super::super::state::Edge;
use crate::event::Kind;
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::{DeadLetterCause, DeadLetterFilter};

/// Members of the filter, in a body or a query.
const FILTER_MEMBERS: [&str; 9] = [
    "webhook_id",
    "subscriber",
    "event",
    "kind",
    "entity",
    "since",
    "until",
    "reason",
    "before_id",
];

/// Parameters of the list of dead letters.
pub(in crate::edge) const LIST_PARAMETERS: [&str; 11] = {
    let [a, b, c, d, e, f, g, h, i] = FILTER_MEMBERS;
    [a, b, c, d, e, f, g, h, i, "page", "page_size"]
};

/// Parameters of the endpoint that discards many dead letters.
pub(in crate::edge) const DISCARD_PARAMETERS: [&str; 10] = {
    let [a, b, c, d, e, f, g, h, i] = FILTER_MEMBERS;
    [a, b, c, d, e, f, g, h, i, "all"]
};

const NO_WEBHOOK: &str = "must be the id of a subscription";
const NO_LETTER_ID: &str = "must be the id of a dead letter";
const NO_SUBSCRIBER: &str =
    "must be webhook:<id>, forward:<account>, replies:<account> or auto_reply";
const OTHER_SUBSCRIBER: &str = "must name the same subscriber as webhook_id";

/// Reads the filter from a query.
pub(in crate::edge) fn filter_from_query(parameters: &mut QueryParameters) -> DeadLetterFilter {
    let webhook = parse_webhook_id(parameters);
    let subscriber = parameters.take_text("subscriber").and_then(|text| {
        let subscriber = SubscriberId::parse(&text);
        if subscriber.is_none() {
            parameters.add_error("subscriber", NO_SUBSCRIBER);
        } else if webhook.is_some() && webhook != subscriber {
            parameters.add_error("subscriber", OTHER_SUBSCRIBER);
        }
        subscriber
    });
    DeadLetterFilter {
        subscriber: webhook.or(subscriber),
        event: parameters.take_text("event"),
        kind: parameters.kind("kind"),
        entity: parameters.take_text("entity"),
        since: parameters.time("since"),
        until: parameters.time("until"),
        cause: parameters.one_of("reason", &DeadLetterCause::NAMED),
        before_id: parse_before_id(parameters),
    }
}

/// Refuses a filter that can match nothing, because it names a subscriber or an event that there is
/// not.
///
/// # Errors
/// [`ApiError::NotFound`] for a subscriber, and [`ApiError::InvalidFields`] for an event.
pub(in crate::edge) fn check_names(
    filter: &DeadLetterFilter,
    edge: &Edge,
    core: &NodeCore,
) -> Result<(), ApiError> {
    let is_known = match &filter.subscriber {
        Some(SubscriberId::Webhook(id)) => core.subscriptions.snapshot().get(*id).is_some(),
        Some(SubscriberId::Forward(account) | SubscriberId::Replies(account)) => {
            core.accounts.snapshot().get(account).is_some()
        }
        Some(SubscriberId::AutoReply) | None => true,
    };
    if !is_known {
        return Err(ApiError::not_found("there is no such subscriber"));
    }

    let vocabulary = edge.vocabulary();
    let unknown = filter.event.as_deref();
    let unknown = unknown.filter(|event| !vocabulary.knows_event(event));
    // An event of a source that was removed from the configuration may have dead letters.
    match unknown.and_then(|event| vocabulary.suggest_event(event)) {
        Some(nearest) => {
            let problem = describe_unknown_name("event", Some(nearest));
            Err(ApiError::wrong_field("event", problem))
        }
        None => Ok(()),
    }
}

fn parse_before_id(parameters: &mut QueryParameters) -> Option<u64> {
    let text = parameters.take_text("before_id")?;
    let id = parse_number(&text);
    if id.is_none() {
        parameters.add_error("before_id", NO_LETTER_ID);
    }
    id
}

/// Reads the parameter `webhook_id` of a query as a subscriber.
pub(in crate::edge) fn parse_webhook_id(parameters: &mut QueryParameters) -> Option<SubscriberId> {
    let text = parameters.take_text("webhook_id")?;
    let number = parse_number(&text);
    if number.is_none() {
        parameters.add_error("webhook_id", NO_WEBHOOK);
    }
    number.map(SubscriberId::Webhook)
}

/// Parses the filter in a body; an empty body matches all dead letters. Unknown members are
/// refused, since an ignored, misspelt member would match more than the caller meant.
///
/// # Errors
/// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] with every wrong member.
pub(super) fn filter_from_body(json: &str) -> Result<DeadLetterFilter, ApiError> {
    let json = if json.trim_ascii().is_empty() {
        "{}"
    } else {
        json
    };
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|error| ApiError::from_json_error(&error))?;
    let mut errors = FieldErrors::default();
    errors.add_unknown_members(members.keys(), &FILTER_MEMBERS);
    let member = |name: &str| non_null(members.get(name).copied());
    let mut text = |name| errors.read_optional_text(name, member(name));
    let (event, entity) = (text("event"), text("entity"));
    let (subscriber, kind, cause) = (text("subscriber"), text("kind"), text("reason"));
    let webhook = member("webhook_id").map(|raw| {
        (
            raw.get().parse().ok().map(SubscriberId::Webhook),
            NO_WEBHOOK,
        )
    });
    let before_id = member("before_id").map(|raw| (raw.get().parse().ok(), NO_LETTER_ID));
    let subscriber = subscriber.map(|text| (SubscriberId::parse(&text), NO_SUBSCRIBER));
    let webhook = check_parsed("webhook_id", webhook, &mut errors);
    let subscriber = check_parsed("subscriber", subscriber, &mut errors);
    if webhook.is_some() && subscriber.is_some() && webhook != subscriber {
        errors.add("subscriber", OTHER_SUBSCRIBER);
    }
    let filter = DeadLetterFilter {
        subscriber: webhook.or(subscriber),
        event,
        kind: check_parsed(
            "kind",
            kind.map(|name| (Kind::parse(&name), "must be a kind of entity")),
            &mut errors,
        ),
        entity,
        since: errors.read_optional_time("since", member("since")),
        until: errors.read_optional_time("until", member("until")),
        cause: check_parsed(
            "reason",
            cause.map(|name| {
                (
                    DeadLetterCause::parse(&name),
                    "must be a known reason of dead letters",
                )
            }),
            &mut errors,
        ),
        before_id: check_parsed("before_id", before_id, &mut errors),
    };
    errors.finish(filter)
}

/// Makes the schema of the filter in a body.
pub(super) fn filter_schema() -> Value {
    let text = || json!({"type": ["string", "null"]});
    let time = || json!({"type": ["string", "null"], "format": "date-time"});
    let reasons = DeadLetterCause::NAMED.map(|(name, _)| Some(name));
    let reasons: Vec<_> = reasons.into_iter().chain([None]).collect();
    json!({"type": "object", "additionalProperties": false, "properties": {
        "webhook_id": {"type": ["integer", "null"], "minimum": 0},
        "subscriber": text(),
        "event": text(),
        "kind": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/EntityKind"}]},
        "entity": text(),
        "since": time(),
        "until": time(),
        "reason": {"type": ["string", "null"], "enum": reasons},
        "before_id": {"type": ["integer", "null"], "minimum": 0},
    }})
}

/// Returns the parsed value of a member, or records the text that says what it must be.
fn check_parsed<T>(
    name: &'static str,
    parsed: Option<(Option<T>, &str)>,
    errors: &mut FieldErrors,
) -> Option<T> {
    let (value, expected) = parsed?;
    if value.is_none() {
        errors.add(name, expected);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn wrong(error: ApiError) -> Vec<String> {
        let ApiError::InvalidFields(errors) = error else {
            panic!("{error}")
        };
        errors
            .into_iter()
            .map(|error| error.field.into_owned())
            .collect()
    }

    /// Clients that are made from the description could not send `before_id`.
    #[test]
    fn the_schema_has_the_members_that_are_read() {
        let schema = filter_schema();
        let described = schema["properties"].as_object().expect("an object");
        let mut described: Vec<_> = described.keys().map(String::as_str).collect();
        let mut expected = FILTER_MEMBERS;
        described.sort_unstable();
        expected.sort_unstable();
        assert_eq!(described, expected);
    }

    #[test]
    fn a_body_and_a_query_mean_the_same() {
        let filter = DeadLetterFilter {
            subscriber: Some(SubscriberId::Webhook(4)),
            event: Some("status.changed".into()),
            kind: Some(Kind::Ticket),
            entity: Some("SUP-1".into()),
            since: Timestamp::parse("2025-12-04T10:30:00Z"),
            until: Timestamp::parse("2025-12-05T10:30:00Z"),
            cause: Some(DeadLetterCause::Exhausted),
            before_id: Some(7),
        };
        let query = "webhook_id=4&event=status.changed&kind=ticket&entity=SUP-1&since=2025-12-04T10:30:00Z\
                     &until=2025-12-05T10:30:00Z&reason=exhausted&before_id=7";
        let mut parameters = QueryParameters::parse(query, &LIST_PARAMETERS);
        let read = filter_from_query(&mut parameters);
        assert_eq!(parameters.finish(read).expect("all are right"), filter);
        let body = r#"{"webhook_id": 4, "event": "status.changed", "kind": "ticket", "entity": "SUP-1", "reason": "exhausted", "before_id": 7,
                       "since": "2025-12-04T10:30:00Z", "until": "2025-12-05T10:30:00Z"}"#;
        assert_eq!(filter_from_body(body).expect("all are right"), filter);
        assert_eq!(
            filter_from_body(" ").expect("nothing is asked for"),
            DeadLetterFilter::default()
        );
        let agreeing = DeadLetterFilter {
            subscriber: Some(SubscriberId::Webhook(4)),
            ..DeadLetterFilter::default()
        };
        assert_eq!(
            filter_from_body(r#"{"webhook_id": 4, "subscriber": "webhook:4"}"#).expect("one"),
            agreeing
        );
        let mut parameters =
            QueryParameters::parse("webhook_id=4&subscriber=webhook:4", &LIST_PARAMETERS);
        let read = filter_from_query(&mut parameters);
        assert_eq!(parameters.finish(read).expect("one"), agreeing);
        let forward = DeadLetterFilter {
            subscriber: Some(SubscriberId::Forward("acc_1".into())),
            ..DeadLetterFilter::default()
        };
        assert_eq!(
            filter_from_body(r#"{"subscriber": "forward:acc_1", "event": null}"#).expect("right"),
            forward
        );
    }

    /// An ignored `{"webhok_id": 4}` would deliver every dead letter of every subscription again.
    #[test]
    fn a_misspelt_member_is_no_wish_for_all() {
        assert_eq!(
            wrong(filter_from_body(r#"{"webhok_id": 4}"#).expect_err("misspelt")),
            ["webhok_id"]
        );
        let all_wrong = r#"{"webhook_id": "4", "kind": "car", "since": "yesterday", "reason": "because", "event": 1, "before_id": "1"}"#;
        assert_eq!(
            wrong(filter_from_body(all_wrong).expect_err("all wrong")),
            [
                "event",
                "webhook_id",
                "kind",
                "since",
                "reason",
                "before_id"
            ]
        );
        assert_eq!(
            wrong(
                filter_from_body(r#"{"webhook_id": 4, "subscriber": "webhook:5"}"#)
                    .expect_err("two")
            ),
            ["subscriber"]
        );
        assert!(matches!(
            filter_from_body("[]"),
            Err(ApiError::InvalidJson(_))
        ));
        let mut parameters =
            QueryParameters::parse("webhook_id=4&subscriber=webhook:5", &LIST_PARAMETERS);
        let read = filter_from_query(&mut parameters);
        assert_eq!(
            wrong(parameters.finish(read).expect_err("two")),
            ["subscriber"]
        );
        let mut parameters = QueryParameters::parse(
            "webhook_id=04&subscriber=nobody&reason=x&before_id=-1",
            &LIST_PARAMETERS,
        );
        let read = filter_from_query(&mut parameters);
        assert_eq!(
            wrong(parameters.finish(read).expect_err("all wrong")),
            ["webhook_id", "subscriber", "reason", "before_id"]
        );
    }
}

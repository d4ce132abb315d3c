//! Which dead letters a request is about: the same members in a query and in a body.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::error::Error;
use super::super::fields::{FieldErrors, non_null};
use super::super::query::QueryParameters;
use crate::event::{Kind, Timestamp};
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::{DeadLetterCause, DeadLetterFilter};

/// The members.
const FILTER_MEMBERS: [&str; 8] = [
    "webhook_id",
    "subscriber",
    "event",
    "kind",
    "entity",
    "since",
    "until",
    "reason",
];

/// The parameters of a list.
pub(super) const LIST_PARAMETERS: [&str; 10] = {
    let [a, b, c, d, e, f, g, h] = FILTER_MEMBERS;
    [a, b, c, d, e, f, g, h, "page", "page_size"]
};

/// The parameters where many are discarded.
pub(super) const DISCARD_PARAMETERS: [&str; 9] = {
    let [a, b, c, d, e, f, g, h] = FILTER_MEMBERS;
    [a, b, c, d, e, f, g, h, "all"]
};

const NO_WEBHOOK: &str = "must be the number of a subscription";
const NO_SUBSCRIBER: &str =
    "must be webhook:<id>, forward:<account>, replies:<account> or auto_reply";
const OTHER_SUBSCRIBER: &str = "must not name another than webhook_id does";

/// The filter in a query.
pub(super) fn filter_from_query(parameters: &mut QueryParameters) -> DeadLetterFilter {
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
    }
}

/// The subscription that `webhook_id` of a query names.
pub(in crate::edge) fn parse_webhook_id(parameters: &mut QueryParameters) -> Option<SubscriberId> {
    let text = parameters.take_text("webhook_id")?;
    let number = text
        .parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text);
    if number.is_none() {
        parameters.add_error("webhook_id", NO_WEBHOOK);
    }
    number.map(SubscriberId::Webhook)
}

/// The filter in a body; an empty one asks for all. A member that is none of these is refused: one
/// that is misspelt would mean more than was meant.
///
/// # Errors
/// [`Error::InvalidJson`], or [`Error::Invalid`] with every wrong member.
pub(super) fn filter_from_body(json: &str) -> Result<DeadLetterFilter, Error> {
    let json = if json.trim_ascii().is_empty() {
        "{}"
    } else {
        json
    };
    let given: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|error| Error::from_json_error(&error))?;
    let mut faults = FieldErrors::default();
    faults.add_unknown_members(given.keys(), &FILTER_MEMBERS);
    let member = |name: &str| non_null(given.get(name).copied());
    let mut text = |name| faults.read_optional_text(name, member(name));
    let (event, entity) = (text("event"), text("entity"));
    let (subscriber, kind, cause) = (text("subscriber"), text("kind"), text("reason"));
    let webhook = member("webhook_id").map(|raw| {
        (
            raw.get().parse().ok().map(SubscriberId::Webhook),
            NO_WEBHOOK,
        )
    });
    let subscriber = subscriber.map(|text| (SubscriberId::parse(&text), NO_SUBSCRIBER));
    let webhook = check_parsed("webhook_id", webhook, &mut faults);
    let subscriber = check_parsed("subscriber", subscriber, &mut faults);
    if webhook.is_some() && subscriber.is_some() && webhook != subscriber {
        faults.add("subscriber", OTHER_SUBSCRIBER);
    }
    let filter = DeadLetterFilter {
        subscriber: webhook.or(subscriber),
        event,
        kind: check_parsed(
            "kind",
            kind.map(|name| (Kind::parse(&name), "must be a kind of entity")),
            &mut faults,
        ),
        entity,
        since: time("since", member("since"), &mut faults),
        until: time("until", member("until"), &mut faults),
        cause: check_parsed(
            "reason",
            cause.map(|name| {
                (
                    DeadLetterCause::parse(&name),
                    "must be a reason of dead letters",
                )
            }),
            &mut faults,
        ),
    };
    faults.finish(filter)
}

fn time(name: &'static str, raw: Option<&RawValue>, faults: &mut FieldErrors) -> Option<Timestamp> {
    faults.read_optional_time(name, raw)
}

/// What was read of a member that was given, or the note of what it has to be.
fn check_parsed<T>(
    name: &'static str,
    read: Option<(Option<T>, &str)>,
    faults: &mut FieldErrors,
) -> Option<T> {
    let (value, expected) = read?;
    if value.is_none() {
        faults.add(name, expected);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(error: Error) -> Vec<String> {
        let Error::InvalidFields(faults) = error else {
            panic!("{error}")
        };
        faults
            .into_iter()
            .map(|fault| fault.field.into_owned())
            .collect()
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
        };
        let query = "webhook_id=4&event=status.changed&kind=ticket&entity=SUP-1&since=2025-12-04T10:30:00Z\
                     &until=2025-12-05T10:30:00Z&reason=exhausted";
        let mut parameters = QueryParameters::parse(query, &LIST_PARAMETERS);
        let read = filter_from_query(&mut parameters);
        assert_eq!(parameters.finish(read).expect("all are right"), filter);
        let body = r#"{"webhook_id": 4, "event": "status.changed", "kind": "ticket", "entity": "SUP-1", "reason": "exhausted",
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

    /// `{"webhok_id": 4}` would deliver everything again, to everybody.
    #[test]
    fn a_misspelt_member_is_no_wish_for_all() {
        assert_eq!(
            wrong(filter_from_body(r#"{"webhok_id": 4}"#).expect_err("misspelt")),
            ["webhok_id"]
        );
        let all_wrong = r#"{"webhook_id": "4", "kind": "car", "since": "yesterday", "reason": "because", "event": 1}"#;
        assert_eq!(
            wrong(filter_from_body(all_wrong).expect_err("all wrong")),
            ["event", "webhook_id", "kind", "since", "reason"]
        );
        assert_eq!(
            wrong(
                filter_from_body(r#"{"webhook_id": 4, "subscriber": "webhook:5"}"#)
                    .expect_err("two")
            ),
            ["subscriber"]
        );
        assert!(matches!(filter_from_body("[]"), Err(Error::InvalidJson(_))));
        let mut parameters =
            QueryParameters::parse("webhook_id=4&subscriber=webhook:5", &LIST_PARAMETERS);
        let read = filter_from_query(&mut parameters);
        assert_eq!(
            wrong(parameters.finish(read).expect_err("two")),
            ["subscriber"]
        );
        let mut parameters =
            QueryParameters::parse("webhook_id=04&subscriber=nobody&reason=x", &LIST_PARAMETERS);
        let read = filter_from_query(&mut parameters);
        assert_eq!(
            wrong(parameters.finish(read).expect_err("all wrong")),
            ["webhook_id", "subscriber", "reason"]
        );
    }
}

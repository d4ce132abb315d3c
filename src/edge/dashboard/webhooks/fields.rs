//! Fields of a webhook's form: filled in from a subscription, and turned into the request that the
//! API takes, so that the API's rules are the form's rules.

use serde_json::{Map, Value, json};

use super::super::form::FormFields;
use super::super::stale_form::{FieldDifference, SEEN, find_differences, seen_value};
use super::event_picker::EventPicker;
use crate::call_log::REDACTED;
use crate::config::ExhaustionPolicy;
use crate::subscription::{DeliveryMode, DeliveryOrdering, SigningStyle, Subscription};

/// Names of the fields of a stored webhook that the form changes, with their labels.
const LABELS: [(&str, &str); 13] = [
    ("url", "URL"),
    ("description", "Description"),
    ("events", "Events"),
    ("filter", "Filter"),
    ("transform", "Transform"),
    ("signing", "Signatures"),
    ("ordering", "Order"),
    ("on_exhausted", "After the last retry"),
    ("concurrency", "Attempts at once"),
    ("rate_limit", "Attempts per second"),
    ("timeout_s", "Timeout in seconds"),
    ("retry_schedule_s", "Pauses between retries"),
    ("headers", "Headers"),
];

/// Fields of the form of a new webhook.
pub(super) fn fields_of_new() -> FormFields {
    let pairs = [
        ("is_active", "on"),
        ("signing", "crm"),
        ("signing", "standard"),
        ("ordering", "entity"),
    ];
    FormFields::new(
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    )
}

/// Fields of the form of `subscription`; its events have a box in `picker`, or are written out.
pub(super) fn fields_of(subscription: &Subscription, picker: &EventPicker) -> FormFields {
    let boxes = picker.boxes();
    let (mut pairs, mut patterns) = (Vec::new(), Vec::new());
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));

    add("url", subscription.url.clone());
    add(
        "delivery",
        name_of(subscription.delivery, &DeliveryMode::NAMED),
    );
    add(
        "description",
        subscription.description.clone().unwrap_or_default(),
    );
    for pattern in subscription.events.iter().map(|pattern| pattern.as_str()) {
        if boxes.contains(pattern) {
            add("events", pattern.to_owned());
        } else {
            patterns.push(pattern);
        }
    }
    add("patterns", patterns.join("\n"));
    add(SEEN, seen_value(subscription.updated_at));

    let filter = subscription.filter.as_ref().map(|filter| filter.text());
    add("filter", filter.unwrap_or_default().to_owned());
    let transform = subscription
        .transform
        .as_ref()
        .map(|transform| transform.text());
    add("transform", transform.unwrap_or_default().to_owned());
    add(
        "ordering",
        name_of(subscription.ordering, &DeliveryOrdering::NAMED),
    );
    for style in &subscription.signing {
        add("signing", name_of(*style, &SigningStyle::NAMED));
    }
    let names = subscription.headers.iter();
    let headers: Vec<_> = names
        .map(|(name, _)| format!("{name}: {REDACTED}"))
        .collect();
    add("headers", headers.join("\n"));

    let mut add_number = |name, number: Option<String>| add(name, number.unwrap_or_default());
    add_number(
        "concurrency",
        subscription.concurrency.map(|number| number.to_string()),
    );
    add_number(
        "rate_limit",
        subscription.rate_limit.map(|number| number.to_string()),
    );
    let seconds = |time: std::time::Duration| time.as_secs_f64().to_string();
    add_number("timeout_s", subscription.timeout.map(seconds));
    let schedule = subscription.retry_schedule.as_ref();
    let schedule = schedule.map(|pauses| {
        pauses
            .iter()
            .copied()
            .map(seconds)
            .collect::<Vec<_>>()
            .join(", ")
    });
    add_number("retry_schedule_s", schedule);
    let on_exhausted = subscription.on_exhausted;
    add_number(
        "on_exhausted",
        on_exhausted.map(|policy| name_of(policy, &ExhaustionPolicy::CHOICES)),
    );
    FormFields::new(pairs)
}

/// Builds the request of the API that creates a webhook with the values of `fields`.
pub(super) fn creation_request(fields: &FormFields) -> String {
    let mut members = members_of(fields);
    members.insert("is_active".to_owned(), json!(fields.has("is_active")));
    Value::Object(members).to_string()
}

/// Builds the request of the API that changes a webhook to the values of `fields`. It leaves the state
/// alone: the page was loaded before the webhook was paused or disabled, perhaps.
pub(super) fn change_request(fields: &FormFields) -> String {
    Value::Object(members_of(fields)).to_string()
}

/// Fields in which `typed` differs from `stored`.
pub(super) fn differences(stored: &FormFields, typed: &FormFields) -> Vec<FieldDifference> {
    let texts = |fields: &FormFields, name| match name {
        "events" => patterns_of(fields).map(str::to_owned).collect(),
        _ => fields.all(name).map(str::to_owned).collect(),
    };
    find_differences(&LABELS, stored, typed, texts)
}

fn members_of(fields: &FormFields) -> Map<String, Value> {
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };

    if fields.text("delivery") != "pull" {
        set("url", json!(fields.text("url")));
    }
    let events: Vec<_> = patterns_of(fields).collect();
    set("events", json!(events));
    if !fields.text("secret").is_empty() {
        set("secret", json!(fields.text("secret")));
    }
    for name in [
        "description",
        "filter",
        "transform",
        "ordering",
        "on_exhausted",
    ] {
        set(name, text_or_null(fields.text(name)));
    }
    set("signing", json!(fields.all("signing").collect::<Vec<_>>()));
    for name in ["concurrency", "rate_limit", "timeout_s"] {
        set(name, number_or_null(fields.text(name)));
    }
    let schedule = fields.text("retry_schedule_s");
    let pauses = schedule
        .split([',', '\n', ' '])
        .filter(|pause| !pause.is_empty());
    let pauses: Vec<_> = pauses.map(number_or_null).collect();
    set(
        "retry_schedule_s",
        if pauses.is_empty() {
            Value::Null
        } else {
            json!(pauses)
        },
    );
    set("headers", headers_of(fields.text("headers")));
    members
}

/// Returns the patterns that are ticked or written in `fields`.
pub(super) fn patterns_of(fields: &FormFields) -> impl Iterator<Item = &str> {
    let written = fields.text("patterns").split([',', '\n', ' ']);
    let written = written.filter(|pattern| !pattern.is_empty());
    fields.all("events").chain(written)
}

fn text_or_null(text: &str) -> Value {
    if text.is_empty() {
        Value::Null
    } else {
        json!(text)
    }
}

/// Returns the number that `text` writes; any other text stays as it is, and the API says that it
/// should be a number.
fn number_or_null(text: &str) -> Value {
    serde_json::from_str::<serde_json::Number>(text)
        .map_or_else(|_| text_or_null(text), Value::Number)
}

/// Reads one header from each line. A line without a colon becomes a name that the API refuses.
fn headers_of(text: &str) -> Value {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let headers: Map<_, _> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let name = if line.contains(':') {
                name.trim()
            } else {
                line
            };
            (name.to_owned(), json!(value.trim()))
        })
        .collect();
    if headers.is_empty() {
        Value::Null
    } else {
        Value::Object(headers)
    }
}

fn name_of<T: PartialEq>(value: T, named: &[(&'static str, T)]) -> String {
    let found = named.iter().find(|(_, named)| *named == value);
    found.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(form: &[u8]) -> Value {
        serde_json::from_str(&creation_request(&FormFields::parse(form))).expect("JSON")
    }

    #[test]
    fn fields_become_the_members_of_a_request() {
        let form = b"url=https%3A%2F%2Fa.example&events=lead.created&events=ticket%3A*&patterns=a.*%0D%0Ab.c&is_active=on\
            &signing=hub&concurrency=4&timeout_s=2.5&rate_limit=many&retry_schedule_s=1%2C+2.5&headers=X-Key%3A+a%3Ab%0D%0A\
            &description=&on_exhausted=halt&ordering=none";
        assert_eq!(
            request(form),
            json!({
                "url": "https://a.example", "events": ["lead.created", "ticket:*", "a.*", "b.c"], "is_active": true,
                "description": null, "filter": null, "transform": null, "ordering": "none", "on_exhausted": "halt",
                "signing": ["hub"], "concurrency": 4, "rate_limit": "many", "timeout_s": 2.5,
                "retry_schedule_s": [1, 2.5], "headers": {"X-Key": "a:b"},
            })
        );
        let empty = request(b"");
        assert_eq!(
            (&empty["is_active"], &empty["events"]),
            (&json!(false), &json!([]))
        );
        assert!(empty.get("secret").is_none());
        assert_eq!(request(b"secret=s3cret")["secret"], "s3cret");
        let change = change_request(&FormFields::parse(b"is_active=on&description=x"));
        assert!(!change.contains("is_active"), "{change}");
    }
}

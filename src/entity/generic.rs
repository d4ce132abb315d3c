//! Entity without rules of its own: for each field the newest value wins, by event time.
//!
//! ```text
//! at 10:00 {"name": "Acme", "city": "Lyon"}    at 09:00 {"city": "Paris", "size": 12}
//!          └──────────> name: Acme, city: Lyon, size: 12 <────────────┘ (late for `city` only)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::decision::{AcceptedChange, DecisionContext, EntityDecision, Rejection, StateLimits};
use super::timed_value::{TimedValue, UnixMicros};
use crate::event::{make_readable, measure_nesting};

/// Longest JSON text of a value in a state, in bytes. A longer value is kept as `null`; the event
/// still has it.
const VALUE_MAX_BYTES: usize = 16 * 1024;
/// Deepest nesting of a value in a state; a deeper value is kept as `null`. Usual JSON parsers stop
/// at a depth of 100 or more, and the value already stands a few levels deep in an answer.
const DEPTH_MAX: usize = 64;
/// Longest name of a field in a state, in bytes; a longer field is ignored.
pub(in crate::entity) const NAME_MAX_BYTES: usize = 256;

/// Field that marks the entity as deleted.
const DELETED: &str = "deleted";

/// Input of a decision on a generic entity.
#[derive(Clone, Debug)]
pub enum GenericAction {
    /// Sets the fields of the event.
    Merge {
        /// Name and JSON text of each field.
        fields: Vec<(String, JsonText)>,
    },
    /// Sets the fields and marks the entity as deleted.
    Delete {
        /// Name and JSON text of each field.
        fields: Vec<(String, JsonText)>,
    },
    /// Sets the fields of a new entity, and removes an earlier mark of deletion.
    Create {
        /// Name and JSON text of each field.
        fields: Vec<(String, JsonText)>,
    },
    /// Sets the fields and one more field to `true`.
    Mark {
        /// Field to set to `true`, such as `completed`.
        name: &'static str,
        /// Name and JSON text of each field.
        fields: Vec<(String, JsonText)>,
    },
}

/// JSON text of a value exactly as it was sent, so that no digit of a number is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// Text of `raw`; `null` if it is too long or too deeply nested for a state. A number beyond
    /// 64-bit floats becomes its text, and half a surrogate pair U+FFFD.
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Self {
        let fits = raw.get().len() <= VALUE_MAX_BYTES && measure_nesting(raw.get()) <= DEPTH_MAX;
        Self(match fits {
            true => make_readable(raw.get()).into(),
            false => "null".into(),
        })
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.get().into()))
    }
}

/// Fields, each with the time of the event that set it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenericState {
    fields: BTreeMap<Arc<str>, TimedValue<JsonText>>,
}

/// Fields set by one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenericChange {
    at: UnixMicros,
    set: BTreeMap<Arc<str>, JsonText>,
    /// Number of the event's fields that were older than the state.
    #[serde(default, skip_serializing_if = "is_zero")]
    late: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Accepts each field that is not older than the state.
///
/// # Errors
/// None; the signature is common to all kinds.
pub fn decide(
    state: &GenericState,
    action: &GenericAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<GenericChange>, Rejection> {
    let at = UnixMicros::from(context.at);
    let marked = |name: &str, truth: &str| Some((name.to_owned(), JsonText(truth.into())));
    let (fields, mark) = match action {
        GenericAction::Merge { fields } => (fields, None),
        GenericAction::Delete { fields } => (fields, marked(DELETED, "true")),
        GenericAction::Create { fields } if state.fields.contains_key(DELETED) => {
            (fields, marked(DELETED, "false"))
        }
        GenericAction::Create { fields } => (fields, None),
        GenericAction::Mark { name, fields } => (fields, marked(name, "true")),
    };
    let mut change = GenericChange {
        at,
        set: BTreeMap::new(),
        late: 0,
    };
    let mut room = context.limits.items_max.saturating_sub(state.fields.len());

    // The node's own field comes first, so that the sender's fields cannot use up its room.
    for (name, value) in mark.iter().chain(fields) {
        let known = state.fields.get(name.as_str());
        if known.is_some_and(|field| field.is_late(at)) {
            change.late += 1;
        } else if known.is_some() || change.set.contains_key(name.as_str()) {
            change.set.insert(name.as_str().into(), value.clone());
        } else if name.len() <= NAME_MAX_BYTES && room > 0 {
            room -= 1;
            change.set.insert(name.as_str().into(), value.clone());
        }
    }
    let late = change.late > 0;

    Ok(EntityDecision::Accept(AcceptedChange {
        late,
        ..AcceptedChange::new(change)
    }))
}

/// Summary line of a timeline: `3 fields set`, and the number of late fields.
#[must_use]
pub fn summary(change: &GenericChange) -> String {
    let set = match change.set.len() {
        1 => "1 field set".to_owned(),
        count => format!("{count} fields set"),
    };
    if change.late > 0 {
        format!("{set}, {} older than what was there", change.late)
    } else {
        set
    }
}

impl GenericState {
    /// Copies `change` into the state.
    pub fn apply(&mut self, change: &GenericChange, _limits: StateLimits) {
        for (name, value) in &change.set {
            self.fields.insert(
                Arc::clone(name),
                TimedValue::from_event(value.clone(), change.at),
            );
        }
    }

    /// Values of the fields by name.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        self.fields
            .iter()
            .map(|(name, field)| (name, &field.value))
            .collect::<BTreeMap<_, _>>()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::state::tests::apply_action;
    use crate::entity::{self, EntityState};
    use crate::event::Kind;

    fn fields(text: &str) -> Vec<(String, JsonText)> {
        let fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).expect("an object");
        fields
            .iter()
            .map(|(name, value)| (name.clone(), JsonText::from_raw(value)))
            .collect()
    }

    fn merge(text: &str) -> entity::EntityAction {
        entity::EntityAction::Generic(GenericAction::Merge {
            fields: fields(text),
        })
    }

    #[test]
    fn of_each_field_the_newest_value_counts() {
        let mut state = EntityState::new(Kind::Person);
        assert!(
            !apply_action(
                &mut state,
                10,
                &merge(r#"{"name": "Acme", "city": "Lyon"}"#)
            )
            .late
        );
        assert!(apply_action(&mut state, 9, &merge(r#"{"city": "Paris", "size": 12}"#)).late);
        assert_eq!(
            state.to_json(),
            json!({"name": "Acme", "city": "Lyon", "size": 12})
        );
        assert!(
            !apply_action(&mut state, 10, &merge(r#"{"city": "Nice"}"#)).late,
            "an equal time is not late"
        );
        assert_eq!(state.to_json()["city"], "Nice");
    }

    #[test]
    fn a_deletion_is_seen_and_can_be_taken_back() {
        let mut state = EntityState::new(Kind::Person);
        apply_action(&mut state, 1, &merge(r#"{"name": "Acme"}"#));
        apply_action(
            &mut state,
            2,
            &entity::EntityAction::Generic(GenericAction::Delete {
                fields: fields(r#"{"deleted": 0}"#),
            }),
        );
        assert_eq!(
            state.to_json(),
            json!({"name": "Acme", "deleted": 0}),
            "the sender's own word wins"
        );
        apply_action(
            &mut state,
            3,
            &entity::EntityAction::Generic(GenericAction::Delete { fields: Vec::new() }),
        );
        assert_eq!(state.to_json()["deleted"], true);
    }

    #[test]
    fn what_was_deleted_is_there_again_when_it_is_created_later() {
        let mut state = EntityState::new(Kind::Person);
        let create = || {
            entity::EntityAction::Generic(GenericAction::Create {
                fields: fields(r#"{"name": "Acme"}"#),
            })
        };
        apply_action(&mut state, 2, &create());
        assert_eq!(state.to_json(), json!({"name": "Acme"}));
        apply_action(
            &mut state,
            3,
            &entity::EntityAction::Generic(GenericAction::Delete { fields: Vec::new() }),
        );
        assert!(
            apply_action(&mut state, 1, &create()).late,
            "it began before it was deleted"
        );
        assert_eq!(state.to_json(), json!({"name": "Acme", "deleted": true}));
        apply_action(&mut state, 4, &create());
        assert_eq!(state.to_json(), json!({"name": "Acme", "deleted": false}));
    }

    #[test]
    fn a_mark_says_what_became_true_unless_the_sender_says_it_itself() {
        let mark = |text| {
            entity::EntityAction::Generic(GenericAction::Mark {
                name: "completed",
                fields: fields(text),
            })
        };
        let mut state = EntityState::new(Kind::Task);
        apply_action(&mut state, 1, &mark("{}"));
        assert_eq!(state.to_json(), json!({"completed": true}));
        apply_action(&mut state, 2, &mark(r#"{"completed": "by Ada"}"#));
        assert_eq!(state.to_json(), json!({"completed": "by Ada"}));
    }

    #[test]
    fn digits_are_kept_and_what_is_too_long_is_null() {
        let mut state = EntityState::new(Kind::Task);
        let long = format!(
            r#"{{"price": 50000.00, "id": 12345678901234567890123, "note": "{}"}}"#,
            "x".repeat(20_000)
        );
        apply_action(&mut state, 1, &merge(&long));
        let snapshot = String::from_utf8(state.to_snapshot()[1..].to_vec()).expect("JSON");
        assert!(
            snapshot.contains("50000.00") && snapshot.contains("12345678901234567890123"),
            "{snapshot}"
        );
        assert_eq!(state.to_json()["note"], json!(null));
    }

    /// Most JSON parsers could not read a state with such a value.
    #[test]
    fn what_nests_too_deep_is_null() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let kept = |text: &str| {
            JsonText::from_raw(serde_json::from_str(text).expect("JSON"))
                .0
                .to_string()
        };
        for text in [
            &nested(DEPTH_MAX),
            &format!(r#"{{"a": "{}\"[[", "b": [{{}}, {{}}]}}"#, "[{".repeat(100)),
        ] {
            assert_eq!(&kept(text), text);
        }
        assert_eq!(kept(&nested(DEPTH_MAX + 1)), "null");
        assert_eq!(kept(&format!(r#"["\\", {}]"#, nested(DEPTH_MAX))), "null");
        assert_eq!(kept(&nested(5_000)), "null");
        assert_eq!(kept(r#"[1e400, "\ud800"]"#), r#"["1e400", "\ufffd"]"#);
    }

    #[test]
    fn fields_beyond_the_limit_are_left_out() {
        let mut state = EntityState::new(Kind::Task);
        let many: Vec<_> = (0..9).map(|n| format!(r#""f{n}": {n}"#)).collect();
        apply_action(&mut state, 1, &merge(&format!("{{{}}}", many.join(","))));
        assert_eq!(
            state.to_json().as_object().map(serde_json::Map::len),
            Some(3)
        );
        apply_action(&mut state, 2, &merge(r#"{"f0": "new", "g": 1}"#));
        assert_eq!(state.to_json(), json!({"f0": "new", "f1": 1, "f2": 2}));
    }
}

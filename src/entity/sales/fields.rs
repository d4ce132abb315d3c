//! Plain fields of pre-leads, leads and customers: for each field the newest value wins, by event
//! time.
//!
//! ```text
//! 10:00 {"city": "Lyon", "notes": "…"}       09:00 {"city": "Paris", "phone": "…"}
//!       └────────> city: Lyon, notes: …, phone: … <────────┘ (late for `city` only)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, json};

use super::decimal::Decimal;
use super::field_names::SalesField;
use crate::entity::timed_value::{TimedValue, UnixMicros};

/// Value of a field, by type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SalesValue {
    /// Text as the sender wrote it.
    Text(Arc<str>),
    /// Id in the sender's system, such as `industry_id`.
    Number(u64),
    /// Amount with the digits that were sent.
    Money(Decimal),
}

/// Fields that an event sets, with their new values.
pub type SalesValues = BTreeMap<SalesField, SalesValue>;

impl SalesValue {
    /// Form in a state: an amount is a string, since many JSON readers turn a number into a binary
    /// fraction.
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Money(amount) => json!(amount),
        }
    }

    /// Form in an event: an amount is a number with all its digits.
    fn to_wire(&self) -> Box<RawValue> {
        match self {
            Self::Text(text) => to_raw_value(text),
            Self::Number(number) => to_raw_value(number),
            Self::Money(amount) => RawValue::from_string(amount.to_string()),
        }
        .expect("texts and decimal numbers have a JSON text")
    }
}

/// Fields, each with the time of the event that set it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::entity) struct TimedFields(BTreeMap<SalesField, TimedValue<SalesValue>>);

/// Fields of an event that take effect, and those that are older than the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::entity) struct SalesEdit {
    pub(in crate::entity) at: UnixMicros,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::entity) set: SalesValues,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::entity) late: Vec<SalesField>,
}

impl TimedFields {
    /// Returns the text of a field; `None` if it has no value or one of another type.
    pub(in crate::entity) fn text(&self, member: SalesField) -> Option<&Arc<str>> {
        match self.0.get(&member).map(|field| &field.value) {
            Some(SalesValue::Text(text)) => Some(text),
            Some(SalesValue::Number(_) | SalesValue::Money(_)) | None => None,
        }
    }

    /// Splits `values` of the event time `at` into those that take effect and those that are late.
    pub(in crate::entity) fn plan_edit(&self, values: &SalesValues, at: UnixMicros) -> SalesEdit {
        let is_late =
            |member: &SalesField| self.0.get(member).is_some_and(|field| field.is_late(at));
        let (late, set): (SalesValues, SalesValues) = values
            .iter()
            .map(|(member, value)| (*member, value.clone()))
            .partition(|(member, _)| is_late(member));

        SalesEdit {
            at,
            set,
            late: late.into_keys().collect(),
        }
    }

    /// Copies `edit` into the fields.
    pub(in crate::entity) fn apply(&mut self, edit: &SalesEdit) {
        for (member, value) in &edit.set {
            self.0
                .insert(*member, TimedValue::from_event(value.clone(), edit.at));
        }
    }

    /// Returns those of `members` that have a value, with their times.
    pub(in crate::entity) fn restrict_to(&self, members: &[SalesField]) -> Self {
        let known = members
            .iter()
            .filter_map(|member| Some((*member, self.0.get(member)?.clone())));
        Self(known.collect())
    }

    /// Returns all `members` in the form of a state; a field without value is null.
    pub(in crate::entity) fn to_json(
        &self,
        members: &[SalesField],
    ) -> Map<String, serde_json::Value> {
        let value_to_json = |member: &SalesField| {
            self.0
                .get(member)
                .map(|field| field.value.to_json())
                .unwrap_or_default()
        };
        members
            .iter()
            .map(|member| (member.as_str().to_owned(), value_to_json(member)))
            .collect()
    }

    /// Returns the fields in the form of an event.
    pub(in crate::entity) fn to_wire(&self) -> BTreeMap<&'static str, Box<RawValue>> {
        self.0
            .iter()
            .map(|(member, field)| (member.as_str(), field.value.to_wire()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn at(micros: i64) -> UnixMicros {
        Timestamp::from_micros(micros).into()
    }

    fn given(city: &str, notes: Option<&str>) -> SalesValues {
        let notes = notes.map(|notes| (SalesField::Notes, SalesValue::Text(notes.into())));
        notes
            .into_iter()
            .chain([(SalesField::City, SalesValue::Text(city.into()))])
            .collect()
    }

    #[test]
    fn each_field_is_late_by_itself() {
        let mut fields = TimedFields::default();
        fields.apply(&fields.plan_edit(&given("Lyon", None), at(10)));
        let edit = fields.plan_edit(&given("Paris", Some("new")), at(9));
        assert_eq!(edit.late, [SalesField::City]);
        fields.apply(&edit);
        assert_eq!(
            serde_json::Value::Object(fields.to_json(&[
                SalesField::City,
                SalesField::Notes,
                SalesField::Phone
            ])),
            json!({"city": "Lyon", "notes": "new", "phone": null}),
        );
        assert!(
            fields
                .plan_edit(&given("Nice", None), at(10))
                .late
                .is_empty(),
            "an equal time is not late"
        );
    }

    #[test]
    fn an_amount_is_a_string_in_a_state_and_a_number_in_an_event() {
        let money = SalesValue::Money(Decimal::parse("50000.00").expect("a number"));
        let mut fields = TimedFields::default();
        fields.apply(&fields.plan_edit(&SalesValues::from([(SalesField::Budget, money)]), at(1)));
        assert_eq!(fields.to_json(&[SalesField::Budget])["budget"], "50000.00");
        assert_eq!(fields.to_wire()["budget"].get(), "50000.00");
    }
}

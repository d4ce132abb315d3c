//! Contacts, memos and activities of a pre-lead or lead: the newest items of each collection.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::entity::timed_value::{TimedValue, UnixMicros};
use crate::event::Timestamp;

/// Contact person of a pre-lead or lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the members are those of the wire format, under their names"
)]
pub struct SalesContact {
    pub first_name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub designation: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<Arc<str>>,
}

/// Memo on a pre-lead or lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the members are those of the wire format, under their names"
)]
pub struct SalesMemo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    pub content: Arc<str>,
    pub memo_type: Arc<str>,
}

/// Activity, planned or done: a call, a meeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the members are those of the wire format, under their names"
)]
pub struct SalesActivity {
    pub activity_type: Arc<str>,
    pub title: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    #[serde(default, with = "micros", skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    #[serde(default, with = "micros", skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Arc<str>>,
}

/// Item with the id that the node allocated and the event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::entity) struct NumberedItem<T> {
    pub(in crate::entity) id: u64,
    pub(in crate::entity) at: UnixMicros,
    pub(in crate::entity) item: T,
}

/// Newest items, in the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::entity) struct NewestItems<T>(VecDeque<T>);

impl<T> Default for NewestItems<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> NewestItems<T> {
    /// Appends `item` and drops the oldest items beyond `keep`.
    pub(in crate::entity) fn push(&mut self, item: T, keep: usize) {
        self.insert(self.0.len(), item, keep);
    }

    /// Inserts `item` behind the leading items for which `is_before` is true, and drops the first
    /// items beyond `keep`.
    pub(in crate::entity) fn push_sorted(
        &mut self,
        item: T,
        keep: usize,
        is_before: impl Fn(&T) -> bool,
    ) {
        let place = self.0.partition_point(is_before);
        self.insert(place, item, keep);
    }

    fn insert(&mut self, place: usize, item: T, keep: usize) {
        self.0.insert(place, item);
        let surplus = self.0.len().saturating_sub(keep);
        self.0.drain(..surplus);
    }

    pub(in crate::entity) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// Contacts, at most one of which is primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::entity) struct ContactList {
    pub(in crate::entity) list: NewestItems<NumberedItem<SalesContact>>,
    /// Id of the primary contact. It stays when newer contacts push that contact out of the list,
    /// so that an older event cannot make another contact primary.
    pub(in crate::entity) primary: TimedValue<Option<u64>>,
}

impl ContactList {
    /// Contacts in the form of the API.
    pub(in crate::entity) fn to_json(&self) -> Vec<Value> {
        self.list
            .iter()
            .map(|contact| self.contact_to_json(contact))
            .collect()
    }

    fn contact_to_json(
        &self,
        NumberedItem { id, at: _, item }: &NumberedItem<SalesContact>,
    ) -> Value {
        json!({
            "contact_id": id,
            "first_name": item.first_name,
            "last_name": item.last_name,
            "email": item.email,
            "phone": item.phone,
            "designation": item.designation,
            "department": item.department,
            "is_primary": self.primary.value == Some(*id),
        })
    }
}

impl NumberedItem<SalesMemo> {
    pub(in crate::entity) fn to_json(&self) -> Value {
        let Self { id, at, item } = self;
        json!({
            "memo_id": id,
            "title": item.title,
            "content": item.content,
            "memo_type": item.memo_type,
            "at": Timestamp::from(*at),
        })
    }
}

impl NumberedItem<SalesActivity> {
    pub(in crate::entity) fn to_json(&self) -> Value {
        let Self { id, at, item } = self;
        json!({
            "activity_id": id,
            "activity_type": item.activity_type,
            "title": item.title,
            "description": item.description,
            "scheduled_at": item.scheduled_at,
            "completed_at": item.completed_at,
            "outcome": item.outcome,
            "at": Timestamp::from(*at),
        })
    }
}

/// Serde form of an optional time: microseconds since 1970.
mod micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::entity::timed_value::UnixMicros;
    use crate::event::Timestamp;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(UnixMicros::from).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<UnixMicros>::deserialize(deserializer)?.map(Timestamp::from))
    }
}

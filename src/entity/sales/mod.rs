//! Parts shared by pre-leads, leads and customers.
//!
//! ```text
//!  pre_lead ──convert──> lead ──convert (won)──> customer
//!  └──── ProspectState ─────┘                    └ TimedFields, CustomerBooks
//! ```

mod answer;
mod books;
mod decimal;
mod field_names;
mod fields;
mod items;
#[cfg(test)]
mod property_tests;
mod prospect;
mod status;
#[cfg(test)]
mod tests;

pub(super) use answer::AnswerMembers;
pub use books::{BookEntry, CurrencyCode};
pub(super) use books::{BookPosting, CustomerBooks};
pub use decimal::{Decimal, FRACTION_DIGITS_MAX, WHOLE_DIGITS_MAX};
pub use field_names::{
    CUSTOMER_FIELDS, CUSTOMER_TERM_FIELDS, LEAD_FIELDS, LEAD_TERM_FIELDS, PRE_LEAD_FIELDS,
    PROFILE_FIELDS, SalesField,
};
pub(super) use fields::{SalesEdit, TimedFields};
pub use fields::{SalesValue, SalesValues};
pub(super) use items::{NewestItems, NumberedItem};
pub use items::{SalesActivity, SalesContact, SalesMemo};
pub use prospect::ProspectAction;
pub(super) use prospect::{
    ProspectDecision, ProspectState, ProspectStep, summarize_edit, summarize_step,
};
pub use status::STATUSES;
pub(super) use status::{CONVERTED, DISCARDED, LOST, WON};

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value as Json, json};

use super::decision::{AcceptedChange, DecisionContext, Rejection};

/// Builds the answer of the deciding entity: its id under `id_member`, and the other `members`.
pub(super) fn build_answer(
    id_member: &'static str,
    context: &DecisionContext<'_>,
    members: AnswerMembers,
) -> Option<Json> {
    let own = (id_member, own_id(context));

    let ordered = match members {
        AnswerMembers::AddedItem(item, id) => vec![(item, json!(id)), own],
        AnswerMembers::AfterId(members) => std::iter::once(own).chain(members).collect(),
    };

    Some(Json::Object(
        ordered
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    ))
}

/// Id of the deciding entity, as a JSON number.
pub(super) fn own_id(context: &DecisionContext<'_>) -> Json {
    let id = context.key.id();
    id.parse::<u64>()
        .map_or_else(|_| json!(id), |number| json!(number))
}

/// Accepts `change` in time, with `answer`.
pub(super) fn accept_with_answer<C>(change: C, answer: Option<Json>) -> AcceptedChange<C> {
    AcceptedChange {
        answer,
        ..AcceptedChange::new(change)
    }
}

/// Rejection of an event for a closed entity.
pub(super) fn reject_closed(what: &'static str) -> Rejection {
    Rejection::conflict("closed", format!("{what} and takes no further change"))
}

/// Rejection of a second conversion; `member` of the answer holds the `id` of the entity that the
/// first one created.
pub(super) fn reject_already_converted(
    what: &'static str,
    member: &'static str,
    id: u64,
) -> Rejection {
    let rejection =
        Rejection::conflict("already_converted", format!("{what} is already converted"));
    Rejection {
        member: Some((member, id)),
        ..rejection
    }
}

/// Payload of a spawned entity's first event: its fields in the form of an event, and `ids`.
pub(super) fn spawned_payload(
    event: &'static str,
    fields: &TimedFields,
    ids: &[(&'static str, Json)],
) -> Bytes {
    #[derive(Serialize)]
    struct SpawnedEnvelope<'a> {
        event: &'static str,
        data: &'a BTreeMap<&'static str, Box<RawValue>>,
    }
    let mut data = fields.to_wire();

    for (name, id) in ids {
        data.insert(
            name,
            to_raw_value(id).expect("numbers and texts have a JSON text"),
        );
    }

    serde_json::to_vec(&SpawnedEnvelope { event, data: &data })
        .expect("the keys are strings")
        .into()
}

//! What pre-leads, leads and customers are made of.
//!
//! ```text
//!  pre_lead ──convert──> lead ──convert (won)──> customer
//!  └──── Prospect ──────────┘                    └ Fields, Books
//! ```

mod books;
mod decimal;
mod fields;
mod items;
mod members;
#[cfg(test)]
mod properties;
mod prospect;
mod said;
mod status;
#[cfg(test)]
mod tests;

pub(super) use books::{Books, Posting};
pub use books::{Currency, Entry};
pub use decimal::{Decimal, FRACTION_DIGITS_MAX, WHOLE_DIGITS_MAX};
pub(super) use fields::{Edit, Fields};
pub use fields::{Given, Value};
pub use items::{Activity, Contact, Memo};
pub(super) use items::{Newest, Numbered};
pub use members::{CUSTOMER, CUSTOMER_TERMS, LEAD, LEAD_TERMS, Member, PRE_LEAD, PROFILE};
pub use prospect::Action;
pub(super) use prospect::{Decided, Prospect, Step, edited, summary};
pub(super) use said::Said;
pub use status::STATUSES;
pub(super) use status::{CONVERTED, DISCARDED, LOST, WON};

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value as Json, json};

use super::verdict::{Acceptance, Context, Rejection};

/// The answer of the entity that decides: its id under `name`, and what is `said` besides.
pub(super) fn answer(name: &'static str, context: &Context<'_>, said: Said) -> Option<Json> {
    let own = (name, own_id(context));
    let members = match said {
        Said::Added(item, id) => vec![(item, json!(id)), own],
        Said::Now(members) => std::iter::once(own).chain(members).collect(),
    };
    Some(Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// The id of the entity that decides, as a number.
pub(super) fn own_id(context: &Context<'_>) -> Json {
    let id = context.key.id();
    id.parse::<u64>().map_or_else(|_| json!(id), |number| json!(number))
}

/// What `change` answers when nothing of it can be late.
pub(super) fn accepted<C>(change: C, answer: Option<Json>) -> Acceptance<C> {
    Acceptance { answer, ..Acceptance::new(change) }
}

/// Why an entity that is closed takes no event.
pub(super) fn closed(what: &'static str) -> Rejection {
    Rejection::conflict("closed", format!("{what} and takes no further change"))
}

/// Why a second conversion is refused: `member` says what the first one made.
pub(super) fn already_converted(what: &'static str, member: &'static str, id: u64) -> Rejection {
    let rejection = Rejection::conflict("already_converted", format!("{what} is already converted"));
    Rejection { member: Some((member, id)), ..rejection }
}

/// The payload of an entity's first event: its fields as an event has them, and `ids` besides.
pub(super) fn birth_payload(event: &'static str, fields: &Fields, ids: &[(&'static str, Json)]) -> Bytes {
    #[derive(Serialize)]
    struct Envelope<'a> {
        event: &'static str,
        data: &'a BTreeMap<&'static str, Box<RawValue>>,
    }
    let mut data = fields.to_wire();
    for (name, id) in ids {
        data.insert(name, to_raw_value(id).expect("numbers and texts have a JSON text"));
    }
    serde_json::to_vec(&Envelope { event, data: &data }).expect("the keys are strings").into()
}

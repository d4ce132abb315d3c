//! A customer: what a won lead became, with what it ordered and paid.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::field::Micros;
use super::sales::{self, Books, CUSTOMER, Entry, Fields, Posting};
use super::verdict::{Acceptance, Context, Limits, Rejection, Verdict};

/// What an event asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The code that the event names the customer by; another customer's is refused.
    pub customer_code: Option<Arc<str>>,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The customer ordered.
    Ordered(Entry),
    /// The customer paid.
    Paid(Entry),
}

/// A customer's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    customer_code: Arc<str>,
    lead_id: Option<u64>,
    fields: Fields,
    books: Books,
}

/// What one event did to a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change(Effect);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Effect {
    /// It began with what its lead was.
    Born {
        customer_code: Arc<str>,
        lead_id: Option<u64>,
        fields: Fields,
    },
    Ordered(Posting),
    Paid(Posting),
}

impl Change {
    /// The first change of a customer that the lead deciding in `context` becomes.
    pub(super) fn born(fields: Fields, customer_code: Arc<str>, context: &Context<'_>) -> Self {
        Self(Effect::Born { customer_code, lead_id: sales::own_id(context).as_u64(), fields })
    }
}

/// What `action` does to the customer `state`: an order or payment that it has already changes nothing and is answered like
/// the first time.
///
/// # Errors
/// [`Rejection`]: 404 when the event names another customer's code, 409 when a total would have too many digits or a new
/// currency is one too many.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Verdict<Change>, Rejection> {
    if action.customer_code.as_ref().is_some_and(|code| *code != state.customer_code) {
        return Err(Rejection::not_found("Customer not found"));
    }
    let answer = Some(json!({ "customer_id": sales::own_id(context), "customer_code": state.customer_code }));
    let at = Micros::from(context.at);
    let (late, effect) = match &action.event {
        Event::Ordered(entry) if state.books.has_order(&entry.id) => return Ok(Verdict::Known(answer)),
        Event::Paid(entry) if state.books.has_payment(&entry.id) => return Ok(Verdict::Known(answer)),
        Event::Ordered(entry) => {
            let posting = state.books.post_order(entry, at)?;
            (posting.late, Effect::Ordered(posting))
        }
        Event::Paid(entry) => {
            let posting = state.books.post_payment(entry, at)?;
            (posting.late, Effect::Paid(posting))
        }
    };
    Ok(Verdict::Accept(Acceptance { late, answer, ..Acceptance::new(Change(effect)) }))
}

impl State {
    /// Makes `change` part of the state.
    pub fn apply(&mut self, change: &Change, _limits: Limits) {
        match &change.0 {
            Effect::Born { customer_code, lead_id, fields } => {
                self.customer_code = Arc::clone(customer_code);
                self.lead_id = *lead_id;
                self.fields = fields.clone();
            }
            Effect::Ordered(posting) => self.books.apply_order(posting),
            Effect::Paid(posting) => self.books.apply_payment(posting),
        }
    }

    /// The state as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let mut shown = self.fields.to_json(&CUSTOMER);
        let ids: [(&str, Json); 2] = [("customer_code", json!(self.customer_code)), ("lead_id", json!(self.lead_id))];
        shown.extend(ids.map(|(name, value)| (name.to_owned(), value)));
        self.books.show(&mut shown);
        shown
    }
}

/// One plain sentence on `change`.
#[must_use]
pub fn summary(change: &Change) -> String {
    match &change.0 {
        Effect::Born { lead_id: Some(id), .. } => format!("created from lead {id}"),
        Effect::Born { lead_id: None, .. } => "created from a lead".into(),
        Effect::Ordered(Posting { entry, .. }) => {
            format!("order {} of {} {} recorded", entry.id, entry.amount, entry.currency)
        }
        Effect::Paid(Posting { entry, .. }) => {
            format!("payment {} of {} {} recorded", entry.id, entry.amount, entry.currency)
        }
    }
}

//! A customer: what a won lead became, with what it ordered and paid.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::decision::{AcceptedChange, DecisionContext, EntityDecision, Rejection, StateLimits};
use super::sales::{self, BookPosting, CUSTOMER_FIELDS, CustomerBooks, Entry, TimedFields};
use super::timed_value::UnixMicros;

/// What an event asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomerAction {
    /// The code that the event names the customer by; another customer's is refused.
    pub customer_code: Option<Arc<str>>,
    /// What happened.
    pub event: CustomerEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomerEvent {
    /// The customer ordered.
    Ordered(Entry),
    /// The customer paid.
    Paid(Entry),
}

/// A customer's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerState {
    customer_code: Arc<str>,
    lead_id: Option<u64>,
    fields: TimedFields,
    books: CustomerBooks,
}

/// What one event did to a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomerChange(CustomerEffect);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CustomerEffect {
    /// It began with what its lead was.
    Born {
        customer_code: Arc<str>,
        lead_id: Option<u64>,
        fields: TimedFields,
    },
    Ordered(BookPosting),
    Paid(BookPosting),
}

impl CustomerChange {
    /// The first change of a customer that the lead deciding in `context` becomes.
    pub(super) fn from_lead(
        fields: TimedFields,
        customer_code: Arc<str>,
        context: &DecisionContext<'_>,
    ) -> Self {
        Self(CustomerEffect::Born {
            customer_code,
            lead_id: sales::own_id(context).as_u64(),
            fields,
        })
    }
}

/// What `action` does to the customer `state`: an order or payment that it has already changes
/// nothing and is answered like the first time.
///
/// # Errors
/// [`Rejection`]: 404 when the event names another customer's code, 409 when a total would have too
/// many digits or a new currency is one too many.
pub fn decide(
    state: &CustomerState,
    action: &CustomerAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<CustomerChange>, Rejection> {
    if action
        .customer_code
        .as_ref()
        .is_some_and(|code| *code != state.customer_code)
    {
        return Err(Rejection::not_found("Customer not found"));
    }
    let answer = Some(
        json!({ "customer_id": sales::own_id(context), "customer_code": state.customer_code }),
    );
    let at = UnixMicros::from(context.at);
    let (late, effect) = match &action.event {
        CustomerEvent::Ordered(entry) if state.books.has_order(&entry.id) => {
            return Ok(EntityDecision::AlreadyApplied(answer));
        }
        CustomerEvent::Paid(entry) if state.books.has_payment(&entry.id) => {
            return Ok(EntityDecision::AlreadyApplied(answer));
        }
        CustomerEvent::Ordered(entry) => {
            let posting = state.books.plan_order(entry, at)?;
            (posting.late, CustomerEffect::Ordered(posting))
        }
        CustomerEvent::Paid(entry) => {
            let posting = state.books.plan_payment(entry, at)?;
            (posting.late, CustomerEffect::Paid(posting))
        }
    };
    Ok(EntityDecision::Accept(AcceptedChange {
        late,
        answer,
        ..AcceptedChange::new(CustomerChange(effect))
    }))
}

impl CustomerState {
    /// Makes `change` part of the state.
    pub fn apply(&mut self, change: &CustomerChange, _limits: StateLimits) {
        match &change.0 {
            CustomerEffect::Born {
                customer_code,
                lead_id,
                fields,
            } => {
                self.customer_code = Arc::clone(customer_code);
                self.lead_id = *lead_id;
                self.fields = fields.clone();
            }
            CustomerEffect::Ordered(posting) => self.books.apply_order(posting),
            CustomerEffect::Paid(posting) => self.books.apply_payment(posting),
        }
    }

    /// The state as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let mut shown = self.fields.to_json(&CUSTOMER_FIELDS);
        let ids: [(&str, Json); 2] = [
            ("customer_code", json!(self.customer_code)),
            ("lead_id", json!(self.lead_id)),
        ];
        shown.extend(ids.map(|(name, value)| (name.to_owned(), value)));
        self.books.add_to_json(&mut shown);
        shown
    }
}

/// One plain sentence on `change`.
#[must_use]
pub fn summary(change: &CustomerChange) -> String {
    match &change.0 {
        CustomerEffect::Born {
            lead_id: Some(id), ..
        } => format!("created from lead {id}"),
        CustomerEffect::Born { lead_id: None, .. } => "created from a lead".into(),
        CustomerEffect::Ordered(BookPosting { entry, .. }) => {
            format!(
                "order {} of {} {} recorded",
                entry.id, entry.amount, entry.currency
            )
        }
        CustomerEffect::Paid(BookPosting { entry, .. }) => {
            format!(
                "payment {} of {} {} recorded",
                entry.id, entry.amount, entry.currency
            )
        }
    }
}

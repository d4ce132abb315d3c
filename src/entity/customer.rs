//! Customer: created when a won lead is converted; counts orders and payments.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::decision::{AcceptedChange, DecisionContext, EntityDecision, Rejection, StateLimits};
use super::sales::{self, BookEntry, BookPosting, CUSTOMER_FIELDS, CustomerBooks, TimedFields};
use super::timed_value::UnixMicros;

/// Input of a decision on a customer.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomerAction {
    /// Code that the event names the customer by; the code of another customer is rejected.
    pub customer_code: Option<Arc<str>>,
    /// Order or payment to record.
    pub event: CustomerEvent,
}

/// Event of a customer, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomerEvent {
    /// Order by the customer, counted once by its id.
    Ordered(BookEntry),
    /// Payment by the customer, counted once by its id.
    Paid(BookEntry),
}

/// State of a customer: the fields from its lead, and its books.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerState {
    customer_code: Arc<str>,
    lead_id: Option<u64>,
    fields: TimedFields,
    books: CustomerBooks,
}

/// Effect of one event on a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomerChange(CustomerEffect);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CustomerEffect {
    /// First change, with the fields of the lead.
    Born {
        customer_code: Arc<str>,
        lead_id: Option<u64>,
        fields: TimedFields,
    },
    Ordered(BookPosting),
    Paid(BookPosting),
}

impl CustomerChange {
    /// First change of the customer that the deciding lead is converted to.
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

/// Decides on `action` for the customer `state`. A repeated order or payment changes nothing and
/// gets the same answer again.
///
/// # Errors
/// [`Rejection`]: 404 for the code of another customer, 409 when a total would have too many digits
/// or there would be too many currencies.
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
    /// Copies `change` into the state.
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

    /// State in the form of the API.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let mut json = self.fields.to_json(&CUSTOMER_FIELDS);
        let ids: [(&str, Json); 2] = [
            ("customer_code", json!(self.customer_code)),
            ("lead_id", json!(self.lead_id)),
        ];
        json.extend(ids.map(|(name, value)| (name.to_owned(), value)));
        self.books.add_to_json(&mut json);
        json
    }
}

/// Summary line of a timeline for `change`.
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

//! The `data` of the 18 events: what each requires, member by member.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::fields::{Faults, present};
use super::values::{
    email_or_phone, money, name, optional_email, optional_line, optional_prose, prose, read as fields, reference,
};
use crate::entity::sales::{
    self, Activity, CUSTOMER_TERMS, Contact, Currency, Entry, Given, LEAD, LEAD_TERMS, Member, Memo, PRE_LEAD, PROFILE,
    STATUSES,
};
use crate::entity::{Action, customer, lead, pre_lead};
use crate::event::{Timestamp, members};

const MEMO_TYPES: [&str; 5] = ["general", "follow_up", "meeting", "call", "email"];
const ACTIVITY_TYPES: [&str; 5] = ["call", "email", "meeting", "task", "note"];

/// What a reader is given.
pub(super) struct Data<'a> {
    /// The text of an object.
    pub(super) json: &'a str,
    /// The system that sent it.
    pub(super) who: &'a Arc<str>,
    /// Makes a code for a customer that is given none; `None` without randomness.
    pub(super) new_code: fn() -> Option<String>,
}

/// What a reader makes of it.
pub(super) struct Wish {
    pub(super) action: Action,
    /// The event's own time, where its data has one.
    pub(super) at: Option<Timestamp>,
    /// What is to be claimed for ever.
    pub(super) code: Option<String>,
}

/// Reads the data of one event; what is wrong goes to the faults. An error is one of the node's, since the data was found to
/// be an object before.
pub(super) type Reader = fn(&Data<'_>, &mut Faults) -> Result<Wish, serde_json::Error>;

type Wished = Result<Wish, serde_json::Error>;

fn wish(action: Action) -> Wish {
    Wish { action, at: None, code: None }
}

fn of_pre_lead(action: sales::Action) -> Wish {
    wish(Action::PreLead(pre_lead::Action::Prospect(action)))
}

fn of_lead(action: sales::Action) -> Wish {
    wish(Action::Lead(lead::Action::Prospect(action)))
}

pub(super) fn pre_lead_create(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let fields = fields(data.json, &PRE_LEAD, faults)?;
    Ok(of_pre_lead(create(fields, data, faults)?))
}

pub(super) fn lead_create(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let fields = fields(data.json, &LEAD, faults)?;
    Ok(of_lead(create(fields, data, faults)?))
}

/// Someone new has a name, and a way to be reached.
fn create(fields: Given, data: &Data<'_>, faults: &mut Faults) -> Result<sales::Action, serde_json::Error> {
    if !fields.contains_key(&Member::FirstName) {
        faults.add(Member::FirstName.path(), "is required");
    }
    let [email, phone] = members(data.json, [Member::Email.as_str(), Member::Phone.as_str()])?;
    email_or_phone(faults, email, phone);
    Ok(sales::Action::Create { fields })
}

pub(super) fn pre_lead_update(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let fields = fields(data.json, &PRE_LEAD, faults)?;
    Ok(of_pre_lead(sales::Action::Update { fields, who: Arc::clone(data.who) }))
}

pub(super) fn lead_update(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let fields = fields(data.json, &LEAD, faults)?;
    Ok(of_lead(sales::Action::Update { fields, who: Arc::clone(data.who) }))
}

pub(super) fn pre_lead_discard(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let [reason] = members(data.json, ["reason"])?;
    let reason = optional_prose(faults, "data.reason", reason);
    Ok(wish(Action::PreLead(pre_lead::Action::Discard { reason, who: Arc::clone(data.who) })))
}

pub(super) fn lead_discard(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let [reason, loss_reason] = members(data.json, ["reason", "loss_reason"])?;
    Ok(wish(Action::Lead(lead::Action::Discard {
        reason: optional_prose(faults, "data.reason", reason),
        loss_reason: optional_prose(faults, "data.loss_reason", loss_reason),
        who: Arc::clone(data.who),
    })))
}

pub(super) fn pre_lead_contact(data: &Data<'_>, faults: &mut Faults) -> Wished {
    contact(data, faults).map(of_pre_lead)
}

pub(super) fn lead_contact(data: &Data<'_>, faults: &mut Faults) -> Wished {
    contact(data, faults).map(of_lead)
}

fn contact(data: &Data<'_>, faults: &mut Faults) -> Result<sales::Action, serde_json::Error> {
    let names = ["first_name", "last_name", "email", "phone", "designation", "department", "is_primary"];
    let [first_name, last_name, email, phone, designation, department, is_primary] = members(data.json, names)?;
    Ok(sales::Action::AddContact {
        contact: Contact {
            first_name: name(faults, "data.first_name", first_name),
            last_name: optional_line(faults, "data.last_name", last_name),
            email: optional_email(faults, "data.email", email),
            phone: optional_line(faults, "data.phone", phone),
            designation: optional_line(faults, "data.designation", designation),
            department: optional_line(faults, "data.department", department),
        },
        is_primary: faults.flag("data.is_primary", is_primary),
    })
}

pub(super) fn pre_lead_memo(data: &Data<'_>, faults: &mut Faults) -> Wished {
    memo(data, faults).map(of_pre_lead)
}

pub(super) fn lead_memo(data: &Data<'_>, faults: &mut Faults) -> Wished {
    memo(data, faults).map(of_lead)
}

fn memo(data: &Data<'_>, faults: &mut Faults) -> Result<sales::Action, serde_json::Error> {
    let [title, content, memo_type] = members(data.json, ["title", "content", "memo_type"])?;
    let memo = Memo {
        title: optional_line(faults, "data.title", title),
        content: prose(faults, "data.content", content),
        memo_type: match present(memo_type) {
            Some(memo_type) => faults.one_of("data.memo_type", Some(memo_type), &MEMO_TYPES).into(),
            None => MEMO_TYPES[0].into(),
        },
    };
    Ok(sales::Action::AddMemo { memo })
}

pub(super) fn pre_lead_status(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let (action, at) = status(data, faults)?;
    Ok(Wish { at, ..of_pre_lead(action) })
}

pub(super) fn lead_status(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let (action, at) = status(data, faults)?;
    Ok(Wish { at, ..of_lead(action) })
}

fn status(data: &Data<'_>, faults: &mut Faults) -> Result<(sales::Action, Option<Timestamp>), serde_json::Error> {
    let [lead_status, remarks, status_date] = members(data.json, ["lead_status", "remarks", "status_date"])?;
    let action = sales::Action::ChangeStatus {
        lead_status: faults.one_of("data.lead_status", present(lead_status), &STATUSES).into(),
        remarks: optional_prose(faults, "data.remarks", remarks),
        who: Arc::clone(data.who),
    };
    Ok((action, faults.optional_time("data.status_date", status_date)))
}

pub(super) fn pre_lead_convert(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let fields = fields(data.json, &LEAD_TERMS, faults)?;
    Ok(wish(Action::PreLead(pre_lead::Action::Convert { fields, who: Arc::clone(data.who) })))
}

pub(super) fn lead_activity(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let names = ["activity_type", "title", "description", "scheduled_at", "completed_at", "outcome"];
    let [activity_type, title, description, scheduled_at, completed_at, outcome] = members(data.json, names)?;
    Ok(wish(Action::Lead(lead::Action::AddActivity(Activity {
        activity_type: faults.one_of("data.activity_type", present(activity_type), &ACTIVITY_TYPES).into(),
        title: name(faults, "data.title", title),
        description: optional_prose(faults, "data.description", description),
        scheduled_at: faults.optional_time("data.scheduled_at", scheduled_at),
        completed_at: faults.optional_time("data.completed_at", completed_at),
        outcome: optional_prose(faults, "data.outcome", outcome),
    }))))
}

pub(super) fn lead_profile(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let fields = fields(data.json, &PROFILE, faults)?;
    Ok(wish(Action::Lead(lead::Action::UpdateProfile { fields })))
}

pub(super) fn lead_convert(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let [customer_code] = members(data.json, ["customer_code"])?;
    let fields = fields(data.json, &CUSTOMER_TERMS, faults)?;
    let code = match present(customer_code) {
        Some(code) => faults.id("data.customer_code", Some(code)),
        None => (data.new_code)().ok_or_else(|| serde::ser::Error::custom("no randomness"))?,
    };
    let action = Action::Lead(lead::Action::Convert { customer_code: code.as_str().into(), fields });
    Ok(Wish { code: Some(code), ..wish(action) })
}

pub(super) fn order(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let [order_id] = members(data.json, ["order_id"])?;
    let entry = entry("data.order_id", order_id, data, faults)?;
    of_customer(customer::Event::Ordered(entry), data, faults)
}

pub(super) fn payment(data: &Data<'_>, faults: &mut Faults) -> Wished {
    let [payment_id] = members(data.json, ["payment_id"])?;
    let entry = entry("data.payment_id", payment_id, data, faults)?;
    of_customer(customer::Event::Paid(entry), data, faults)
}

fn of_customer(event: customer::Event, data: &Data<'_>, faults: &mut Faults) -> Wished {
    let [code] = members(data.json, ["customer_code"])?;
    let customer_code = present(code).map(|code| faults.id("data.customer_code", Some(code)).into());
    Ok(wish(Action::Customer(customer::Action { customer_code, event })))
}

fn entry(
    path: &'static str,
    id: Option<&RawValue>,
    data: &Data<'_>,
    faults: &mut Faults,
) -> Result<Entry, serde_json::Error> {
    let [amount, currency] = members(data.json, ["amount", "currency"])?;
    let id = reference(faults, path, id);
    let amount = money(faults, "data.amount", amount);
    let code = name(faults, "data.currency", currency);
    let currency = Currency::parse(&code).unwrap_or_else(|| {
        if !code.is_empty() {
            faults.add("data.currency", "must be three letters, such as EUR");
        }
        Currency::default()
    });
    Ok(Entry { id, amount, currency })
}

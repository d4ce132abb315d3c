//! Readers of the member `data` of the 18 events, each with the members that its event requires.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::fields::{FieldErrors, non_null};
use super::values::{
    check_email_or_phone, read_amount, read_members, read_name, read_optional_email,
    read_optional_line, read_optional_prose, read_prose, read_reference,
};
use crate::entity::sales::{
    self, BookEntry, CUSTOMER_TERM_FIELDS, CurrencyCode, LEAD_FIELDS, LEAD_TERM_FIELDS,
    PRE_LEAD_FIELDS, PROFILE_FIELDS, STATUSES, SalesActivity, SalesContact, SalesField, SalesMemo,
    SalesValues,
};
use crate::entity::{EntityAction, customer, lead, pre_lead};
use crate::event::{Timestamp, find_members};

const MEMO_TYPES: [&str; 5] = ["general", "follow_up", "meeting", "call", "email"];
const ACTIVITY_TYPES: [&str; 5] = ["call", "email", "meeting", "task", "note"];

/// Data of one event, as a reader gets it.
pub(super) struct LeadEventData<'a> {
    /// JSON text of an object.
    pub(super) json: &'a str,
    /// Name of the sending system, for the histories.
    pub(super) sender: &'a Arc<str>,
    /// Generates a customer code if the request gives none; `None` without randomness.
    pub(super) new_customer_code: fn() -> Option<String>,
}

/// Action that a reader makes of the data.
pub(super) struct LeadEventAction {
    pub(super) action: EntityAction,
    /// The event's own time, if its data has one.
    pub(super) at: Option<Timestamp>,
    /// Unique key that the event claims permanently: the code of a new customer.
    pub(super) unique_key: Option<String>,
}

/// Reader of the data of one event. Wrong members become field errors. A `serde_json` error is an
/// internal one, since the data was found to be an object before.
pub(super) type LeadDataReader =
    fn(&LeadEventData<'_>, &mut FieldErrors) -> Result<LeadEventAction, serde_json::Error>;

type LeadDataResult = Result<LeadEventAction, serde_json::Error>;

fn bare_action(action: EntityAction) -> LeadEventAction {
    LeadEventAction {
        action,
        at: None,
        unique_key: None,
    }
}

fn pre_lead_action(action: sales::ProspectAction) -> LeadEventAction {
    bare_action(EntityAction::PreLead(pre_lead::PreLeadAction::Prospect(
        action,
    )))
}

fn lead_action(action: sales::ProspectAction) -> LeadEventAction {
    bare_action(EntityAction::Lead(lead::LeadAction::Prospect(action)))
}

pub(super) fn read_pre_lead_create(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let fields = read_members(data.json, &PRE_LEAD_FIELDS, faults)?;
    Ok(pre_lead_action(create_action(fields, data, faults)?))
}

pub(super) fn read_lead_create(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let fields = read_members(data.json, &LEAD_FIELDS, faults)?;
    Ok(lead_action(create_action(fields, data, faults)?))
}

/// A new pre-lead or lead needs a first name and an e-mail address or phone number.
fn create_action(
    fields: SalesValues,
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> Result<sales::ProspectAction, serde_json::Error> {
    if !fields.contains_key(&SalesField::FirstName) {
        faults.add(SalesField::FirstName.path(), "is required");
    }
    let [email, phone] = find_members(
        data.json,
        [SalesField::Email.as_str(), SalesField::Phone.as_str()],
    )?;
    check_email_or_phone(faults, email, phone);
    Ok(sales::ProspectAction::Create { fields })
}

pub(super) fn read_pre_lead_update(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let fields = read_members(data.json, &PRE_LEAD_FIELDS, faults)?;
    Ok(pre_lead_action(sales::ProspectAction::Update {
        fields,
        who: Arc::clone(data.sender),
    }))
}

pub(super) fn read_lead_update(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let fields = read_members(data.json, &LEAD_FIELDS, faults)?;
    Ok(lead_action(sales::ProspectAction::Update {
        fields,
        who: Arc::clone(data.sender),
    }))
}

pub(super) fn read_pre_lead_discard(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let [reason] = find_members(data.json, ["reason"])?;
    let reason = read_optional_prose(faults, "data.reason", reason);
    Ok(bare_action(EntityAction::PreLead(
        pre_lead::PreLeadAction::Discard {
            reason,
            who: Arc::clone(data.sender),
        },
    )))
}

pub(super) fn read_lead_discard(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let [reason, loss_reason] = find_members(data.json, ["reason", "loss_reason"])?;
    Ok(bare_action(EntityAction::Lead(lead::LeadAction::Discard {
        reason: read_optional_prose(faults, "data.reason", reason),
        loss_reason: read_optional_prose(faults, "data.loss_reason", loss_reason),
        who: Arc::clone(data.sender),
    })))
}

pub(super) fn read_pre_lead_contact(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    contact_action(data, faults).map(pre_lead_action)
}

pub(super) fn read_lead_contact(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    contact_action(data, faults).map(lead_action)
}

fn contact_action(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> Result<sales::ProspectAction, serde_json::Error> {
    let names = [
        "first_name",
        "last_name",
        "email",
        "phone",
        "designation",
        "department",
        "is_primary",
    ];
    let [
        first_name,
        last_name,
        email,
        phone,
        designation,
        department,
        is_primary,
    ] = find_members(data.json, names)?;
    Ok(sales::ProspectAction::AddContact {
        contact: SalesContact {
            first_name: read_name(faults, "data.first_name", first_name),
            last_name: read_optional_line(faults, "data.last_name", last_name),
            email: read_optional_email(faults, "data.email", email),
            phone: read_optional_line(faults, "data.phone", phone),
            designation: read_optional_line(faults, "data.designation", designation),
            department: read_optional_line(faults, "data.department", department),
        },
        is_primary: faults.read_flag("data.is_primary", is_primary),
    })
}

pub(super) fn read_pre_lead_memo(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    memo_action(data, faults).map(pre_lead_action)
}

pub(super) fn read_lead_memo(data: &LeadEventData<'_>, faults: &mut FieldErrors) -> LeadDataResult {
    memo_action(data, faults).map(lead_action)
}

fn memo_action(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> Result<sales::ProspectAction, serde_json::Error> {
    let [title, content, memo_type] = find_members(data.json, ["title", "content", "memo_type"])?;
    let memo = SalesMemo {
        title: read_optional_line(faults, "data.title", title),
        content: read_prose(faults, "data.content", content),
        memo_type: match non_null(memo_type) {
            Some(memo_type) => faults
                .read_one_of("data.memo_type", Some(memo_type), &MEMO_TYPES)
                .into(),
            None => MEMO_TYPES[0].into(),
        },
    };
    Ok(sales::ProspectAction::AddMemo { memo })
}

pub(super) fn read_pre_lead_status(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let (action, at) = status_action(data, faults)?;
    Ok(LeadEventAction {
        at,
        ..pre_lead_action(action)
    })
}

pub(super) fn read_lead_status(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let (action, at) = status_action(data, faults)?;
    Ok(LeadEventAction {
        at,
        ..lead_action(action)
    })
}

fn status_action(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> Result<(sales::ProspectAction, Option<Timestamp>), serde_json::Error> {
    let [lead_status, remarks, status_date] =
        find_members(data.json, ["lead_status", "remarks", "status_date"])?;
    let action = sales::ProspectAction::ChangeStatus {
        lead_status: faults
            .read_one_of("data.lead_status", non_null(lead_status), &STATUSES)
            .into(),
        remarks: read_optional_prose(faults, "data.remarks", remarks),
        who: Arc::clone(data.sender),
    };
    Ok((
        action,
        faults.read_optional_time("data.status_date", status_date),
    ))
}

pub(super) fn read_pre_lead_convert(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let fields = read_members(data.json, &LEAD_TERM_FIELDS, faults)?;
    Ok(bare_action(EntityAction::PreLead(
        pre_lead::PreLeadAction::Convert {
            fields,
            who: Arc::clone(data.sender),
        },
    )))
}

pub(super) fn read_lead_activity(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let names = [
        "activity_type",
        "title",
        "description",
        "scheduled_at",
        "completed_at",
        "outcome",
    ];
    let [
        activity_type,
        title,
        description,
        scheduled_at,
        completed_at,
        outcome,
    ] = find_members(data.json, names)?;
    Ok(bare_action(EntityAction::Lead(
        lead::LeadAction::AddActivity(SalesActivity {
            activity_type: faults
                .read_one_of(
                    "data.activity_type",
                    non_null(activity_type),
                    &ACTIVITY_TYPES,
                )
                .into(),
            title: read_name(faults, "data.title", title),
            description: read_optional_prose(faults, "data.description", description),
            scheduled_at: faults.read_optional_time("data.scheduled_at", scheduled_at),
            completed_at: faults.read_optional_time("data.completed_at", completed_at),
            outcome: read_optional_prose(faults, "data.outcome", outcome),
        }),
    )))
}

pub(super) fn read_lead_profile(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let fields = read_members(data.json, &PROFILE_FIELDS, faults)?;
    Ok(bare_action(EntityAction::Lead(
        lead::LeadAction::UpdateProfile { fields },
    )))
}

pub(super) fn read_lead_convert(
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let [customer_code] = find_members(data.json, ["customer_code"])?;
    let fields = read_members(data.json, &CUSTOMER_TERM_FIELDS, faults)?;
    let code = match non_null(customer_code) {
        Some(code) => faults.read_id("data.customer_code", Some(code)),
        None => (data.new_customer_code)()
            .ok_or_else(|| serde::ser::Error::custom("the system has no randomness"))?,
    };
    let action = EntityAction::Lead(lead::LeadAction::Convert {
        customer_code: code.as_str().into(),
        fields,
    });
    Ok(LeadEventAction {
        unique_key: Some(code),
        ..bare_action(action)
    })
}

pub(super) fn read_order(data: &LeadEventData<'_>, faults: &mut FieldErrors) -> LeadDataResult {
    let [order_id] = find_members(data.json, ["order_id"])?;
    let entry = read_ledger_entry("data.order_id", order_id, data, faults)?;
    customer_action(customer::CustomerEvent::Ordered(entry), data, faults)
}

pub(super) fn read_payment(data: &LeadEventData<'_>, faults: &mut FieldErrors) -> LeadDataResult {
    let [payment_id] = find_members(data.json, ["payment_id"])?;
    let entry = read_ledger_entry("data.payment_id", payment_id, data, faults)?;
    customer_action(customer::CustomerEvent::Paid(entry), data, faults)
}

fn customer_action(
    event: customer::CustomerEvent,
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> LeadDataResult {
    let [code] = find_members(data.json, ["customer_code"])?;
    let customer_code =
        non_null(code).map(|code| faults.read_id("data.customer_code", Some(code)).into());
    Ok(bare_action(EntityAction::Customer(
        customer::CustomerAction {
            customer_code,
            event,
        },
    )))
}

fn read_ledger_entry(
    path: &'static str,
    id: Option<&RawValue>,
    data: &LeadEventData<'_>,
    faults: &mut FieldErrors,
) -> Result<BookEntry, serde_json::Error> {
    let [amount, currency] = find_members(data.json, ["amount", "currency"])?;
    let id = read_reference(faults, path, id);
    let amount = read_amount(faults, "data.amount", amount);
    let code = read_name(faults, "data.currency", currency);
    let currency = CurrencyCode::parse(&code).unwrap_or_else(|| {
        if !code.is_empty() {
            faults.add("data.currency", "must be three letters, such as EUR");
        }
        CurrencyCode::default()
    });
    Ok(BookEntry {
        id,
        amount,
        currency,
    })
}

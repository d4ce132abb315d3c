//! Table of the 18 events of the contract: name, path, type in the catalogue, answer, subject, and
//! reader of the data.

use super::data::{self, LeadDataReader};
use crate::event::Kind;

/// Path that accepts every event, and the prefix of the paths for single events.
pub const BASE_PATH: &str = "/api/v1/webhooks/incoming";

/// Subject of an event: the entity to which it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadEventSubject {
    /// A new entity, which the event creates.
    New(Kind),
    /// An existing entity, named by its id.
    Known(Kind),
    /// An existing customer, named by its id or its code.
    Customer,
}

/// One event of the contract.
#[derive(Clone, Copy, Debug)]
pub struct LeadEvent {
    /// Name of the event in requests.
    pub name: &'static str,
    /// Path under [`BASE_PATH`] that accepts only this event; `None` if only the common path
    /// accepts it.
    pub path: Option<&'static str>,
    /// Type of the event in the catalogue.
    pub event_type: &'static str,
    /// Message of the successful answer.
    pub message: &'static str,
    /// Entity to which the event applies.
    pub subject: LeadEventSubject,
    pub(super) read: LeadDataReader,
}

impl LeadEvent {
    /// Returns the event with this `name` in requests.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<&'static Self> {
        LEAD_EVENTS.iter().find(|event| event.name == name)
    }

    /// Returns true if the event creates a second entity: a lead or a customer.
    #[must_use]
    pub fn is_conversion(&self) -> bool {
        matches!(self.event_type, "pre_lead.converted" | "lead.converted")
    }

    /// Name of the entity's id in paths and answers.
    pub(in crate::edge) const fn id_name(&self) -> &'static str {
        match self.subject {
            LeadEventSubject::New(Kind::PreLead) | LeadEventSubject::Known(Kind::PreLead) => {
                "pre_lead_id"
            }
            LeadEventSubject::New(_) | LeadEventSubject::Known(_) | LeadEventSubject::Customer => {
                "lead_id"
            }
        }
    }
}

/// Path of the member of the body that holds the id of an entity of `kind`.
pub(super) fn id_member_path(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::PreLead => Some("data.pre_lead_id"),
        Kind::Lead => Some("data.lead_id"),
        Kind::Customer => Some("data.customer_id"),
        Kind::Ticket
        | Kind::C2sLead
        | Kind::Conversation
        | Kind::Organisation
        | Kind::Person
        | Kind::Task
        | Kind::Mandat
        | Kind::Interaction
        | Kind::Custom(_) => None,
    }
}

const fn lead_event(
    name: &'static str,
    path: Option<&'static str>,
    event_type: &'static str,
    message: &'static str,
    subject: LeadEventSubject,
    read: LeadDataReader,
) -> LeadEvent {
    LeadEvent {
        name,
        path,
        event_type,
        message,
        subject,
        read,
    }
}

const NEW_PRE_LEAD: LeadEventSubject = LeadEventSubject::New(Kind::PreLead);
const PRE_LEAD: LeadEventSubject = LeadEventSubject::Known(Kind::PreLead);
const NEW_LEAD: LeadEventSubject = LeadEventSubject::New(Kind::Lead);
const LEAD: LeadEventSubject = LeadEventSubject::Known(Kind::Lead);

/// All events of the contract, in the order of its pages.
#[rustfmt::skip]
pub const LEAD_EVENTS: [LeadEvent; 18] = [
    lead_event("new_inquiry", Some("pre-lead/create"), "pre_lead.created",
        "Pre-lead created successfully", NEW_PRE_LEAD, data::read_pre_lead_create),
    lead_event("pre_lead_update", Some("pre-lead/{id}/update"), "pre_lead.updated",
        "Pre-lead updated successfully", PRE_LEAD, data::read_pre_lead_update),
    lead_event("pre_lead_discard", Some("pre-lead/{id}/discard"), "pre_lead.discarded",
        "Pre-lead discarded successfully", PRE_LEAD, data::read_pre_lead_discard),
    lead_event("pre_lead_contact_add", Some("pre-lead/{id}/contact/add"), "pre_lead.contact_added",
        "Contact added successfully", PRE_LEAD, data::read_pre_lead_contact),
    lead_event("pre_lead_memo_add", Some("pre-lead/{id}/memo/add"), "pre_lead.memo_added",
        "Memo added successfully", PRE_LEAD, data::read_pre_lead_memo),
    lead_event("pre_lead_status_update", Some("pre-lead/{id}/status/update"),
        "pre_lead.status_changed",
        "Pre-lead status updated successfully", PRE_LEAD, data::read_pre_lead_status),
    lead_event("pre_lead_convert", Some("pre-lead/{id}/convert"), "pre_lead.converted",
        "Pre-lead converted to lead successfully", PRE_LEAD, data::read_pre_lead_convert),
    lead_event("new_lead", Some("lead/create"), "lead.created",
        "Lead created successfully", NEW_LEAD, data::read_lead_create),
    lead_event("lead_update", Some("lead/{id}/update"), "lead.updated",
        "Lead updated successfully", LEAD, data::read_lead_update),
    lead_event("lead_discard", Some("lead/{id}/discard"), "lead.discarded",
        "Lead discarded successfully", LEAD, data::read_lead_discard),
    lead_event("lead_contact_add", Some("lead/{id}/contact/add"), "lead.contact_added",
        "Contact added successfully", LEAD, data::read_lead_contact),
    lead_event("lead_activity_add", Some("lead/{id}/activity/add"), "lead.activity_added",
        "Activity added successfully", LEAD, data::read_lead_activity),
    lead_event("lead_qualified_profile_update", Some("lead/{id}/qualified-profile/update"),
        "lead.profile_updated",
        "Qualified profile updated successfully", LEAD, data::read_lead_profile),
    lead_event("lead_memo_add", Some("lead/{id}/memo/add"), "lead.memo_added",
        "Memo added successfully", LEAD, data::read_lead_memo),
    lead_event("lead_status_update", Some("lead/{id}/status/update"), "lead.status_changed",
        "Lead status updated successfully", LEAD, data::read_lead_status),
    lead_event("lead_convert", Some("lead/{id}/convert"), "lead.converted",
        "Lead converted to customer successfully", LEAD, data::read_lead_convert),
    lead_event("order_created", None, "customer.order_created",
        "Order recorded successfully", LeadEventSubject::Customer, data::read_order),
    lead_event("payment_received", None, "customer.payment_received",
        "Payment recorded successfully", LeadEventSubject::Customer, data::read_payment),
];

#[cfg(test)]
mod tests {
    use super::super::super::signature::VerifiedBody;
    use super::super::{LeadRequestContext, decode};
    use super::*;
    use crate::event::catalogue;

    #[test]
    fn names_paths_and_types_are_there_once() {
        let mut names: Vec<_> = LEAD_EVENTS.iter().map(|event| event.name).collect();
        let mut types: Vec<_> = LEAD_EVENTS.iter().map(|event| event.event_type).collect();
        let mut paths: Vec<_> = LEAD_EVENTS.iter().filter_map(|event| event.path).collect();
        for list in [&mut names, &mut types, &mut paths] {
            let all = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), all, "{list:?}");
        }
        assert_eq!((names.len(), paths.len()), (18, 16));
    }

    #[test]
    fn each_event_is_in_the_catalogue_with_an_example_that_is_taken() {
        for event in &LEAD_EVENTS {
            let entry = catalogue::find_entry(event.event_type)
                .unwrap_or_else(|| panic!("{} is listed", event.event_type));
            assert_eq!(
                (entry.wire_name, entry.source),
                (Some(event.name), Some("leads"))
            );
            let body = format!(
                r#"{{"event": "{}", "source": "crm", "data": {}}}"#,
                event.name, entry.data
            );
            let body = VerifiedBody::unsigned(body.into());
            let context = LeadRequestContext {
                event: Some(event),
                id: Some(1),
                new_customer_code: || Some("CUST-1".to_owned()),
            };
            let decoded = decode::decode_lead_event(&body, context)
                .unwrap_or_else(|error| panic!("{}: {error}", event.name));
            assert_eq!(decoded.event.name, event.name);
        }
    }

    #[test]
    fn a_path_has_an_id_where_its_event_needs_one() {
        for event in &LEAD_EVENTS {
            let has_id = event.path.is_some_and(|path| path.contains("{id}"));
            assert_eq!(
                has_id,
                matches!(event.subject, LeadEventSubject::Known(_)),
                "{}",
                event.name
            );
        }
    }
}

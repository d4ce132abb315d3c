//! List of all events, each with its name, a description and an example of its data.

use super::entry::{
    CRM_SOURCE, CatalogueEvent, CatalogueGroup, named_on_wire, same_on_wire, unnamed_on_wire,
};
use crate::event::Kind;

const LEADS: &str = "leads";

pub(super) const GROUPS: [CatalogueGroup; 25] = [
    CatalogueGroup {
        source: Some("support"),
        kind: Some(Kind::Ticket),
        events: TICKET,
    },
    CatalogueGroup {
        source: Some(LEADS),
        kind: Some(Kind::PreLead),
        events: PRE_LEAD,
    },
    CatalogueGroup {
        source: Some(LEADS),
        kind: Some(Kind::Lead),
        events: LEAD,
    },
    CatalogueGroup {
        source: Some(LEADS),
        kind: Some(Kind::Customer),
        events: CUSTOMER,
    },
    CatalogueGroup {
        source: Some("c2s"),
        kind: Some(Kind::C2sLead),
        events: C2S_LEAD,
    },
    CatalogueGroup {
        source: Some("instagram"),
        kind: Some(Kind::Conversation),
        events: CONVERSATION,
    },
    CatalogueGroup {
        source: Some(CRM_SOURCE),
        kind: Some(Kind::Organisation),
        events: ORGANISATION,
    },
    CatalogueGroup {
        source: Some(CRM_SOURCE),
        kind: Some(Kind::Person),
        events: PERSON,
    },
    CatalogueGroup {
        source: Some(CRM_SOURCE),
        kind: Some(Kind::Task),
        events: TASK,
    },
    CatalogueGroup {
        source: Some(CRM_SOURCE),
        kind: Some(Kind::Mandat),
        events: MANDAT,
    },
    CatalogueGroup {
        source: Some(CRM_SOURCE),
        kind: Some(Kind::Interaction),
        events: INTERACTION,
    },
    CatalogueGroup {
        source: None,
        kind: None,
        events: DELIVERY,
    },
    CatalogueGroup {
        source: None,
        kind: None,
        events: BREAKER,
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::ALERT),
        events: ALERT,
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Ticket),
        events: &[erased("ticket.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::PreLead),
        events: &[erased("pre_lead.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Lead),
        events: &[erased("lead.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Customer),
        events: &[erased("customer.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::C2sLead),
        events: &[erased("c2s_lead.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Conversation),
        events: &[erased("conversation.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Organisation),
        events: &[erased("organisation.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Person),
        events: &[erased("person.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Task),
        events: &[erased("task.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Mandat),
        events: &[erased("mandat.erased")],
    },
    CatalogueGroup {
        source: None,
        kind: Some(Kind::Interaction),
        events: &[erased("interaction.erased")],
    },
];

/// Event of an erasure, for an entity of any kind.
const fn erased(name: &'static str) -> CatalogueEvent {
    unnamed_on_wire(
        name,
        "The content of all earlier events of the entity was erased; receivers should erase theirs.",
        r#"{"erasure_id": 1}"#,
    )
}

const TICKET: &[CatalogueEvent] = &[
    same_on_wire(
        "message.created",
        "Someone wrote a message on a ticket.",
        r#"{"message_id": "msg-1", "text": "My parcel has not arrived.", "author": "Ada", "is_internal": false}"#,
    ),
    same_on_wire(
        "message.updated",
        "The text of a ticket's message was changed.",
        r#"{"message_id": "msg-1", "text": "My parcel has not arrived. It was due on Monday."}"#,
    ),
    same_on_wire(
        "message.deleted",
        "A ticket's message was deleted.",
        r#"{"message_id": "msg-1", "reason": "sent twice"}"#,
    ),
    same_on_wire(
        "status.changed",
        "A ticket got another status.",
        r#"{"status": "pending", "reason": "waiting for the carrier"}"#,
    ),
    same_on_wire(
        "agent.assigned",
        "A ticket was given to an agent.",
        r#"{"agent_id": "op-7", "agent_name": "Grace"}"#,
    ),
    same_on_wire(
        "agent.unassigned",
        "A ticket was taken from its agent.",
        r#"{"reason": "end of shift"}"#,
    ),
    same_on_wire(
        "priority.changed",
        "A ticket got another priority.",
        r#"{"priority": "high"}"#,
    ),
    same_on_wire(
        "tags.updated",
        "The tags of a ticket were changed.",
        r#"{"tags": ["delivery", "vip"]}"#,
    ),
    same_on_wire(
        "category.changed",
        "A ticket got another category.",
        r#"{"category": "shipping"}"#,
    ),
    same_on_wire(
        "attachment.added",
        "A file was attached to a ticket.",
        r#"{"attachment_id": "att-1", "file_name": "label.pdf", "url": "https://example.com/label.pdf", "size": 48213}"#,
    ),
    same_on_wire(
        "sla.breached",
        "A ticket was not handled within the time that was promised.",
        r#"{"policy": "first response within 4 h", "due_at": "2025-12-04T14:30:00Z"}"#,
    ),
    same_on_wire(
        "rating.submitted",
        "A customer rated how a ticket was handled.",
        r#"{"score": 5, "comment": "Quick and friendly."}"#,
    ),
];

const PRE_LEAD: &[CatalogueEvent] = &[
    named_on_wire(
        "pre_lead.created",
        "new_inquiry",
        "An inquiry came in and began a pre-lead.",
        r#"{"first_name": "John", "last_name": "Doe", "email": "john.doe@example.com", "source": "website"}"#,
    ),
    named_on_wire(
        "pre_lead.updated",
        "pre_lead_update",
        "Fields of a pre-lead were changed.",
        r#"{"company_name": "ABC Corp", "city": "Los Angeles"}"#,
    ),
    named_on_wire(
        "pre_lead.discarded",
        "pre_lead_discard",
        "A pre-lead was discarded.",
        r#"{"reason": "Not interested"}"#,
    ),
    named_on_wire(
        "pre_lead.contact_added",
        "pre_lead_contact_add",
        "A contact person was added to a pre-lead.",
        r#"{"first_name": "Jane", "email": "jane.smith@example.com", "is_primary": true}"#,
    ),
    named_on_wire(
        "pre_lead.memo_added",
        "pre_lead_memo_add",
        "A memo was added to a pre-lead.",
        r#"{"title": "First call", "content": "Wants a demo.", "memo_type": "call"}"#,
    ),
    named_on_wire(
        "pre_lead.status_changed",
        "pre_lead_status_update",
        "A pre-lead got another status.",
        r#"{"lead_status": "qualified", "remarks": "Budget confirmed"}"#,
    ),
    named_on_wire(
        "pre_lead.converted",
        "pre_lead_convert",
        "A pre-lead became a lead.",
        r#"{"priority": "high", "assigned_to": 5, "expected_value": 50000.00}"#,
    ),
];

const LEAD: &[CatalogueEvent] = &[
    named_on_wire(
        "lead.created",
        "new_lead",
        "A lead began, from the outside or from a pre-lead.",
        r#"{"first_name": "Robert", "email": "robert@example.com", "source": "referral", "priority": "high"}"#,
    ),
    named_on_wire(
        "lead.updated",
        "lead_update",
        "Fields of a lead were changed.",
        r#"{"expected_value": 150000.00, "priority": "critical"}"#,
    ),
    named_on_wire(
        "lead.discarded",
        "lead_discard",
        "A lead was lost.",
        r#"{"reason": "Lost to competitor", "loss_reason": "Price too high"}"#,
    ),
    named_on_wire(
        "lead.contact_added",
        "lead_contact_add",
        "A contact person was added to a lead.",
        r#"{"first_name": "Sarah", "designation": "CTO", "is_primary": false}"#,
    ),
    named_on_wire(
        "lead.activity_added",
        "lead_activity_add",
        "An activity, such as a call or a meeting, was recorded for a lead.",
        r#"{"activity_type": "meeting", "title": "Product demo"}"#,
    ),
    named_on_wire(
        "lead.profile_updated",
        "lead_qualified_profile_update",
        "The qualified profile of a lead was made or changed.",
        r#"{"profile_type": "qualified", "budget": 150000.00, "decision_timeline": "Q2 2024"}"#,
    ),
    named_on_wire(
        "lead.memo_added",
        "lead_memo_add",
        "A memo was added to a lead.",
        r#"{"title": "Negotiation", "content": "Discount approved.", "memo_type": "general"}"#,
    ),
    named_on_wire(
        "lead.status_changed",
        "lead_status_update",
        "A lead got another status.",
        r#"{"lead_status": "negotiation", "status_date": "2024-01-25T09:00:00Z"}"#,
    ),
    named_on_wire(
        "lead.converted",
        "lead_convert",
        "A won lead became a customer.",
        r#"{"customer_code": "CUST-XYZ-001", "credit_limit": 100000.00}"#,
    ),
];

const CUSTOMER: &[CatalogueEvent] = &[
    named_on_wire(
        "customer.created",
        "lead_convert",
        "A customer began, from a won lead.",
        r#"{"customer_code": "CUST-XYZ-001", "credit_limit": 100000.00}"#,
    ),
    named_on_wire(
        "customer.order_created",
        "order_created",
        "A customer ordered something.",
        r#"{"customer_code": "CUST-XYZ-001", "order_id": "O-17", "amount": 1200.50, "currency": "EUR"}"#,
    ),
    named_on_wire(
        "customer.payment_received",
        "payment_received",
        "A customer paid something.",
        r#"{"customer_code": "CUST-XYZ-001", "payment_id": "P-9", "amount": 1200.50, "currency": "EUR"}"#,
    ),
];

const C2S_LEAD: &[CatalogueEvent] = &[
    named_on_wire(
        "c2s_lead.received",
        "hook_action",
        "Contact2Sale reported a lead or a change of one; its own word for it is in hook_action.",
        r#"{"lead_id": "7f3a", "hook_action": "lead.created", "updated_at": "2025-01-20T10:00:00Z"}"#,
    ),
    unnamed_on_wire(
        "c2s_lead.enriched",
        "The customer of a lead was looked up and the lead enriched.",
        r#"{"lead_id": "7f3a", "enriched": {"name": "Maria Silva"}}"#,
    ),
    unnamed_on_wire(
        "c2s_lead.failed",
        "A lead could not be enriched.",
        r#"{"lead_id": "7f3a", "step": "person", "error": "timed out"}"#,
    ),
];

const CONVERSATION: &[CatalogueEvent] = &[
    named_on_wire(
        "message.received",
        "message",
        "Someone wrote to a business account.",
        r#"{"sender": {"id": "1234567890"}, "recipient": {"id": "0987654321"}, "timestamp": 1762597800000, "message": {"mid": "mid_abc123", "text": "Hello! When will my order ship?"}}"#,
    ),
    named_on_wire(
        "message.echo",
        "message (is_echo)",
        "A business account wrote to someone.",
        r#"{"sender": {"id": "0987654321"}, "recipient": {"id": "1234567890"}, "timestamp": 1762597860000, "message": {"mid": "mid_abc124", "text": "It ships today.", "is_echo": true}}"#,
    ),
    named_on_wire(
        "message.reaction",
        "reaction",
        "Someone reacted to a message, or took a reaction back.",
        r#"{"sender": {"id": "1234567890"}, "recipient": {"id": "0987654321"}, "timestamp": 1762597870000, "reaction": {"mid": "mid_abc124", "action": "react", "reaction": "love", "emoji": "❤"}}"#,
    ),
    named_on_wire(
        "message.postback",
        "postback",
        "Someone pressed a button of a message.",
        r#"{"sender": {"id": "1234567890"}, "recipient": {"id": "0987654321"}, "timestamp": 1762597880000, "postback": {"mid": "mid_abc125", "title": "Track my order", "payload": "TRACK"}}"#,
    ),
    named_on_wire(
        "message.read",
        "read",
        "Someone read the conversation up to a message.",
        r#"{"sender": {"id": "1234567890"}, "recipient": {"id": "0987654321"}, "timestamp": 1762597890000, "read": {"mid": "mid_abc124"}}"#,
    ),
    named_on_wire(
        "message.referral",
        "referral",
        "Someone opened the conversation from a link or an advertisement.",
        r#"{"sender": {"id": "1234567890"}, "recipient": {"id": "0987654321"}, "timestamp": 1762597900000, "referral": {"ref": "spring", "source": "IGME", "type": "OPEN_THREAD"}}"#,
    ),
    unnamed_on_wire(
        "message.reply",
        "A reply was requested or generated automatically; its echo follows when it has been sent.",
        r#"{"account_id": "acc_xyz789", "recipient_id": "1234567890", "text": "It ships today.", "is_automatic": false}"#,
    ),
    unnamed_on_wire(
        "message.unknown",
        "Instagram sent an event of another type; it is stored as received.",
        r#"{"field": "comments", "value": {"id": "17865799348089039", "text": "Nice!"}}"#,
    ),
];

const ORGANISATION: &[CatalogueEvent] = &[
    same_on_wire(
        "organisation.created",
        "An organisation was added to the CRM.",
        r#"{"organisation_id": 51, "name": "ACME Capital", "category": "Institution", "country_code": "FR"}"#,
    ),
    same_on_wire(
        "organisation.updated",
        "Fields of an organisation were changed.",
        r#"{"organisation_id": 51, "category": "Family office"}"#,
    ),
    same_on_wire(
        "organisation.deleted",
        "An organisation was deleted from the CRM.",
        r#"{"organisation_id": 51}"#,
    ),
];

const PERSON: &[CatalogueEvent] = &[
    same_on_wire(
        "person.created",
        "A person was added to the CRM.",
        r#"{"person_id": 204, "first_name": "Claire", "last_name": "Martin", "organisation_id": 51}"#,
    ),
    same_on_wire(
        "person.updated",
        "Fields of a person were changed.",
        r#"{"person_id": 204, "email": "claire@example.com"}"#,
    ),
    same_on_wire(
        "person.deleted",
        "A person was deleted from the CRM.",
        r#"{"person_id": 204}"#,
    ),
];

const TASK: &[CatalogueEvent] = &[
    same_on_wire(
        "task.created",
        "A task was added to the CRM.",
        r#"{"task_id": 33, "title": "Call ACME Capital", "due_date": "2025-10-20"}"#,
    ),
    same_on_wire(
        "task.completed",
        "A task was marked as done.",
        r#"{"task_id": 33, "completed_at": "2025-10-19T16:05:00Z"}"#,
    ),
];

const MANDAT: &[CatalogueEvent] = &[
    same_on_wire(
        "mandat.created",
        "A mandate was added to the CRM.",
        r#"{"mandat_id": 12, "organisation_id": 51, "status": "draft"}"#,
    ),
    same_on_wire(
        "mandat.updated",
        "Fields of a mandate were changed.",
        r#"{"mandat_id": 12, "amount": 250000.00}"#,
    ),
    same_on_wire(
        "mandat.signed",
        "A mandate was signed.",
        r#"{"mandat_id": 12, "signed_at": "2025-10-21"}"#,
    ),
];

const INTERACTION: &[CatalogueEvent] = &[
    same_on_wire(
        "interaction.created",
        "A call, a meeting or another interaction was recorded in the CRM.",
        r#"{"interaction_id": 870, "type": "meeting", "organisation_id": 51}"#,
    ),
    same_on_wire(
        "interaction.updated",
        "Fields of an interaction were changed.",
        r#"{"interaction_id": 870, "summary": "They want a second offer."}"#,
    ),
];

const DELIVERY: &[CatalogueEvent] = &[
    unnamed_on_wire(
        "subscriber.disabled",
        "A subscriber was disabled: it failed for too long, or answered 410 Gone.",
        r#"{"subscriber": 4, "reason": "no success for 5 days"}"#,
    ),
    unnamed_on_wire(
        "delivery.exhausted",
        "Deliveries failed for good and became dead letters: `count` in the last second, and the first of them.",
        r#"{"subscriber": 4, "event": "organisation.created", "event_id": "evt_3f9a2c41_1042",
            "entity": {"kind": "organisation", "id": "31", "sequence": 12}, "attempts": 8, "reason": "exhausted",
            "status": 503, "dead_letter_id": 7, "count": 1}"#,
    ),
];

const BREAKER: &[CatalogueEvent] = &[
    unnamed_on_wire(
        "breaker.opened",
        "The circuit breaker of a subscriber opened, since too many deliveries failed.",
        r#"{"subscriber": 4, "failure_rate": 0.8}"#,
    ),
    unnamed_on_wire(
        "breaker.closed",
        "The circuit breaker of a subscriber closed: it answers again, or was resumed.",
        r#"{"subscriber": 4}"#,
    ),
];

const ALERT: &[CatalogueEvent] = &[
    unnamed_on_wire(
        "alert.raised",
        "The node found a condition that a person should know of, such as a disk that is nearly full.",
        r#"{"alert": "disk_space", "subject": null, "message": "Disk space is low: 512 MiB free, below 1024 MiB.",
            "value": 536870912, "limit": 1073741824}"#,
    ),
    unnamed_on_wire(
        "alert.cleared",
        "A condition that was announced by alert.raised is over.",
        r#"{"alert": "disk_space", "subject": null, "message": "Disk space is sufficient again: 4096 MiB free.",
            "value": 4294967296, "limit": 1073741824}"#,
    ),
];

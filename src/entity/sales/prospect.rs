//! What pre-leads and leads have in common: fields with a status, its history, contacts and memos.
//!
//! | event | is late for | when its time is before that of |
//! |---|---|---|
//! | created, updated | a field | the field's value |
//! | status changed | the status | the status |
//! | contact added | who is primary | the contact that is |
//! | memo added | nothing | |
//!
//! What is late leaves that value as it is; a contact and a line of the history are added all the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::fields::{Edit, Fields, Given, Value};
use super::items::{Contact, Contacts, Memo, Newest, Numbered};
use super::members::Member;
use super::said::Said;
use super::status::{Entry, History, NEW};
use crate::entity::field::{Field, Micros};
use crate::entity::verdict::{Context, Limits};

/// An event that pre-leads and leads have in common; `who` is the system that sent it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the members are those of the wire format, under their names")]
pub enum Action {
    Create { fields: Given },
    Update { fields: Given, who: Arc<str> },
    ChangeStatus { lead_status: Arc<str>, remarks: Option<Arc<str>>, who: Arc<str> },
    AddContact { contact: Contact, is_primary: bool },
    AddMemo { memo: Memo },
}

/// The part of a state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::entity) struct Prospect {
    pub(in crate::entity) fields: Fields,
    pub(in crate::entity) contacts: Contacts,
    pub(in crate::entity) memos: Newest<Numbered<Memo>>,
    pub(in crate::entity) status_history: History,
}

/// What one event did. `keep` is the bound of the collection that was in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::entity) enum Step {
    Created(Edit),
    Updated {
        edit: Edit,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry: Option<Entry>,
        keep: usize,
    },
    StatusChanged {
        edit: Edit,
        entry: Entry,
        keep: usize,
    },
    ContactAdded {
        contact: Numbered<Contact>,
        /// It becomes the primary one.
        takes_over: bool,
        keep: usize,
    },
    MemoAdded {
        memo: Numbered<Memo>,
        keep: usize,
    },
}

/// What was decided: the step, whether something was late, and what the answer says besides the entity's id.
pub(in crate::entity) struct Decided {
    pub(in crate::entity) step: Step,
    pub(in crate::entity) late: bool,
    pub(in crate::entity) said: Said,
}

impl Prospect {
    /// What `action` does. Never refuses: whether anything may be done at all is for the kind to say.
    pub(in crate::entity) fn decide(&self, action: &Action, context: &Context<'_>) -> Decided {
        let (at, keep) = (Micros::from(context.at), context.limits.items_max);
        match action {
            Action::Create { fields } => plain(Step::Created(self.fields.judge(fields, at)), false),
            Action::Update { fields, who } => {
                let edit = self.fields.judge(fields, at);
                let entry = match fields.get(&Member::LeadStatus) {
                    Some(Value::Text(status)) => Some(entry(status, None, at, who)),
                    Some(Value::Number(_) | Value::Money(_)) | None => None,
                };
                let late = !edit.late.is_empty();
                plain(Step::Updated { edit, entry, keep }, late)
            }
            Action::ChangeStatus { lead_status, remarks, who } => {
                let edit = self.fields.judge(&status(lead_status), at);
                let late = !edit.late.is_empty();
                let said = vec![("old_status", json!(self.status())), ("new_status", json!(lead_status))];
                let step = Step::StatusChanged { edit, entry: entry(lead_status, remarks.clone(), at, who), keep };
                Decided { said: Said::Now(said), ..plain(step, late) }
            }
            Action::AddContact { contact, is_primary } => {
                let id = context.draw.id();
                let late = *is_primary && self.contacts.primary.is_late(at);
                let contact = Numbered { id, at, item: contact.clone() };
                let step = Step::ContactAdded { contact, takes_over: *is_primary && !late, keep };
                Decided { said: Said::Added("contact_id", id), ..plain(step, late) }
            }
            Action::AddMemo { memo } => {
                let id = context.draw.id();
                let memo = Numbered { id, at, item: memo.clone() };
                Decided { said: Said::Added("memo_id", id), ..plain(Step::MemoAdded { memo, keep }, false) }
            }
        }
    }

    /// The last status, which no later event can take back: when it is discarded or converted.
    pub(in crate::entity) fn close(
        last: &'static str,
        remarks: Option<Arc<str>>,
        who: &Arc<str>,
        context: &Context<'_>,
    ) -> Step {
        let at = Micros::from(context.at);
        let edit = Edit { at, set: status(&last.into()), late: Vec::new() };
        Step::StatusChanged { edit, entry: entry(&last.into(), remarks, at, who), keep: context.limits.items_max }
    }

    /// The status that counts.
    pub(in crate::entity) fn status(&self) -> &str {
        self.fields.text(Member::LeadStatus).map_or(NEW, |status| status)
    }

    /// Makes `step` part of it. A collection is cut to the bound that was in force, or to that of `limits` if it is lower.
    pub(in crate::entity) fn apply(&mut self, step: &Step, limits: Limits) {
        let bound = |keep: usize| keep.min(limits.items_max);
        match step {
            Step::Created(edit) => self.fields.apply(edit),
            Step::Updated { edit, entry, keep } => {
                self.fields.apply(edit);
                if let Some(entry) = entry {
                    self.status_history.push(entry.clone(), bound(*keep));
                }
            }
            Step::StatusChanged { edit, entry, keep } => {
                self.fields.apply(edit);
                self.status_history.push(entry.clone(), bound(*keep));
            }
            Step::ContactAdded { contact, takes_over, keep } => {
                if *takes_over {
                    self.contacts.primary = Field::given(Some(contact.id), contact.at);
                }
                self.contacts.list.push(contact.clone(), bound(*keep));
            }
            Step::MemoAdded { memo, keep } => self.memos.push(memo.clone(), bound(*keep)),
        }
    }

    /// The part as the API shows it; `members` are the kind's fields.
    pub(in crate::entity) fn to_json(&self, members: &[Member]) -> Map<String, Json> {
        let mut shown = self.fields.to_json(members);
        shown.insert(Member::LeadStatus.as_str().into(), json!(self.status()));
        shown.insert("contacts".into(), json!(self.contacts.to_json()));
        shown.insert("memos".into(), json!(self.memos.iter().map(Numbered::<Memo>::to_json).collect::<Vec<_>>()));
        shown.insert("status_history".into(), json!(self.status_history.to_json()));
        shown
    }
}

/// One plain sentence on `step`, without what people wrote or who they are.
pub(in crate::entity) fn summary(step: &Step) -> String {
    match step {
        Step::Created(_) => "created".into(),
        Step::Updated { edit, .. } => edited(edit),
        Step::StatusChanged { edit, entry, .. } if edit.late.is_empty() => {
            format!("status changed to {}", entry.status)
        }
        Step::StatusChanged { entry, .. } => format!("status was {} (late: not changed)", entry.status),
        Step::ContactAdded { contact, takes_over: true, .. } => format!("contact {} added, now primary", contact.id),
        Step::ContactAdded { contact, .. } => format!("contact {} added", contact.id),
        Step::MemoAdded { memo, .. } => format!("{} memo {} added", memo.item.memo_type, memo.id),
    }
}

/// Which fields `edit` set, and how many came too late.
pub(in crate::entity) fn edited(edit: &Edit) -> String {
    let names: Vec<_> = edit.set.keys().map(|member| member.as_str()).collect();
    let set = if names.is_empty() { "nothing changed".to_owned() } else { format!("changed {}", names.join(", ")) };
    match edit.late.len() {
        0 => set,
        late => format!("{set}; {late} older than what was there"),
    }
}

fn plain(step: Step, late: bool) -> Decided {
    Decided { step, late, said: Said::NOTHING }
}

fn status(status: &Arc<str>) -> Given {
    Given::from([(Member::LeadStatus, Value::Text(Arc::clone(status)))])
}

fn entry(status: &Arc<str>, remarks: Option<Arc<str>>, at: Micros, who: &Arc<str>) -> Entry {
    Entry { status: Arc::clone(status), remarks, at, who: Arc::clone(who) }
}

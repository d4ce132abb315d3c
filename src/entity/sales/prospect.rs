//! Part common to pre-leads and leads: fields with a status, the status history, contacts and
//! memos.
//!
//! | event | is late for | when its time is before that of |
//! |---|---|---|
//! | created, updated | a field | the field's value |
//! | status changed | the status | the status |
//! | contact added | the primary contact | the choice of the primary contact |
//! | memo added | nothing | |
//!
//! A late event leaves that value unchanged; its contact, or its line in the status history, is
//! added nevertheless.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::answer::AnswerMembers;
use super::field_names::SalesField;
use super::fields::{SalesEdit, SalesValue, SalesValues, TimedFields};
use super::items::{ContactList, NewestItems, NumberedItem, SalesContact, SalesMemo};
use super::status::{NEW, StatusEntry, StatusHistory};
use crate::entity::decision::{DecisionContext, StateLimits};
use crate::entity::timed_value::{TimedValue, UnixMicros};

/// Event common to pre-leads and leads; `who` is the system that sent it.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the members are those of the wire format, under their names"
)]
pub enum ProspectAction {
    Create {
        fields: SalesValues,
    },
    Update {
        fields: SalesValues,
        who: Arc<str>,
    },
    ChangeStatus {
        lead_status: Arc<str>,
        remarks: Option<Arc<str>>,
        who: Arc<str>,
    },
    AddContact {
        contact: SalesContact,
        is_primary: bool,
    },
    AddMemo {
        memo: SalesMemo,
    },
}

/// Part of the state that pre-leads and leads have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::entity) struct ProspectState {
    pub(in crate::entity) fields: TimedFields,
    pub(in crate::entity) contacts: ContactList,
    pub(in crate::entity) memos: NewestItems<NumberedItem<SalesMemo>>,
    pub(in crate::entity) status_history: StatusHistory,
}

/// Effect of one event on the common part. `keep` is the bound of the collection at the time of the
/// decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::entity) enum ProspectStep {
    Created(SalesEdit),
    Updated {
        edit: SalesEdit,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry: Option<StatusEntry>,
        keep: usize,
    },
    StatusChanged {
        edit: SalesEdit,
        entry: StatusEntry,
        keep: usize,
    },
    ContactAdded {
        contact: NumberedItem<SalesContact>,
        /// The contact becomes the primary contact.
        takes_over: bool,
        keep: usize,
    },
    MemoAdded {
        memo: NumberedItem<SalesMemo>,
        keep: usize,
    },
}

/// Result of a decision: the step, its lateness, and the members of the answer besides the entity's
/// id.
pub(in crate::entity) struct ProspectDecision {
    pub(in crate::entity) step: ProspectStep,
    pub(in crate::entity) late: bool,
    pub(in crate::entity) answer: AnswerMembers,
}

impl ProspectState {
    /// Decides on `action`. Never rejects: the kind has checked before that the entity is open.
    pub(in crate::entity) fn decide(
        &self,
        action: &ProspectAction,
        context: &DecisionContext<'_>,
    ) -> ProspectDecision {
        let (at, keep) = (UnixMicros::from(context.at), context.limits.items_max);
        match action {
            ProspectAction::Create { fields } => decision_without_answer(
                ProspectStep::Created(self.fields.plan_edit(fields, at)),
                false,
            ),
            ProspectAction::Update { fields, who } => {
                let edit = self.fields.plan_edit(fields, at);
                let entry = match fields.get(&SalesField::LeadStatus) {
                    Some(SalesValue::Text(status)) => Some(status_entry(status, None, at, who)),
                    Some(SalesValue::Number(_) | SalesValue::Money(_)) | None => None,
                };
                let late = !edit.late.is_empty();
                decision_without_answer(ProspectStep::Updated { edit, entry, keep }, late)
            }
            ProspectAction::ChangeStatus {
                lead_status,
                remarks,
                who,
            } => {
                let edit = self.fields.plan_edit(&status_values(lead_status), at);
                let late = !edit.late.is_empty();
                let members = vec![
                    ("old_status", json!(self.status())),
                    ("new_status", json!(lead_status)),
                ];
                let step = ProspectStep::StatusChanged {
                    edit,
                    entry: status_entry(lead_status, remarks.clone(), at, who),
                    keep,
                };
                ProspectDecision {
                    answer: AnswerMembers::AfterId(members),
                    ..decision_without_answer(step, late)
                }
            }
            ProspectAction::AddContact {
                contact,
                is_primary,
            } => {
                let id = context.ids.allocate_id();
                let late = *is_primary && self.contacts.primary.is_late(at);
                let contact = NumberedItem {
                    id,
                    at,
                    item: contact.clone(),
                };
                let step = ProspectStep::ContactAdded {
                    contact,
                    takes_over: *is_primary && !late,
                    keep,
                };
                ProspectDecision {
                    answer: AnswerMembers::AddedItem("contact_id", id),
                    ..decision_without_answer(step, late)
                }
            }
            ProspectAction::AddMemo { memo } => {
                let id = context.ids.allocate_id();
                let memo = NumberedItem {
                    id,
                    at,
                    item: memo.clone(),
                };
                ProspectDecision {
                    answer: AnswerMembers::AddedItem("memo_id", id),
                    ..decision_without_answer(ProspectStep::MemoAdded { memo, keep }, false)
                }
            }
        }
    }

    /// Last step of an entity that is discarded or converted: its final status, which no later
    /// event can change.
    pub(in crate::entity) fn close_with_status(
        last: &'static str,
        remarks: Option<Arc<str>>,
        who: &Arc<str>,
        context: &DecisionContext<'_>,
    ) -> ProspectStep {
        let at = UnixMicros::from(context.at);
        let edit = SalesEdit {
            at,
            set: status_values(&last.into()),
            late: Vec::new(),
        };

        ProspectStep::StatusChanged {
            edit,
            entry: status_entry(&last.into(), remarks, at, who),
            keep: context.limits.items_max,
        }
    }

    /// Current status; [`NEW`] until an event sets one.
    pub(in crate::entity) fn status(&self) -> &str {
        self.fields
            .text(SalesField::LeadStatus)
            .map_or(NEW, |status| status)
    }

    /// Copies `step` into the state. A collection is cut to the bound that was in force at the
    /// decision, or to that of `limits` if it is lower.
    pub(in crate::entity) fn apply(&mut self, step: &ProspectStep, limits: StateLimits) {
        let bound = |keep: usize| keep.min(limits.items_max);
        match step {
            ProspectStep::Created(edit) => self.fields.apply(edit),
            ProspectStep::Updated { edit, entry, keep } => {
                self.fields.apply(edit);
                if let Some(entry) = entry {
                    self.status_history.push(entry.clone(), bound(*keep));
                }
            }
            ProspectStep::StatusChanged { edit, entry, keep } => {
                self.fields.apply(edit);
                self.status_history.push(entry.clone(), bound(*keep));
            }
            ProspectStep::ContactAdded {
                contact,
                takes_over,
                keep,
            } => {
                if *takes_over {
                    self.contacts.primary = TimedValue::from_event(Some(contact.id), contact.at);
                }
                self.contacts.list.push(contact.clone(), bound(*keep));
            }
            ProspectStep::MemoAdded { memo, keep } => self.memos.push(memo.clone(), bound(*keep)),
        }
    }

    /// Common part in the form of the API; `members` are the kind's fields.
    pub(in crate::entity) fn to_json(&self, members: &[SalesField]) -> Map<String, Json> {
        let mut json = self.fields.to_json(members);
        json.insert(SalesField::LeadStatus.as_str().into(), json!(self.status()));
        json.insert("contacts".into(), json!(self.contacts.to_json()));
        json.insert(
            "memos".into(),
            json!(
                self.memos
                    .iter()
                    .map(NumberedItem::<SalesMemo>::to_json)
                    .collect::<Vec<_>>()
            ),
        );
        json.insert(
            "status_history".into(),
            json!(self.status_history.to_json()),
        );
        json
    }
}

/// Summary line of a timeline for `step`, without personal data and texts of people.
pub(in crate::entity) fn summarize_step(step: &ProspectStep) -> String {
    match step {
        ProspectStep::Created(_) => "created".into(),
        ProspectStep::Updated { edit, .. } => summarize_edit(edit),
        ProspectStep::StatusChanged { edit, entry, .. } if edit.late.is_empty() => {
            format!("status changed to {}", entry.status)
        }
        ProspectStep::StatusChanged { entry, .. } => {
            format!("status was {} (late: not changed)", entry.status)
        }
        ProspectStep::ContactAdded {
            contact,
            takes_over: true,
            ..
        } => {
            format!("contact {} added, now primary", contact.id)
        }
        ProspectStep::ContactAdded { contact, .. } => format!("contact {} added", contact.id),
        ProspectStep::MemoAdded { memo, .. } => {
            format!("{} memo {} added", memo.item.memo_type, memo.id)
        }
    }
}

/// Lists the names of the fields set, and counts the late ones.
pub(in crate::entity) fn summarize_edit(edit: &SalesEdit) -> String {
    let names: Vec<_> = edit.set.keys().map(|member| member.as_str()).collect();
    let set = if names.is_empty() {
        "nothing changed".to_owned()
    } else {
        format!("changed {}", names.join(", "))
    };

    match edit.late.len() {
        0 => set,
        late => format!("{set}; {late} older than what was there"),
    }
}

fn decision_without_answer(step: ProspectStep, late: bool) -> ProspectDecision {
    ProspectDecision {
        step,
        late,
        answer: AnswerMembers::NONE,
    }
}

fn status_values(status: &Arc<str>) -> SalesValues {
    SalesValues::from([(SalesField::LeadStatus, SalesValue::Text(Arc::clone(status)))])
}

fn status_entry(
    status: &Arc<str>,
    remarks: Option<Arc<str>>,
    at: UnixMicros,
    who: &Arc<str>,
) -> StatusEntry {
    StatusEntry {
        status: Arc::clone(status),
        remarks,
        at,
        who: Arc::clone(who),
    }
}

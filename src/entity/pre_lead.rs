//! Pre-lead: an inquiry, open until it is discarded or converted to a lead.
//!
//! ```text
//!            ┌──discard──> discarded ─┐
//!  (open) ───┤                        ├── takes no further change
//!            └──convert──> converted ─┘
//!                  └─ the lead, with fields, contacts and memos, in the same commit
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::decision::{
    AcceptedChange, DecisionContext, EntityDecision, Rejection, SpawnedEntity, StateLimits,
    encode_change,
};
use super::lead;
use super::sales::{
    self, AnswerMembers, CONVERTED, DISCARDED, PRE_LEAD_FIELDS, ProspectDecision, ProspectState,
    ProspectStep, SalesValues,
};
use super::timed_value::UnixMicros;
use crate::event::{EntityKey, Kind};

/// Member that holds a pre-lead's id in events and answers.
const ID_MEMBER: &str = "pre_lead_id";

/// Input of a decision on a pre-lead; `who` is the system that sent the event.
#[derive(Clone, Debug, PartialEq)]
pub enum PreLeadAction {
    /// Action common to pre-leads and leads.
    Prospect(sales::ProspectAction),
    /// Closes the pre-lead without a lead.
    Discard {
        /// Reason in the words of the sender.
        reason: Option<Arc<str>>,
        /// Name of the sending system.
        who: Arc<str>,
    },
    /// Converts the pre-lead to a lead.
    Convert {
        /// Fields of the new lead, see `LEAD_TERM_FIELDS`.
        fields: SalesValues,
        /// Name of the sending system.
        who: Arc<str>,
    },
}

/// State of a pre-lead: the part common with leads, and its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreLeadState {
    prospect: ProspectState,
    end: Option<PreLeadEnd>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PreLeadEnd {
    Discarded { reason: Option<Arc<str>> },
    Converted { lead_id: u64 },
}

/// Effect of one event on a pre-lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreLeadChange {
    step: ProspectStep,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<PreLeadEnd>,
}

/// Decides on `action` for the pre-lead `state`.
///
/// # Errors
/// [`Rejection`]: 409 `already_converted` for a second conversion, 409 `closed` for every other
/// event of a pre-lead that is discarded or converted.
pub fn decide(
    state: &PreLeadState,
    action: &PreLeadAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<PreLeadChange>, Rejection> {
    state.check_not_ended(action)?;
    let accepted = match action {
        PreLeadAction::Prospect(action) => {
            let ProspectDecision {
                step,
                late,
                answer: members,
            } = state.prospect.decide(action, context);
            let answer = sales::build_answer(ID_MEMBER, context, members);
            AcceptedChange {
                late,
                answer,
                ..AcceptedChange::new(PreLeadChange { step, end: None })
            }
        }
        PreLeadAction::Discard { reason, who } => {
            let step = ProspectState::close_with_status(DISCARDED, reason.clone(), who, context);
            let change = PreLeadChange {
                step,
                end: Some(PreLeadEnd::Discarded {
                    reason: reason.clone(),
                }),
            };
            sales::accept_with_answer(
                change,
                sales::build_answer(ID_MEMBER, context, AnswerMembers::NONE),
            )
        }
        PreLeadAction::Convert { fields, who } => state.convert(fields, who, context),
    };

    Ok(EntityDecision::Accept(accepted))
}

impl PreLeadState {
    fn check_not_ended(&self, action: &PreLeadAction) -> Result<(), Rejection> {
        match (&self.end, action) {
            (None, _) => Ok(()),
            (Some(PreLeadEnd::Converted { lead_id }), PreLeadAction::Convert { .. }) => Err(
                sales::reject_already_converted("Pre-lead", "lead_id", *lead_id),
            ),
            (
                Some(PreLeadEnd::Converted { .. }),
                PreLeadAction::Prospect(_) | PreLeadAction::Discard { .. },
            ) => Err(sales::reject_closed("Pre-lead is converted")),
            (Some(PreLeadEnd::Discarded { .. }), _) => {
                Err(sales::reject_closed("Pre-lead is discarded"))
            }
        }
    }

    fn convert(
        &self,
        values: &SalesValues,
        who: &Arc<str>,
        context: &DecisionContext<'_>,
    ) -> AcceptedChange<PreLeadChange> {
        let lead_id = context.ids.allocate_id();
        let mut prospect = ProspectState {
            status_history: Default::default(),
            ..self.prospect.clone()
        };
        let edit = prospect
            .fields
            .plan_edit(values, UnixMicros::from(context.at));
        let late = !edit.late.is_empty();
        prospect.fields.apply(&edit);
        let ids = [
            ("lead_id", json!(lead_id)),
            (ID_MEMBER, sales::own_id(context)),
        ];
        let spawned = SpawnedEntity {
            key: EntityKey::from_number(Kind::Lead, lead_id),
            event_type: "lead.created",
            payload: sales::spawned_payload("new_lead", &prospect.fields, &ids),
            change: encode_change(&lead::LeadChange::from_pre_lead(prospect, context)),
            unique_key: None,
        };
        let step = ProspectState::close_with_status(CONVERTED, None, who, context);
        let change = PreLeadChange {
            step,
            end: Some(PreLeadEnd::Converted { lead_id }),
        };
        let answer = sales::build_answer(
            ID_MEMBER,
            context,
            AnswerMembers::AfterId(vec![("lead_id", json!(lead_id))]),
        );

        AcceptedChange {
            late,
            answer,
            spawned: vec![spawned],
            ..AcceptedChange::new(change)
        }
    }

    /// Copies `change` into the state.
    pub fn apply(&mut self, change: &PreLeadChange, limits: StateLimits) {
        self.prospect.apply(&change.step, limits);
        if let Some(end) = &change.end {
            self.end = Some(end.clone());
        }
    }

    /// State in the form of the API.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let (reason, lead_id) = match &self.end {
            Some(PreLeadEnd::Discarded { reason }) => (json!(reason), Json::Null),
            Some(PreLeadEnd::Converted { lead_id }) => (Json::Null, json!(lead_id)),
            None => (Json::Null, Json::Null),
        };
        let mut json = self.prospect.to_json(&PRE_LEAD_FIELDS);
        json.extend([
            ("reason".to_owned(), reason),
            ("lead_id".to_owned(), lead_id),
        ]);
        json
    }
}

/// Summary line of a timeline for `change`.
#[must_use]
pub fn summary(change: &PreLeadChange) -> String {
    match &change.end {
        None => sales::summarize_step(&change.step),
        Some(PreLeadEnd::Discarded { .. }) => "discarded".into(),
        Some(PreLeadEnd::Converted { lead_id }) => format!("converted to lead {lead_id}"),
    }
}

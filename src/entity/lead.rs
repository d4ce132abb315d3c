//! Lead: a possible customer, open until it is discarded or, once won, converted to a customer.
//!
//! ```text
//!  (open) ──discard──> discarded: takes no further change
//!    │ won
//!    └──convert──> the customer, in the same commit; the lead stays open
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::customer;
use super::decision::{
    AcceptedChange, DecisionContext, EntityDecision, Rejection, SpawnedEntity, StateLimits,
    encode_change,
};
use super::sales::{
    self, AnswerMembers, LEAD_FIELDS, LOST, NewestItems, NumberedItem, PROFILE_FIELDS,
    ProspectDecision, ProspectState, ProspectStep, SalesActivity, SalesEdit, SalesValues,
    TimedFields,
};
use super::sales::{CUSTOMER_FIELDS, WON};
use super::timed_value::UnixMicros;
use crate::event::{EntityKey, Kind};

/// Member that holds a lead's id in events and answers.
const ID_MEMBER: &str = "lead_id";

/// Input of a decision on a lead; `who` is the system that sent the event.
#[derive(Clone, Debug, PartialEq)]
pub enum LeadAction {
    /// Action common to leads and pre-leads.
    Prospect(sales::ProspectAction),
    /// Closes the lead as lost.
    Discard {
        /// Reason for which the lead is no longer followed.
        reason: Option<Arc<str>>,
        /// Reason for which the sale was lost.
        loss_reason: Option<Arc<str>>,
        /// Name of the sending system.
        who: Arc<str>,
    },
    /// Adds an activity, planned or done.
    AddActivity(SalesActivity),
    /// Creates or changes the qualified profile.
    UpdateProfile {
        /// Fields of the profile that the event sets.
        fields: SalesValues,
    },
    /// Converts the won lead to a customer.
    Convert {
        /// Unique key of the new customer; the router has claimed it for the command.
        customer_code: Arc<str>,
        /// Terms of the new customer, see `CUSTOMER_TERM_FIELDS`.
        fields: SalesValues,
    },
}

/// State of a lead: the part common with pre-leads, activities, profile, and its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeadState {
    prospect: ProspectState,
    activities: NewestItems<NumberedItem<SalesActivity>>,
    qualified_profile: Option<QualifiedProfile>,
    pre_lead_id: Option<u64>,
    customer_id: Option<u64>,
    discarded: Option<LeadDiscard>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct QualifiedProfile {
    profile_id: u64,
    fields: TimedFields,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeadDiscard {
    reason: Option<Arc<str>>,
    loss_reason: Option<Arc<str>>,
}

/// Effect of one event on a lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeadChange(LeadEffect);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LeadEffect {
    Step(ProspectStep),
    /// First change, with the state of the pre-lead.
    Born {
        prospect: Box<ProspectState>,
        pre_lead_id: Option<u64>,
    },
    ActivityAdded {
        activity: NumberedItem<SalesActivity>,
        keep: usize,
    },
    ProfileUpdated {
        profile_id: u64,
        edit: SalesEdit,
    },
    Discarded {
        step: ProspectStep,
        discarded: LeadDiscard,
    },
    Converted {
        customer_id: u64,
    },
}

impl LeadChange {
    /// First change of the lead that the deciding pre-lead is converted to.
    pub(super) fn from_pre_lead(prospect: ProspectState, context: &DecisionContext<'_>) -> Self {
        Self(LeadEffect::Born {
            prospect: Box::new(prospect),
            pre_lead_id: sales::own_id(context).as_u64(),
        })
    }
}

/// Decides on `action` for the lead `state`.
///
/// # Errors
/// [`Rejection`], the first that fits: 409 `already_converted` for a second conversion, 409
/// `closed` when the lead is discarded, and for a conversion 409 `not_won` or 409
/// `customer_code_taken`.
pub fn decide(
    state: &LeadState,
    action: &LeadAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<LeadChange>, Rejection> {
    if let (LeadAction::Convert { .. }, Some(customer_id)) = (action, state.customer_id) {
        return Err(sales::reject_already_converted(
            "Lead",
            "customer_id",
            customer_id,
        ));
    }
    if state.discarded.is_some() {
        return Err(sales::reject_closed("Lead is discarded"));
    }

    let accepted = match action {
        LeadAction::Prospect(action) => {
            let ProspectDecision {
                step,
                late,
                answer: members,
            } = state.prospect.decide(action, context);
            let answer = sales::build_answer(ID_MEMBER, context, members);
            AcceptedChange {
                late,
                answer,
                ..AcceptedChange::new(LeadEffect::Step(step))
            }
        }
        LeadAction::Discard {
            reason,
            loss_reason,
            who,
        } => {
            let remarks = loss_reason.clone().or_else(|| reason.clone());
            let step = ProspectState::close_with_status(LOST, remarks, who, context);
            let discarded = LeadDiscard {
                reason: reason.clone(),
                loss_reason: loss_reason.clone(),
            };
            sales::accept_with_answer(
                LeadEffect::Discarded { step, discarded },
                sales::build_answer(ID_MEMBER, context, AnswerMembers::NONE),
            )
        }
        LeadAction::AddActivity(activity) => {
            let id = context.ids.allocate_id();
            let activity = NumberedItem {
                id,
                at: UnixMicros::from(context.at),
                item: activity.clone(),
            };
            let effect = LeadEffect::ActivityAdded {
                activity,
                keep: context.limits.items_max,
            };
            sales::accept_with_answer(
                effect,
                sales::build_answer(
                    ID_MEMBER,
                    context,
                    AnswerMembers::AddedItem("activity_id", id),
                ),
            )
        }
        LeadAction::UpdateProfile { fields } => state.update_profile(fields, context),
        LeadAction::Convert {
            customer_code,
            fields,
        } => state.convert(customer_code, fields, context)?,
    };

    Ok(EntityDecision::Accept(accepted.map(LeadChange)))
}

impl LeadState {
    fn update_profile(
        &self,
        values: &SalesValues,
        context: &DecisionContext<'_>,
    ) -> AcceptedChange<LeadEffect> {
        let at = UnixMicros::from(context.at);
        let (profile_id, edit) = match &self.qualified_profile {
            Some(profile) => (profile.profile_id, profile.fields.plan_edit(values, at)),
            None => (
                context.ids.allocate_id(),
                TimedFields::default().plan_edit(values, at),
            ),
        };
        let late = !edit.late.is_empty();
        let answer = sales::build_answer(
            ID_MEMBER,
            context,
            AnswerMembers::AfterId(vec![("profile_id", json!(profile_id))]),
        );

        AcceptedChange {
            late,
            answer,
            ..AcceptedChange::new(LeadEffect::ProfileUpdated { profile_id, edit })
        }
    }

    fn convert(
        &self,
        customer_code: &Arc<str>,
        values: &SalesValues,
        context: &DecisionContext<'_>,
    ) -> Result<AcceptedChange<LeadEffect>, Rejection> {
        if self.prospect.status() != WON {
            return Err(Rejection::conflict(
                "not_won",
                "Only a won lead can be converted",
            ));
        }
        if !context.unique_key_is_free {
            return Err(Rejection::conflict(
                "customer_code_taken",
                "customer_code is taken by another customer",
            ));
        }

        let customer_id = context.ids.allocate_id();
        let mut fields = self.prospect.fields.restrict_to(&CUSTOMER_FIELDS);
        let edit = fields.plan_edit(values, UnixMicros::from(context.at));
        let late = !edit.late.is_empty();
        fields.apply(&edit);
        let ids = [
            ("customer_id", json!(customer_id)),
            ("customer_code", json!(customer_code)),
            (ID_MEMBER, sales::own_id(context)),
        ];
        let spawned = SpawnedEntity {
            key: EntityKey::from_number(Kind::Customer, customer_id),
            event_type: "customer.created",
            payload: sales::spawned_payload("lead_convert", &fields, &ids),
            change: encode_change(&customer::CustomerChange::from_lead(
                fields,
                Arc::clone(customer_code),
                context,
            )),
            unique_key: Some(customer_code.as_ref().to_owned()),
        };
        let members = vec![
            ("customer_id", json!(customer_id)),
            ("customer_code", json!(customer_code)),
        ];
        let answer = sales::build_answer(ID_MEMBER, context, AnswerMembers::AfterId(members));

        Ok(AcceptedChange {
            late,
            answer,
            spawned: vec![spawned],
            ..AcceptedChange::new(LeadEffect::Converted { customer_id })
        })
    }

    /// Copies `change` into the state.
    pub fn apply(&mut self, change: &LeadChange, limits: StateLimits) {
        match &change.0 {
            LeadEffect::Step(step) => self.prospect.apply(step, limits),
            LeadEffect::Born {
                prospect,
                pre_lead_id,
            } => {
                self.prospect = ProspectState::clone(prospect);
                self.pre_lead_id = *pre_lead_id;
            }
            LeadEffect::ActivityAdded { activity, keep } => {
                self.activities
                    .push(activity.clone(), (*keep).min(limits.items_max));
            }
            LeadEffect::ProfileUpdated { profile_id, edit } => {
                let new = || QualifiedProfile {
                    profile_id: *profile_id,
                    fields: TimedFields::default(),
                };
                self.qualified_profile
                    .get_or_insert_with(new)
                    .fields
                    .apply(edit);
            }
            LeadEffect::Discarded { step, discarded } => {
                self.prospect.apply(step, limits);
                self.discarded = Some(discarded.clone());
            }
            LeadEffect::Converted { customer_id } => self.customer_id = Some(*customer_id),
        }
    }

    /// State in the form of the API.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let activities: Vec<_> = self
            .activities
            .iter()
            .map(NumberedItem::<SalesActivity>::to_json)
            .collect();
        let (reason, loss_reason) = match &self.discarded {
            Some(LeadDiscard {
                reason,
                loss_reason,
            }) => (json!(reason), json!(loss_reason)),
            None => (Json::Null, Json::Null),
        };
        let mut json = self.prospect.to_json(&LEAD_FIELDS);
        let members = [
            ("activities", json!(activities)),
            (
                "qualified_profile",
                self.qualified_profile
                    .as_ref()
                    .map_or(Json::Null, QualifiedProfile::to_json),
            ),
            ("reason", reason),
            ("loss_reason", loss_reason),
            ("pre_lead_id", json!(self.pre_lead_id)),
            ("customer_id", json!(self.customer_id)),
        ];
        json.extend(members.map(|(name, value)| (name.to_owned(), value)));
        json
    }
}

impl QualifiedProfile {
    fn to_json(&self) -> Json {
        let mut json = self.fields.to_json(&PROFILE_FIELDS);
        json.insert("profile_id".into(), json!(self.profile_id));
        Json::Object(json)
    }
}

/// Summary line of a timeline for `change`.
#[must_use]
pub fn summary(change: &LeadChange) -> String {
    match &change.0 {
        LeadEffect::Step(step) => sales::summarize_step(step),
        LeadEffect::Born {
            pre_lead_id: Some(id),
            ..
        } => format!("created from pre-lead {id}"),
        LeadEffect::Born {
            pre_lead_id: None, ..
        } => "created from a pre-lead".into(),
        LeadEffect::ActivityAdded { activity, .. } => {
            format!("{} {} added", activity.item.activity_type, activity.id)
        }
        LeadEffect::ProfileUpdated { edit, .. } => {
            format!("qualified profile {}", sales::summarize_edit(edit))
        }
        LeadEffect::Discarded { .. } => "discarded".into(),
        LeadEffect::Converted { customer_id } => format!("converted to customer {customer_id}"),
    }
}

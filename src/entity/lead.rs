//! A lead: someone who may buy, followed until it is discarded or, once won, becomes a customer.
//!
//! ```text
//!  (open) ──discard──> discarded: takes no further change
//!    │ won
//!    └──convert──> the customer, in the same commit; the lead goes on
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::customer;
use super::field::Micros;
use super::sales::{
    self, Activity, Decided, Edit, Fields, Given, LEAD, LOST, Newest, Numbered, PROFILE, Prospect, Said, Step,
};
use super::sales::{CUSTOMER, WON};
use super::verdict::{Acceptance, Birth, Context, Limits, Rejection, Verdict, encode_change};
use crate::event::{EntityKey, Kind};

/// The name of a lead's id in events and answers.
const ID: &str = "lead_id";

/// What an event asks for; `who` is the system that sent it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// What pre-leads take as well.
    Prospect(sales::Action),
    /// Ends it.
    Discard {
        /// Why it is not followed any more.
        reason: Option<Arc<str>>,
        /// Why it was lost.
        loss_reason: Option<Arc<str>>,
        /// Who says so.
        who: Arc<str>,
    },
    /// Adds something done or to be done.
    AddActivity(Activity),
    /// Makes the qualified profile, or changes what it says.
    UpdateProfile {
        /// What it says now.
        fields: Given,
    },
    /// Makes a customer of it.
    Convert {
        /// What the customer is known by, claimed by the command.
        customer_code: Arc<str>,
        /// The terms.
        fields: Given,
    },
}

/// A lead's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    prospect: Prospect,
    activities: Newest<Numbered<Activity>>,
    qualified_profile: Option<Profile>,
    pre_lead_id: Option<u64>,
    customer_id: Option<u64>,
    discarded: Option<Discarded>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    profile_id: u64,
    fields: Fields,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Discarded {
    reason: Option<Arc<str>>,
    loss_reason: Option<Arc<str>>,
}

/// What one event did to a lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change(Effect);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Effect {
    Step(Step),
    /// It began with what its pre-lead was.
    Born {
        prospect: Box<Prospect>,
        pre_lead_id: Option<u64>,
    },
    ActivityAdded {
        activity: Numbered<Activity>,
        keep: usize,
    },
    ProfileUpdated {
        profile_id: u64,
        edit: Edit,
    },
    Discarded {
        step: Step,
        discarded: Discarded,
    },
    Converted {
        customer_id: u64,
    },
}

impl Change {
    /// The first change of a lead that the pre-lead deciding in `context` becomes.
    pub(super) fn born(prospect: Prospect, context: &Context<'_>) -> Self {
        Self(Effect::Born { prospect: Box::new(prospect), pre_lead_id: sales::own_id(context).as_u64() })
    }
}

/// What `action` does to the lead `state`.
///
/// # Errors
/// [`Rejection`]: 409 `already_converted` for a second conversion, 409 `closed` when it is discarded, and for a conversion 409
/// `not_won` or 409 `customer_code_taken`; the first of these that fits.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Verdict<Change>, Rejection> {
    if let (Action::Convert { .. }, Some(customer_id)) = (action, state.customer_id) {
        return Err(sales::already_converted("Lead", "customer_id", customer_id));
    }
    if state.discarded.is_some() {
        return Err(sales::closed("Lead is discarded"));
    }
    let acceptance = match action {
        Action::Prospect(action) => {
            let Decided { step, late, said } = state.prospect.decide(action, context);
            let answer = sales::answer(ID, context, said);
            Acceptance { late, answer, ..Acceptance::new(Effect::Step(step)) }
        }
        Action::Discard { reason, loss_reason, who } => {
            let remarks = loss_reason.clone().or_else(|| reason.clone());
            let step = Prospect::close(LOST, remarks, who, context);
            let discarded = Discarded { reason: reason.clone(), loss_reason: loss_reason.clone() };
            sales::accepted(Effect::Discarded { step, discarded }, sales::answer(ID, context, Said::NOTHING))
        }
        Action::AddActivity(activity) => {
            let id = context.draw.id();
            let activity = Numbered { id, at: Micros::from(context.at), item: activity.clone() };
            let effect = Effect::ActivityAdded { activity, keep: context.limits.items_max };
            sales::accepted(effect, sales::answer(ID, context, Said::Added("activity_id", id)))
        }
        Action::UpdateProfile { fields } => state.update_profile(fields, context),
        Action::Convert { customer_code, fields } => state.convert(customer_code, fields, context)?,
    };
    Ok(Verdict::Accept(acceptance.map(Change)))
}

impl State {
    fn update_profile(&self, given: &Given, context: &Context<'_>) -> Acceptance<Effect> {
        let at = Micros::from(context.at);
        let (profile_id, edit) = match &self.qualified_profile {
            Some(profile) => (profile.profile_id, profile.fields.judge(given, at)),
            None => (context.draw.id(), Fields::default().judge(given, at)),
        };
        let late = !edit.late.is_empty();
        let answer = sales::answer(ID, context, Said::Now(vec![("profile_id", json!(profile_id))]));
        Acceptance { late, answer, ..Acceptance::new(Effect::ProfileUpdated { profile_id, edit }) }
    }

    fn convert(
        &self,
        customer_code: &Arc<str>,
        given: &Given,
        context: &Context<'_>,
    ) -> Result<Acceptance<Effect>, Rejection> {
        if self.prospect.status() != WON {
            return Err(Rejection::conflict("not_won", "Only a won lead can be converted"));
        }
        if !context.code_is_free {
            return Err(Rejection::conflict("customer_code_taken", "customer_code is taken by another customer"));
        }
        let customer_id = context.draw.id();
        let mut fields = self.prospect.fields.only(&CUSTOMER);
        let edit = fields.judge(given, Micros::from(context.at));
        let late = !edit.late.is_empty();
        fields.apply(&edit);
        let ids = [
            ("customer_id", json!(customer_id)),
            ("customer_code", json!(customer_code)),
            (ID, sales::own_id(context)),
        ];
        let birth = Birth {
            key: EntityKey::numbered(Kind::Customer, customer_id),
            event_type: "customer.created",
            payload: sales::birth_payload("lead_convert", &fields, &ids),
            change: encode_change(&customer::Change::born(fields, Arc::clone(customer_code), context)),
            code: Some(customer_code.as_ref().to_owned()),
        };
        let said = vec![("customer_id", json!(customer_id)), ("customer_code", json!(customer_code))];
        let answer = sales::answer(ID, context, Said::Now(said));
        Ok(Acceptance { late, answer, births: vec![birth], ..Acceptance::new(Effect::Converted { customer_id }) })
    }

    /// Makes `change` part of the state.
    pub fn apply(&mut self, change: &Change, limits: Limits) {
        match &change.0 {
            Effect::Step(step) => self.prospect.apply(step, limits),
            Effect::Born { prospect, pre_lead_id } => {
                self.prospect = Prospect::clone(prospect);
                self.pre_lead_id = *pre_lead_id;
            }
            Effect::ActivityAdded { activity, keep } => {
                self.activities.push(activity.clone(), (*keep).min(limits.items_max));
            }
            Effect::ProfileUpdated { profile_id, edit } => {
                let new = || Profile { profile_id: *profile_id, fields: Fields::default() };
                self.qualified_profile.get_or_insert_with(new).fields.apply(edit);
            }
            Effect::Discarded { step, discarded } => {
                self.prospect.apply(step, limits);
                self.discarded = Some(discarded.clone());
            }
            Effect::Converted { customer_id } => self.customer_id = Some(*customer_id),
        }
    }

    /// The state as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let activities: Vec<_> = self.activities.iter().map(Numbered::<Activity>::to_json).collect();
        let (reason, loss_reason) = match &self.discarded {
            Some(Discarded { reason, loss_reason }) => (json!(reason), json!(loss_reason)),
            None => (Json::Null, Json::Null),
        };
        let mut shown = self.prospect.to_json(&LEAD);
        let members = [
            ("activities", json!(activities)),
            ("qualified_profile", self.qualified_profile.as_ref().map_or(Json::Null, Profile::to_json)),
            ("reason", reason),
            ("loss_reason", loss_reason),
            ("pre_lead_id", json!(self.pre_lead_id)),
            ("customer_id", json!(self.customer_id)),
        ];
        shown.extend(members.map(|(name, value)| (name.to_owned(), value)));
        shown
    }
}

impl Profile {
    fn to_json(&self) -> Json {
        let mut shown = self.fields.to_json(&PROFILE);
        shown.insert("profile_id".into(), json!(self.profile_id));
        Json::Object(shown)
    }
}

/// One plain sentence on `change`.
#[must_use]
pub fn summary(change: &Change) -> String {
    match &change.0 {
        Effect::Step(step) => sales::summary(step),
        Effect::Born { pre_lead_id: Some(id), .. } => format!("created from pre-lead {id}"),
        Effect::Born { pre_lead_id: None, .. } => "created from a pre-lead".into(),
        Effect::ActivityAdded { activity, .. } => format!("{} {} added", activity.item.activity_type, activity.id),
        Effect::ProfileUpdated { edit, .. } => format!("qualified profile {}", sales::edited(edit)),
        Effect::Discarded { .. } => "discarded".into(),
        Effect::Converted { customer_id } => format!("converted to customer {customer_id}"),
    }
}

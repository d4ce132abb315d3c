//! A pre-lead: an inquiry that is not a lead yet, and becomes one when it is converted.
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

use super::field::Micros;
use super::lead;
use super::sales::{self, CONVERTED, DISCARDED, Decided, Given, PRE_LEAD, Prospect, Said, Step};
use super::verdict::{Acceptance, Birth, Context, Limits, Rejection, Verdict, encode_change};
use crate::event::{EntityKey, Kind};

/// The name of a pre-lead's id in events and answers.
const ID: &str = "pre_lead_id";

/// What an event asks for; `who` is the system that sent it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// What leads take as well.
    Prospect(sales::Action),
    /// Ends it.
    Discard {
        /// Why.
        reason: Option<Arc<str>>,
        /// Who says so.
        who: Arc<str>,
    },
    /// Makes a lead of it.
    Convert {
        /// What is known of the lead already.
        fields: Given,
        /// Who says so.
        who: Arc<str>,
    },
}

/// A pre-lead's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    prospect: Prospect,
    end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Discarded { reason: Option<Arc<str>> },
    Converted { lead_id: u64 },
}

/// What one event did to a pre-lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    step: Step,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

/// What `action` does to the pre-lead `state`.
///
/// # Errors
/// [`Rejection`]: 409 `already_converted` for a second conversion, 409 `closed` for anything else of a pre-lead that is
/// discarded or converted.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Verdict<Change>, Rejection> {
    state.check(action)?;
    let acceptance = match action {
        Action::Prospect(action) => {
            let Decided { step, late, said } = state.prospect.decide(action, context);
            let answer = sales::answer(ID, context, said);
            Acceptance { late, answer, ..Acceptance::new(Change { step, end: None }) }
        }
        Action::Discard { reason, who } => {
            let step = Prospect::close(DISCARDED, reason.clone(), who, context);
            let change = Change { step, end: Some(End::Discarded { reason: reason.clone() }) };
            sales::accepted(change, sales::answer(ID, context, Said::NOTHING))
        }
        Action::Convert { fields, who } => state.convert(fields, who, context),
    };
    Ok(Verdict::Accept(acceptance))
}

impl State {
    fn check(&self, action: &Action) -> Result<(), Rejection> {
        match (&self.end, action) {
            (None, _) => Ok(()),
            (Some(End::Converted { lead_id }), Action::Convert { .. }) => {
                Err(sales::already_converted("Pre-lead", "lead_id", *lead_id))
            }
            (Some(End::Converted { .. }), Action::Prospect(_) | Action::Discard { .. }) => {
                Err(sales::closed("Pre-lead is converted"))
            }
            (Some(End::Discarded { .. }), _) => Err(sales::closed("Pre-lead is discarded")),
        }
    }

    fn convert(&self, given: &Given, who: &Arc<str>, context: &Context<'_>) -> Acceptance<Change> {
        let lead_id = context.draw.id();
        let mut prospect = Prospect { status_history: Default::default(), ..self.prospect.clone() };
        let edit = prospect.fields.judge(given, Micros::from(context.at));
        let late = !edit.late.is_empty();
        prospect.fields.apply(&edit);
        let ids = [("lead_id", json!(lead_id)), (ID, sales::own_id(context))];
        let birth = Birth {
            key: EntityKey::numbered(Kind::Lead, lead_id),
            event_type: "lead.created",
            payload: sales::birth_payload("new_lead", &prospect.fields, &ids),
            change: encode_change(&lead::Change::born(prospect, context)),
            code: None,
        };
        let step = Prospect::close(CONVERTED, None, who, context);
        let change = Change { step, end: Some(End::Converted { lead_id }) };
        let answer = sales::answer(ID, context, Said::Now(vec![("lead_id", json!(lead_id))]));
        Acceptance { late, answer, births: vec![birth], ..Acceptance::new(change) }
    }

    /// Makes `change` part of the state.
    pub fn apply(&mut self, change: &Change, limits: Limits) {
        self.prospect.apply(&change.step, limits);
        if let Some(end) = &change.end {
            self.end = Some(end.clone());
        }
    }

    /// The state as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        let (reason, lead_id) = match &self.end {
            Some(End::Discarded { reason }) => (json!(reason), Json::Null),
            Some(End::Converted { lead_id }) => (Json::Null, json!(lead_id)),
            None => (Json::Null, Json::Null),
        };
        let mut shown = self.prospect.to_json(&PRE_LEAD);
        shown.extend([("reason".to_owned(), reason), ("lead_id".to_owned(), lead_id)]);
        shown
    }
}

/// One plain sentence on `change`.
#[must_use]
pub fn summary(change: &Change) -> String {
    match &change.end {
        None => sales::summary(&change.step),
        Some(End::Discarded { .. }) => "discarded".into(),
        Some(End::Converted { lead_id }) => format!("converted to lead {lead_id}"),
    }
}

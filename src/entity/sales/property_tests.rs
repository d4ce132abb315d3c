//! Properties of every sequence of events of pre-leads, leads and customers, whatever their times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    BookEntry, CurrencyCode, Decimal, LEAD_FIELDS, PRE_LEAD_FIELDS, STATUSES, SalesActivity,
    SalesContact, SalesField, SalesMemo, SalesValue, SalesValues,
};
use crate::entity::decision::{
    AcceptedChange, DecisionContext, DecisionIds, EntityDecision, IdAllocator, Rejection,
    SpawnedEntity, StateLimits,
};
use crate::entity::state::{self, EntityState, replay_changes};
use crate::entity::{EntityAction, EntityChange, customer, lead, pre_lead, sales};
use crate::event::{EntityKey, InternedName, Kind, Timestamp};

/// Model of a live entity: its state, its stored changes, and the entities it spawned.
struct LiveEntityModel {
    key: EntityKey,
    state: EntityState,
    stored: Vec<Vec<u8>>,
    spawned: Vec<SpawnedEntity>,
    limits: StateLimits,
}

impl LiveEntityModel {
    fn new(kind: Kind, limits: StateLimits) -> Self {
        let key = EntityKey::from_number(kind, 7);
        Self {
            key,
            state: EntityState::new(kind),
            stored: Vec::new(),
            spawned: Vec::new(),
            limits,
        }
    }

    fn from_spawned(spawned: &SpawnedEntity, limits: StateLimits) -> Self {
        let mut live = Self {
            key: spawned.key.clone(),
            ..Self::new(spawned.key.kind(), limits)
        };
        live.apply(&EntityChange::from_spawned(spawned));
        live
    }

    fn apply(&mut self, change: &EntityChange) {
        self.state.apply(change, self.limits);
        self.stored.push(change.encode());
    }

    fn decide_and_apply(
        &mut self,
        ids: &IdAllocator,
        at: Timestamp,
        action: &EntityAction,
    ) -> Result<EntityDecision<EntityChange>, Rejection> {
        let context = DecisionContext {
            key: &self.key,
            source: InternedName::from_static("test"),
            at,
            received_at: at,
            unique_key_is_free: true,
            limits: self.limits,
            ids: DecisionIds::new(ids),
        };
        let decision = self.state.decide(action, &context)?;
        if let EntityDecision::Accept(AcceptedChange {
            change, spawned, ..
        }) = &decision
        {
            self.apply(change);
            self.spawned.extend(spawned.iter().cloned());
        }
        Ok(decision)
    }

    fn shown(&self) -> Json {
        self.state.to_json()
    }

    /// Replays the stored changes, with a snapshot after `cut` of them, and compares the states.
    fn check_replay(&self, cut: usize) -> Result<(), TestCaseError> {
        let kind = self.key.kind();
        let (before, after) = self.stored.split_at(cut % (self.stored.len() + 1));
        let early = replay_changes(kind, None, before.iter().map(Vec::as_slice), self.limits)
            .expect("readable");
        let later = after.iter().map(Vec::as_slice);
        let restored =
            replay_changes(kind, Some(&early.to_snapshot()), later, self.limits).expect("readable");
        prop_assert_eq!(&restored, &self.state);
        prop_assert_eq!(restored.to_json(), self.shown());
        let summaries = self
            .stored
            .iter()
            .map(|change| state::summarize_change(kind, change));
        prop_assert!(
            summaries
                .into_iter()
                .all(|summary| !summary.is_empty() && summary != "recorded")
        );
        Ok(())
    }
}

fn any_at() -> impl Strategy<Value = Timestamp> {
    prop_oneof![8 => 0..6_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
        .prop_map(Timestamp::from_micros)
}

fn any_text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![4 => "[a-d]", 1 => any::<String>()].prop_map(Into::into)
}

fn any_amount() -> impl Strategy<Value = Decimal> {
    "[1-9][0-9]{0,8}(\\.[0-9]{1,6})?".prop_map(|text| Decimal::parse(&text).expect("a number"))
}

fn any_values(members: &'static [SalesField]) -> impl Strategy<Value = SalesValues> {
    let value = |member: SalesField| match member {
        SalesField::LeadStatus => prop::sample::select(&STATUSES[..])
            .prop_map(|status| SalesValue::Text(status.into()))
            .boxed(),
        SalesField::ExpectedValue => any_amount().prop_map(SalesValue::Money).boxed(),
        SalesField::AssignedTo => any::<u64>().prop_map(SalesValue::Number).boxed(),
        _ => any_text().prop_map(SalesValue::Text).boxed(),
    };
    let one =
        prop::sample::select(members).prop_flat_map(move |member| (Just(member), value(member)));
    prop::collection::vec(one, 0..4).prop_map(SalesValues::from_iter)
}

fn any_contact() -> impl Strategy<Value = SalesContact> {
    (any_text(), prop::option::of(any_text())).prop_map(|(first_name, last_name)| SalesContact {
        first_name,
        last_name,
        email: None,
        phone: None,
        designation: None,
        department: None,
    })
}

fn any_prospect_action(
    members: &'static [SalesField],
) -> impl Strategy<Value = sales::ProspectAction> {
    let status = || prop::sample::select(&STATUSES[..]);
    use sales::ProspectAction;
    prop_oneof![
        3 => (any_values(members), any_text())
            .prop_map(|(fields, who)| ProspectAction::Update { fields, who }),
        2 => (status(), prop::option::of(any_text()), any_text())
            .prop_map(|(lead_status, remarks, who)| {
                ProspectAction::ChangeStatus { lead_status: lead_status.into(), remarks, who }
            }),
        3 => (any_contact(), any::<bool>())
            .prop_map(|(contact, is_primary)| ProspectAction::AddContact { contact, is_primary }),
        2 => (any_text(), prop::option::of(any_text())).prop_map(|(content, title)| {
            let memo = SalesMemo { title, content, memo_type: "call".into() };
            ProspectAction::AddMemo { memo }
        }),
    ]
}

fn any_pre_lead_action() -> impl Strategy<Value = EntityAction> {
    prop_oneof![
        20 => any_prospect_action(&PRE_LEAD_FIELDS).prop_map(pre_lead::PreLeadAction::Prospect),
        1 => (prop::option::of(any_text()), any_text())
            .prop_map(|(reason, who)| pre_lead::PreLeadAction::Discard { reason, who }),
        1 => (any_values(&super::LEAD_TERM_FIELDS), any_text())
            .prop_map(|(fields, who)| pre_lead::PreLeadAction::Convert { fields, who }),
    ]
    .prop_map(EntityAction::PreLead)
}

fn any_lead_action() -> impl Strategy<Value = EntityAction> {
    prop_oneof![
        12 => any_prospect_action(&LEAD_FIELDS).prop_map(lead::LeadAction::Prospect),
        3 => any_values(&super::PROFILE_FIELDS)
            .prop_map(|fields| lead::LeadAction::UpdateProfile { fields }),
        3 => (any_text(), prop::option::of(any_at())).prop_map(|(title, completed_at)| {
            lead::LeadAction::AddActivity(SalesActivity {
                activity_type: "call".into(),
                title,
                description: None,
                scheduled_at: None,
                completed_at,
                outcome: None,
            })
        }),
        1 => (prop::option::of(any_text()), any_text())
            .prop_map(|(loss_reason, who)| {
                lead::LeadAction::Discard { reason: None, loss_reason, who }
            }),
        2 => any_values(&super::CUSTOMER_TERM_FIELDS)
            .prop_map(|fields| lead::LeadAction::Convert { customer_code: "C-1".into(), fields }),
    ]
    .prop_map(EntityAction::Lead)
}

fn any_customer_action() -> impl Strategy<Value = EntityAction> {
    let currency = prop::sample::select(&["EUR", "USD"][..])
        .prop_map(|code| CurrencyCode::parse(code).expect("three"));
    let entry = (0..12_u8, any_amount(), currency).prop_map(|(id, amount, currency)| BookEntry {
        id: id.to_string().into(),
        amount,
        currency,
    });
    (entry, any::<bool>()).prop_map(|(entry, is_order)| {
        let event = if is_order {
            customer::CustomerEvent::Ordered(entry)
        } else {
            customer::CustomerEvent::Paid(entry)
        };
        EntityAction::Customer(customer::CustomerAction {
            customer_code: None,
            event,
        })
    })
}

fn any_events(
    action: impl Strategy<Value = EntityAction>,
) -> impl Strategy<Value = Vec<(Timestamp, EntityAction)>> {
    prop::collection::vec((any_at(), action), 0..60)
}

fn any_limits() -> impl Strategy<Value = StateLimits> {
    (0..5_usize).prop_map(|items_max| StateLimits { items_max })
}

fn check_collections(shown: &Json, limits: StateLimits) -> Result<(), TestCaseError> {
    for list in ["contacts", "memos", "activities", "status_history"] {
        prop_assert!(
            shown[list]
                .as_array()
                .is_none_or(|items| items.len() <= limits.items_max),
            "{}",
            list
        );
    }
    let contacts = shown["contacts"].as_array().expect("a list");
    prop_assert!(
        contacts
            .iter()
            .filter(|contact| contact["is_primary"] == true)
            .count()
            <= 1
    );
    let ids: BTreeSet<_> = contacts
        .iter()
        .filter_map(|contact| contact["contact_id"].as_u64())
        .collect();
    prop_assert_eq!(ids.len(), contacts.len(), "an id twice");
    Ok(())
}

proptest! {
    #[test]
    fn a_pre_lead_and_the_lead_it_becomes_are_what_their_changes_make(
        events in any_events(any_pre_lead_action()),
        more in any_events(any_lead_action()),
        limits in any_limits(),
        cut in any::<usize>(),
    ) {
        let ids = IdAllocator::starting_after(100);
        let mut pre_lead = LiveEntityModel::new(Kind::PreLead, limits);
        for (at, action) in &events {
            let before = pre_lead.shown();
            let closed =
                before["lead_status"] == "discarded" || before["lead_status"] == "converted";
            let decision = pre_lead.decide_and_apply(&ids, *at, action);
            prop_assert_eq!(
                decision.is_err(),
                closed,
                "only the closed ones refuse, and they refuse everything"
            );
            if closed {
                prop_assert_eq!(pre_lead.shown(), before);
            }
        }
        pre_lead.check_replay(cut)?;
        check_collections(&pre_lead.shown(), limits)?;
        prop_assert_eq!(
            pre_lead.spawned.len(),
            usize::from(!pre_lead.shown()["lead_id"].is_null())
        );
        for spawned in &pre_lead.spawned {
            let mut lead = LiveEntityModel::from_spawned(spawned, limits);
            let (was, is) = (pre_lead.shown(), lead.shown());
            prop_assert_eq!(&is["contacts"], &was["contacts"]);
            prop_assert_eq!(&is["memos"], &was["memos"]);
            prop_assert_eq!(&is["pre_lead_id"], &json!(7));
            for (at, action) in &more {
                let _ = lead.decide_and_apply(&ids, *at, action);
            }
            lead.check_replay(cut)?;
        }
    }

    #[test]
    fn a_lead_is_what_its_changes_make_and_ends_once(
        events in any_events(any_lead_action()),
        limits in any_limits(),
        cut in any::<usize>(),
    ) {
        let ids = IdAllocator::starting_after(100);
        let mut lead = LiveEntityModel::new(Kind::Lead, limits);
        let mut profiles = BTreeSet::new();
        for (at, action) in &events {
            let _ = lead.decide_and_apply(&ids, *at, action);
            profiles.extend(lead.shown()["qualified_profile"]["profile_id"].as_u64());
        }
        lead.check_replay(cut)?;
        check_collections(&lead.shown(), limits)?;
        prop_assert!(
            profiles.len() <= 1,
            "a lead has one profile: {:?}",
            profiles
        );
        prop_assert_eq!(
            lead.spawned.len(),
            usize::from(!lead.shown()["customer_id"].is_null())
        );
        for spawned in &lead.spawned {
            prop_assert_eq!(spawned.unique_key.as_deref(), Some("C-1"));
            LiveEntityModel::from_spawned(spawned, limits).check_replay(0)?;
        }
    }

    #[test]
    fn each_order_and_payment_counts_once(
        events in any_events(any_customer_action()),
        cut in any::<usize>(),
    ) {
        let (ids, limits) = (
            IdAllocator::starting_after(100),
            StateLimits { items_max: 3 },
        );
        let mut customer = LiveEntityModel::new(Kind::Customer, limits);
        let mut sums: [BTreeMap<String, (u32, i128)>; 2] = Default::default();
        let mut seen = BTreeSet::new();
        for (at, action) in &events {
            let EntityAction::Customer(customer::CustomerAction { event, .. }) = action else {
                panic!("of a customer")
            };
            let (book, entry) = match event {
                customer::CustomerEvent::Ordered(entry) => (0, entry),
                customer::CustomerEvent::Paid(entry) => (1, entry),
            };
            let decision = customer.decide_and_apply(&ids, *at, action).expect("small");
            let is_new = seen.insert((book, entry.id.clone()));
            prop_assert_eq!(matches!(decision, EntityDecision::Accept(_)), is_new);
            if is_new {
                let sum = sums[book].entry(entry.currency.to_string()).or_default();
                *sum = (sum.0 + 1, sum.1 + millionths(&entry.amount.to_string()));
            }
        }
        customer.check_replay(cut)?;
        let shown = customer.shown();
        for (book, name) in [(0, "order_total"), (1, "paid_total")] {
            let totals: BTreeMap<_, _> = shown[name]
                .as_object()
                .expect("an object")
                .iter()
                .map(|(currency, total)| {
                    (currency.clone(), millionths(total.as_str().expect("text")))
                })
                .collect();
            let expected: BTreeMap<_, _> = sums[book]
                .iter()
                .map(|(currency, sum)| (currency.clone(), sum.1))
                .collect();
            prop_assert_eq!(totals, expected);
        }
        for (currency, balance) in shown["balance"].as_object().expect("an object") {
            let sum = |book: usize| sums[book].get(currency).map_or(0, |sum| sum.1);
            prop_assert_eq!(millionths(balance.as_str().expect("text")), sum(0) - sum(1));
        }
        let count = |book: usize| sums[book].values().map(|sum| sum.0).sum::<u32>();
        prop_assert_eq!(&shown["order_count"], &json!(count(0)));
        prop_assert_eq!(&shown["payment_count"], &json!(count(1)));
    }

    #[test]
    fn of_two_updates_the_newer_one_wins_in_either_order(
        older in any_values(&LEAD_FIELDS),
        newer in any_values(&LEAD_FIELDS),
        first in 1..1_000_i64,
        gap in 1..1_000_i64,
    ) {
        let limits = StateLimits { items_max: 5 };
        let update = |fields: &SalesValues| {
            EntityAction::Lead(lead::LeadAction::Prospect(sales::ProspectAction::Update {
                fields: fields.clone(),
                who: "crm".into(),
            }))
        };
        let at = Timestamp::from_micros;
        let events = [
            (at(first), update(&older)),
            (at(first + gap), update(&newer)),
        ];
        let after = |order: [usize; 2]| {
            let mut lead = LiveEntityModel::new(Kind::Lead, limits);
            for index in order {
                lead.decide_and_apply(
                    &IdAllocator::starting_after(100),
                    events[index].0,
                    &events[index].1,
                )
                .expect("taken");
            }
            lead.state
        };
        prop_assert_eq!(after([0, 1]), after([1, 0]));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        for kind in [Kind::PreLead, Kind::Lead, Kind::Customer] {
            let limits = StateLimits { items_max: 4 };
            let _ = replay_changes(kind, Some(&bytes), std::iter::empty(), limits);
            let _ = replay_changes(kind, None, std::iter::once(bytes.as_slice()), limits);
            let _ = state::summarize_change(kind, &bytes);
        }
    }
}

/// Amount of at most 6 digits after the point as a whole number: another arithmetic than the tested
/// one.
fn millionths(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<6}").parse().expect("digits")
}

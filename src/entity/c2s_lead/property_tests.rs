//! Properties of every sequence of events of a Contact2Sale lead, whatever their times.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entity::state::replay_changes;
use crate::entity::state::tests::decide_within;
use crate::entity::{self, EntityState, StateLimits};
use crate::event::Kind;

fn any_fields() -> impl Strategy<Value = Vec<(String, JsonText)>> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<String>().prop_map(|t| json!({ "t": t }))
    ];
    let value = value.prop_map(|value| serde_json::from_value(value).expect("any value"));
    prop::collection::vec(("[a-e]", value), 0..4)
}

fn any_found() -> impl Strategy<Value = Option<JsonText>> {
    prop::option::of(
        (0..9_u8).prop_map(|n| serde_json::from_value(json!({ "n": n })).expect("any value")),
    )
}

fn any_action() -> impl Strategy<Value = C2sLeadAction> {
    let at = || (0..12_i64).prop_map(Timestamp::from_micros);
    prop_oneof![
        4 => (at(), prop::option::of("[a-z.]{0,80}"), any_fields())
            .prop_map(|(updated_at, hook_action, fields)| {
                C2sLeadAction::Received { updated_at, hook_action, fields }
            }),
        1 => (at(), any_found())
            .prop_map(|(of, enriched)| C2sLeadAction::Enriched { of, enriched }),
        1 => (at(), any_found()).prop_map(|(of, enriched)| {
            C2sLeadAction::Failed { of, step: "person".into(), enriched }
        }),
        1 => Just(C2sLeadAction::Reopened),
    ]
}

/// Returns the live state after `actions`, the stored change of each accepted action, and the
/// applied times.
fn live(
    actions: &[C2sLeadAction],
    limits: StateLimits,
) -> (EntityState, Vec<Vec<u8>>, Vec<Timestamp>) {
    let mut lead = EntityState::new(Kind::C2sLead);
    let (mut stored, mut applied) = (Vec::new(), Vec::new());
    for action in actions {
        let at = match action {
            // A time after 9 is too far ahead and counts as 9.
            C2sLeadAction::Received { updated_at, .. } => {
                (*updated_at).min(Timestamp::from_micros(9))
            }
            C2sLeadAction::Enriched { of, .. } | C2sLeadAction::Failed { of, .. } => *of,
            C2sLeadAction::Reopened => Timestamp::default(),
        };
        let said = decide_within(
            limits,
            &lead,
            at,
            &entity::EntityAction::C2sLead(action.clone()),
        );
        if let Ok(EntityDecision::Accept(acceptance)) = said {
            lead.apply(&acceptance.change, limits);
            stored.push(acceptance.change.encode());
            if let C2sLeadAction::Received { updated_at, .. } = action {
                applied.push(*updated_at);
            }
        }
    }
    (lead, stored, applied)
}

proptest! {
    #[test]
    fn replaying_from_any_snapshot_makes_the_live_state(
        actions in prop::collection::vec(any_action(), 0..40),
        cut in any::<prop::sample::Index>(),
        items_max in 0..5_usize,
    ) {
        let limits = StateLimits { items_max };
        let (lead, stored, _) = live(&actions, limits);
        let (before, after) = stored.split_at(cut.index(stored.len() + 1));
        let changes = |changes: &[Vec<u8>], snapshot: Option<&[u8]>| {
            replay_changes(
                Kind::C2sLead,
                snapshot,
                changes.iter().map(Vec::as_slice),
                limits,
            )
            .expect("readable")
        };
        let restored = changes(after, Some(&changes(before, None).to_snapshot()));
        prop_assert_eq!(&restored, &lead);
        prop_assert_eq!(restored.to_json(), lead.to_json());
    }

    #[test]
    fn an_instant_is_applied_once(actions in prop::collection::vec(any_action(), 0..60)) {
        let (_, _, mut applied) = live(&actions, StateLimits { items_max: 9 });
        let all = applied.len();
        applied.sort_unstable();
        applied.dedup();
        prop_assert_eq!(applied.len(), all);
    }

    #[test]
    fn the_order_in_which_events_of_different_times_come_makes_no_difference(
        events in prop::collection::btree_map(0..9_i64, any_fields(), 1..6),
        seed in any::<u64>(),
    ) {
        let limits = StateLimits { items_max: 100 };
        let action = |(at, fields): (&i64, &Vec<(String, JsonText)>)| {
            let updated_at = Timestamp::from_micros(*at);
            C2sLeadAction::Received {
                updated_at,
                hook_action: None,
                fields: fields.clone(),
            }
        };
        let in_order: Vec<_> = events.iter().map(action).collect();
        let shuffled: BTreeMap<u64, C2sLeadAction> = (0_u64..)
            .zip(&in_order)
            .map(|(n, event)| ((n ^ seed).wrapping_mul(0x9e37_79b9), event.clone()))
            .collect();
        let shuffled: Vec<_> = shuffled.into_values().collect();
        prop_assume!(shuffled.len() == in_order.len());
        prop_assert_eq!(live(&shuffled, limits).0, live(&in_order, limits).0);
    }
}

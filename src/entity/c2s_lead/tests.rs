//! Effects of single events on a Contact2Sale lead.

use serde_json::json;

use super::*;
use crate::entity::state::tests::{apply_action, decide_at, decide_within};
use crate::entity::{self, EntityState, StateLimits};
use crate::event::Kind;

fn json(value: &serde_json::Value) -> JsonText {
    serde_json::from_value(value.clone()).expect("any value")
}

fn received(at: i64, fields: &serde_json::Value) -> entity::EntityAction {
    let fields = fields.as_object().expect("an object");
    let fields = fields
        .iter()
        .map(|(name, value)| (name.clone(), json(value)))
        .collect();
    let hook_action = Some("lead.updated".to_owned());
    entity::EntityAction::C2sLead(C2sLeadAction::Received {
        updated_at: Timestamp::from_micros(at),
        hook_action,
        fields,
    })
}

fn enriched(of: i64, value: Option<serde_json::Value>) -> entity::EntityAction {
    let enriched = value.as_ref().map(json);
    entity::EntityAction::C2sLead(C2sLeadAction::Enriched {
        of: Timestamp::from_micros(of),
        enriched,
    })
}

#[test]
fn the_newest_event_s_fields_count_and_a_late_one_only_fills_gaps() {
    let mut state = EntityState::new(Kind::C2sLead);
    assert!(
        !apply_action(
            &mut state,
            20,
            &received(20, &json!({"customer": {"name": "Ana"}, "a": 1}))
        )
        .late
    );
    let late = apply_action(
        &mut state,
        10,
        &received(10, &json!({"customer": {"name": "Old"}, "b": 2})),
    );
    assert!(late.late);
    assert_eq!(
        state.to_json(),
        json!({"customer": {"name": "Ana"}, "a": 1, "b": 2, "enriched": null})
    );
    assert!(
        apply_action(&mut state, 15, &received(15, &json!({"b": 3}))).late,
        "older than the newest, whatever its fields"
    );
    assert!(!apply_action(&mut state, 30, &received(30, &json!({"customer": null}))).late);
    assert_eq!(
        state.to_json(),
        json!({"customer": null, "a": 1, "b": 3, "enriched": null})
    );
}

#[test]
fn an_instant_is_applied_once_even_if_it_is_taken_for_another_time() {
    let mut state = EntityState::new(Kind::C2sLead);
    // Sent as 900, too far ahead of the clock: it counts as received at 20.
    apply_action(&mut state, 20, &received(900, &json!({"a": 1})));
    assert!(matches!(
        decide_at(&state, 25, &received(900, &json!({"a": 2}))),
        Ok(EntityDecision::AlreadyApplied(None))
    ));
    assert!(!apply_action(&mut state, 30, &received(30, &json!({"a": 3}))).late);
    assert!(matches!(
        decide_at(&state, 950, &received(900, &json!({"a": 4}))),
        Ok(EntityDecision::AlreadyApplied(None))
    ));
    assert_eq!(state.to_json()["a"], 3);
}

#[test]
fn what_enrichment_finds_of_a_newer_event_stays() {
    let mut state = EntityState::new(Kind::C2sLead);
    apply_action(
        &mut state,
        10,
        &received(10, &json!({"enriched": "the sender's"})),
    );
    assert_eq!(
        state.to_json(),
        json!({"enriched": null}),
        "the name is the node's own"
    );
    apply_action(&mut state, 99, &enriched(10, None));
    assert_eq!(state.to_json()["enriched"], json!(null));
    assert!(!apply_action(&mut state, 99, &enriched(20, Some(json!({"age": 40})))).late);
    assert!(apply_action(&mut state, 99, &enriched(15, Some(json!({"age": 39})))).late);
    apply_action(&mut state, 99, &enriched(30, None));
    assert_eq!(
        state.to_json()["enriched"],
        json!({"age": 40}),
        "finding nobody takes nothing back"
    );
    let failed = C2sLeadAction::Failed {
        of: Timestamp::from_micros(40),
        step: "reply".into(),
        enriched: Some(json(&json!({"age": 41}))),
    };
    let failed = apply_action(&mut state, 99, &entity::EntityAction::C2sLead(failed));
    assert_eq!(
        state.to_json()["enriched"],
        json!({"age": 41}),
        "what was found before the step that failed"
    );
    assert_eq!(
        entity::summarize_change(Kind::C2sLead, &failed.change.encode()),
        "enrichment failed at reply"
    );
}

#[test]
fn opening_an_event_anew_changes_nothing() {
    let state = EntityState::new(Kind::C2sLead);
    assert!(matches!(
        decide_at(
            &state,
            1,
            &entity::EntityAction::C2sLead(C2sLeadAction::Reopened)
        ),
        Ok(EntityDecision::RecordOnly)
    ));
}

#[test]
fn fields_beyond_the_limit_are_left_out_and_the_first_ones_kept() {
    let mut state = EntityState::new(Kind::C2sLead);
    let limits = StateLimits { items_max: 2 };
    let fields =
        [("z", 1), ("a", 2), ("b", 3)].map(|(name, value)| (name.to_owned(), json(&json!(value))));
    let action = C2sLeadAction::Received {
        updated_at: Timestamp::from_micros(1),
        hook_action: None,
        fields: fields.into(),
    };
    let action = entity::EntityAction::C2sLead(action);
    let Ok(EntityDecision::Accept(accepted)) =
        decide_within(limits, &state, Timestamp::from_micros(1), &action)
    else {
        panic!("it is taken")
    };
    state.apply(&accepted.change, limits);
    assert_eq!(state.to_json(), json!({"z": 1, "a": 2, "enriched": null}));
    assert_eq!(
        entity::summarize_change(Kind::C2sLead, &accepted.change.encode()),
        "event received, 2 fields set"
    );
}

//! Rules of pre-leads, leads and customers, one by one.

use serde_json::{Value as Json, json};

use super::{
    BookEntry, CurrencyCode, Decimal, SalesContact, SalesField, SalesMemo, SalesValue, SalesValues,
};
use crate::entity::decision::{
    AcceptedChange, DecisionContext, DecisionIds, EntityDecision, IdAllocator, Rejection,
    StateLimits,
};
use crate::entity::state::EntityState;
use crate::entity::state::tests::{apply_action, decide_at};
use crate::entity::{EntityAction, EntityChange, customer, lead, pre_lead, sales, state};
use crate::event::{EntityKey, InternedName, Kind, Timestamp};

fn given(fields: &[(SalesField, &str)]) -> SalesValues {
    fields
        .iter()
        .map(|(member, text)| (*member, SalesValue::Text((*text).into())))
        .collect()
}

fn pre_lead(action: sales::ProspectAction) -> EntityAction {
    EntityAction::PreLead(pre_lead::PreLeadAction::Prospect(action))
}

fn lead(action: sales::ProspectAction) -> EntityAction {
    EntityAction::Lead(lead::LeadAction::Prospect(action))
}

fn update(fields: &[(SalesField, &str)]) -> sales::ProspectAction {
    sales::ProspectAction::Update {
        fields: given(fields),
        who: "crm".into(),
    }
}

fn status(status: &str) -> sales::ProspectAction {
    sales::ProspectAction::ChangeStatus {
        lead_status: status.into(),
        remarks: Some("because".into()),
        who: "crm".into(),
    }
}

fn contact(name: &str, is_primary: bool) -> sales::ProspectAction {
    let contact = SalesContact {
        first_name: name.into(),
        last_name: None,
        email: None,
        phone: None,
        designation: None,
        department: None,
    };
    sales::ProspectAction::AddContact {
        contact,
        is_primary,
    }
}

fn memo(content: &str) -> sales::ProspectAction {
    sales::ProspectAction::AddMemo {
        memo: SalesMemo {
            title: None,
            content: content.into(),
            memo_type: "call".into(),
        },
    }
}

fn discard() -> EntityAction {
    let (reason, loss_reason) = (Some("gone".into()), Some("price".into()));
    EntityAction::Lead(lead::LeadAction::Discard {
        reason,
        loss_reason,
        who: "crm".into(),
    })
}

fn convert_pre_lead(fields: SalesValues) -> EntityAction {
    EntityAction::PreLead(pre_lead::PreLeadAction::Convert {
        fields,
        who: "crm".into(),
    })
}

fn convert_lead() -> EntityAction {
    let limit = SalesValue::Money(Decimal::parse("100000.00").expect("a number"));
    let fields = SalesValues::from([(SalesField::CreditLimit, limit)]);
    EntityAction::Lead(lead::LeadAction::Convert {
        customer_code: "C-1".into(),
        fields,
    })
}

fn refused(state: &EntityState, action: &EntityAction) -> Rejection {
    decide_at(state, 99, action).expect_err("refused")
}

fn answer(state: &mut EntityState, at: i64, action: &EntityAction) -> Json {
    apply_action(state, at, action).answer.expect("an answer")
}

/// Like [`apply_action`], with ids above `highest`.
fn apply_action_after(
    highest: u64,
    state: &mut EntityState,
    at: i64,
    action: &EntityAction,
) -> AcceptedChange<EntityChange> {
    let (at, limits, ids) = (
        Timestamp::from_micros(at),
        StateLimits { items_max: 3 },
        IdAllocator::starting_after(highest),
    );
    let context = DecisionContext {
        key: &EntityKey::from_number(Kind::PreLead, 7),
        source: InternedName::from_static("test"),
        at,
        received_at: at,
        unique_key_is_free: true,
        limits,
        ids: DecisionIds::new(&ids),
    };
    let Ok(EntityDecision::Accept(accepted)) = state.decide(action, &context) else {
        panic!("accepted")
    };
    state.apply(&accepted.change, limits);
    accepted
}

#[test]
fn a_status_is_answered_with_the_one_before_and_enters_the_history() {
    let mut state = EntityState::new(Kind::Lead);
    let said = answer(&mut state, 1_000, &lead(status("qualified")));
    assert_eq!(
        said,
        json!({"lead_id": 7, "old_status": "new", "new_status": "qualified"})
    );
    apply_action(
        &mut state,
        2_000,
        &lead(update(&[(SalesField::LeadStatus, "won")])),
    );
    let shown = state.to_json();
    assert_eq!(shown["lead_status"], "won");
    let entry = |status, remarks: Json, at| json!({"status": status, "remarks": remarks, "at": at, "who": "crm"});
    let history = json!([
        entry("qualified", json!("because"), "1970-01-01T00:00:00.001Z"),
        entry("won", Json::Null, "1970-01-01T00:00:00.002Z"),
    ]);
    assert_eq!(shown["status_history"], history);
}

#[test]
fn a_late_status_stands_in_the_history_where_it_belongs_and_changes_nothing() {
    let mut state = EntityState::new(Kind::Lead);
    apply_action(&mut state, 5_000, &lead(status("won")));
    assert!(apply_action(&mut state, 4_000, &lead(status("contacted"))).late);
    let shown = state.to_json();
    assert_eq!(shown["lead_status"], "won");
    let order: Vec<_> = shown["status_history"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["status"])
        .collect();
    assert_eq!(order, ["contacted", "won"]);
}

#[test]
fn a_new_primary_contact_takes_over_unless_it_is_older() {
    let mut state = EntityState::new(Kind::PreLead);
    let primary = |state: &EntityState| {
        let contacts = state.to_json()["contacts"]
            .as_array()
            .expect("a list")
            .clone();
        contacts
            .iter()
            .filter(|c| c["is_primary"] == true)
            .map(|c| c["first_name"].clone())
            .collect::<Vec<_>>()
    };
    // [`decide_at`] always starts with the same ids, so a test with several ids allocates them
    // itself.
    let mut next = 0;
    let mut add = |state: &mut EntityState, at, name, is_primary| {
        next += 1;
        let accepted = apply_action_after(next, state, at, &pre_lead(contact(name, is_primary)));
        accepted.late
    };
    assert!(!add(&mut state, 5, "Ada", true));
    assert!(!add(&mut state, 6, "Ben", false));
    assert_eq!(primary(&state), ["Ada"]);
    assert!(!add(&mut state, 7, "Cat", true));
    assert_eq!(primary(&state), ["Cat"]);
    assert!(
        add(&mut state, 6, "Dan", true),
        "older than the one that is"
    );
    assert_eq!(primary(&state), ["Cat"]);
    assert_eq!(
        state.to_json()["contacts"].as_array().map(Vec::len),
        Some(3),
        "the newest three are kept"
    );
}

#[test]
fn a_converted_pre_lead_becomes_a_lead_with_all_it_had() {
    let mut state = EntityState::new(Kind::PreLead);
    let fields = given(&[
        (SalesField::FirstName, "John"),
        (SalesField::Notes, "old"),
        (SalesField::LeadStatus, "qualified"),
    ]);
    apply_action(
        &mut state,
        1,
        &pre_lead(sales::ProspectAction::Create { fields }),
    );
    apply_action(&mut state, 2, &pre_lead(contact("Jane", true)));
    apply_action(&mut state, 3, &pre_lead(memo("called")));
    let value = SalesValue::Money(Decimal::parse("50000.00").expect("a number"));
    let terms = [
        (SalesField::ExpectedValue, value),
        (SalesField::Notes, SalesValue::Text("new".into())),
    ];
    let accepted = apply_action(&mut state, 4, &convert_pre_lead(SalesValues::from(terms)));
    let lead_id = accepted.answer.as_ref().expect("an answer")["lead_id"]
        .as_u64()
        .expect("a number");
    let [birth] = &accepted.spawned[..] else {
        panic!("one birth")
    };
    assert_eq!(
        (birth.key.kind(), birth.key.id()),
        (Kind::Lead, lead_id.to_string().as_str())
    );
    let payload = String::from_utf8(birth.payload.to_vec()).expect("text");
    assert!(
        payload.contains(r#""expected_value":50000.00"#),
        "{payload}"
    );
    let mut born = EntityState::new(Kind::Lead);
    born.apply(
        &EntityChange::from_spawned(birth),
        StateLimits { items_max: 3 },
    );
    let shown = born.to_json();
    let expected = [
        ("first_name", json!("John")),
        ("notes", json!("new")),
        ("expected_value", json!("50000.00")),
        ("lead_status", json!("qualified")),
        ("pre_lead_id", json!(7)),
        ("status_history", json!([])),
    ];
    for (name, value) in expected {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(shown["contacts"], state.to_json()["contacts"]);
    assert_eq!(shown["memos"], state.to_json()["memos"]);
    assert_eq!(state.to_json()["lead_status"], "converted");
    let again = refused(&state, &convert_pre_lead(SalesValues::new()));
    assert_eq!(
        (again.status, again.code, again.member),
        (409, "already_converted", Some(("lead_id", lead_id)))
    );
    assert_eq!(refused(&state, &pre_lead(memo("too late"))).code, "closed");
}

#[test]
fn a_discarded_lead_is_lost_and_takes_nothing_more() {
    let mut state = EntityState::new(Kind::Lead);
    apply_action(&mut state, 9, &lead(status("won")));
    assert!(
        !apply_action(&mut state, 5, &discard()).late,
        "an end is never late"
    );
    let shown = state.to_json();
    assert_eq!(
        (&shown["lead_status"], &shown["loss_reason"]),
        (&json!("lost"), &json!("price"))
    );
    for action in [
        lead(memo("more")),
        convert_lead(),
        discard(),
        lead(update(&[])),
    ] {
        let rejection = refused(&state, &action);
        assert_eq!(
            (rejection.status, rejection.code),
            (409, "closed"),
            "{action:?}"
        );
    }
}

#[test]
fn a_lead_becomes_a_customer_once_and_only_when_won() {
    let mut state = EntityState::new(Kind::Lead);
    assert_eq!(refused(&state, &convert_lead()).code, "not_won");
    let fields = given(&[
        (SalesField::FirstName, "Robert"),
        (SalesField::LeadStatus, "won"),
    ]);
    apply_action(
        &mut state,
        1,
        &lead(sales::ProspectAction::Create { fields }),
    );
    let accepted = apply_action(&mut state, 2, &convert_lead());
    let said = accepted.answer.expect("an answer");
    assert_eq!(
        (&said["lead_id"], &said["customer_code"]),
        (&json!(7), &json!("C-1"))
    );
    let [birth] = &accepted.spawned[..] else {
        panic!("one birth")
    };
    assert_eq!(
        (birth.event_type, birth.unique_key.as_deref()),
        ("customer.created", Some("C-1"))
    );
    let mut customer = EntityState::new(Kind::Customer);
    customer.apply(
        &EntityChange::from_spawned(birth),
        StateLimits { items_max: 3 },
    );
    let shown = customer.to_json();
    assert_eq!(
        (&shown["first_name"], &shown["credit_limit"]),
        (&json!("Robert"), &json!("100000.00"))
    );
    let again = refused(&state, &convert_lead());
    assert_eq!(
        (again.code, again.member),
        (
            "already_converted",
            said["customer_id"].as_u64().map(|id| ("customer_id", id))
        )
    );
    assert!(!apply_action(&mut state, 3, &lead(memo("it goes on"))).late);
}

#[test]
fn the_profile_keeps_its_id() {
    let mut state = EntityState::new(Kind::Lead);
    let profile = |text: &str| {
        EntityAction::Lead(lead::LeadAction::UpdateProfile {
            fields: given(&[(SalesField::PainPoint, text)]),
        })
    };
    let first = answer(&mut state, 1, &profile("slow"));
    assert_eq!(answer(&mut state, 2, &profile("slower")), first);
    assert_eq!(state.to_json()["qualified_profile"]["pain_point"], "slower");
    assert_eq!(state.to_json()["qualified_profile"]["budget"], Json::Null);
}

#[test]
fn an_order_that_came_before_is_known_and_one_for_another_code_is_not_found() {
    let mut state = EntityState::new(Kind::Customer);
    let order = |id: &str, code: Option<&str>| {
        let amount = Decimal::parse("10.00").expect("a number");
        let entry = BookEntry {
            id: id.into(),
            amount,
            currency: CurrencyCode::parse("EUR").expect("three letters"),
        };
        let event = customer::CustomerEvent::Ordered(entry);
        EntityAction::Customer(customer::CustomerAction {
            customer_code: code.map(Into::into),
            event,
        })
    };
    let first = answer(&mut state, 1, &order("o-1", None));
    assert_eq!(
        decide_at(&state, 2, &order("o-1", None)),
        Ok(EntityDecision::AlreadyApplied(Some(first)))
    );
    assert_eq!(
        refused(&state, &order("o-2", Some("someone else"))).status,
        404
    );
    assert_eq!(state.to_json()["order_total"], json!({"EUR": "10.00"}));
}

#[test]
fn summaries_name_no_one_and_quote_nothing() {
    let mut state = EntityState::new(Kind::Lead);
    let fields = given(&[
        (SalesField::FirstName, "Robert"),
        (SalesField::Notes, "secret"),
    ]);
    let actions = [
        lead(sales::ProspectAction::Create { fields }),
        lead(contact("Sarah", true)),
        lead(memo("secret")),
        lead(status("won")),
        discard(),
    ];
    let said: Vec<String> = actions
        .iter()
        .zip(1..)
        .map(|(action, at)| {
            state::summarize_change(
                Kind::Lead,
                &apply_action(&mut state, at, action).change.encode(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "created",
            "contact 1001 added, now primary",
            "call memo 1001 added",
            "status changed to won",
            "discarded"
        ]
    );
}

/// Stores hold these bytes for ever: a new form needs a reader for this one.
#[test]
fn changes_are_stored_as_they_always_were() {
    let value = SalesValue::Money(Decimal::parse("50000.00").expect("a number"));
    let fields = || {
        given(&[(SalesField::FirstName, "Ada")])
            .into_iter()
            .chain([(SalesField::ExpectedValue, value.clone())])
    };
    let won = given(&[(SalesField::LeadStatus, "won")]);
    let order = BookEntry {
        id: "o-1".into(),
        amount: Decimal::parse("10.50").expect("a number"),
        currency: CurrencyCode::parse("EUR").expect("three letters"),
    };
    let order = EntityAction::Customer(customer::CustomerAction {
        customer_code: None,
        event: customer::CustomerEvent::Ordered(order),
    });
    let table = [
        (
            Kind::Lead,
            lead(sales::ProspectAction::Create {
                fields: fields().collect(),
            }),
            r#"{"step":{"created":{"at":5,"set":{"first_name":{"text":"Ada"},"expected_value":{"money":"50000.00"}}}}}"#,
        ),
        (
            Kind::Lead,
            lead(sales::ProspectAction::Update {
                fields: won,
                who: "crm".into(),
            }),
            r#"{"step":{"updated":{"edit":{"at":5,"set":{"lead_status":{"text":"won"}}},"entry":{"status":"won","at":5,"who":"crm"},"keep":3}}}"#,
        ),
        (
            Kind::PreLead,
            pre_lead(contact("Ada", true)),
            r#"{"step":{"contact_added":{"contact":{"id":1001,"at":5,"item":{"first_name":"Ada"}},"takes_over":true,"keep":3}}}"#,
        ),
        (
            Kind::PreLead,
            pre_lead(memo("m")),
            r#"{"step":{"memo_added":{"memo":{"id":1001,"at":5,"item":{"content":"m","memo_type":"call"}},"keep":3}}}"#,
        ),
        (
            Kind::PreLead,
            convert_pre_lead(SalesValues::new()),
            r#"{"step":{"status_changed":{"edit":{"at":5,"set":{"lead_status":{"text":"converted"}}},"entry":{"status":"converted","at":5,"who":"crm"},"keep":3}},"end":{"converted":{"lead_id":1001}}}"#,
        ),
        (
            Kind::Lead,
            discard(),
            r#"{"discarded":{"step":{"status_changed":{"edit":{"at":5,"set":{"lead_status":{"text":"lost"}}},"entry":{"status":"lost","remarks":"price","at":5,"who":"crm"},"keep":3}},"discarded":{"reason":"gone","loss_reason":"price"}}}"#,
        ),
        (
            Kind::Customer,
            order,
            r#"{"ordered":{"entry":{"id":"o-1","amount":"10.50","currency":"EUR"},"at":5,"total":"10.50","late":false}}"#,
        ),
    ];
    for (kind, action, stored) in table {
        let change = apply_action(&mut EntityState::new(kind), 5, &action).change;
        assert_eq!(String::from_utf8(change.encode()).expect("JSON"), stored);
        assert_eq!(
            EntityChange::decode(kind, stored.as_bytes()).expect("readable"),
            change
        );
    }
}

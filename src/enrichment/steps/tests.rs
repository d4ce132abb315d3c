//! Tests of the order of steps and of the parsing of answers.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Secret, TextTemplate};
use crate::damaged_samples::{CHEAP, damage_cases, damaged};

const CPF: &str = "529.982.247-25";

fn config(lookup: &str, reply: bool) -> config::EnrichmentConfig {
    let template = |text: &str| TextTemplate::parse(text, |_| true).expect("balanced");
    config::EnrichmentConfig {
        enabled: true,
        lookup_url: (!lookup.is_empty()).then(|| template(lookup)),
        person_url: template("http://p/{cpf}"),
        reply_url: reply.then(|| "http://r/".to_owned()),
        key_header: "x-key".into(),
        key: Secret::new("k"),
        timeout: Duration::from_secs(1),
        retry_schedule: Vec::new(),
        message_template: template(
            "{lead_id}: {customer.name} {cpf} {person.name} {person.tags} {person.missing.x}",
        ),
        concurrency: 1,
        breaker_failures: 1,
        breaker_open: Duration::from_secs(1),
    }
}

const LOOKUP: &str = "http://l/?email={email}&phone={phone}";

fn subject(customer: &Value) -> EnrichmentSubject {
    EnrichmentSubject::from_payload(
        json!({"lead_id": 7, "customer": customer})
            .to_string()
            .as_bytes(),
    )
}

fn url(next: NextEnrichmentStep) -> String {
    match next {
        NextEnrichmentStep::Call(StepCall { url, .. }) => url,
        NextEnrichmentStep::Resolve => "done".into(),
    }
}

#[test]
fn a_cpf_in_the_event_needs_no_lookup() {
    let config = config(LOOKUP, true);
    let mut progress = EnrichmentProgress::default();
    let next_url = |progress: &EnrichmentProgress| {
        url(next_step(
            &subject(&json!({"cpf": CPF, "email": "a@b"})),
            progress,
            &config,
        ))
    };
    assert_eq!(next_url(&progress), "http://p/52998224725");
    progress.record(EnrichmentStep::Person, "{}");
    assert_eq!(next_url(&progress), "http://r/");
    progress.record(EnrichmentStep::Reply, "");
    assert_eq!(next_url(&progress), "done");
}

/// In a URL such as `http://l/people/{email}/cpf` such values reached `http://l/cpf`.
#[test]
fn dots_that_would_change_the_url_path_are_neither_address_nor_number() {
    let config = config("http://l/people/{email}{phone}/cpf", false);
    let lookup = |customer: &Value| {
        url(next_step(
            &subject(customer),
            &EnrichmentProgress::default(),
            &config,
        ))
    };
    for nothing in [".", "..", " .. ", "ana", "-"] {
        assert_eq!(
            lookup(&json!({"email": nothing, "phone": nothing})),
            "done",
            "{nothing}"
        );
    }
    assert_eq!(
        lookup(&json!({"email": "..", "phone": "1"})),
        "http://l/people/1/cpf"
    );
    assert_eq!(
        lookup(&json!({"email": "../@", "phone": ".."})),
        "http://l/people/..%2F%40/cpf"
    );
}

#[test]
fn a_missing_cpf_is_looked_up_by_e_mail_then_by_phone() {
    let config = config(LOOKUP, true);
    let subject =
        subject(&json!({"cpf": "529.982.247-24", "email": " ana+1@b.c ", "phone": "+55 11"}));
    let mut progress = EnrichmentProgress::default();
    assert_eq!(
        url(next_step(&subject, &progress, &config)),
        "http://l/?email=ana%2B1%40b.c&phone="
    );
    progress.record(EnrichmentStep::LookupByEmail, "");
    assert_eq!(
        url(next_step(&subject, &progress, &config)),
        "http://l/?email=&phone=%2B55%2011"
    );
    let mut found = progress.clone();
    found.record(EnrichmentStep::LookupByPhone, "52998224725");
    assert_eq!(
        url(next_step(&subject, &found, &config)),
        "http://p/52998224725"
    );
    progress.record(EnrichmentStep::LookupByPhone, "");
    assert_eq!(
        (next_step(&subject, &progress, &config), progress.person()),
        (NextEnrichmentStep::Resolve, None),
        "nobody, and no message"
    );
}

#[test]
fn missing_values_are_not_looked_up() {
    let progress = EnrichmentProgress::default();
    let by = |lookup: &str, customer: Value| {
        url(next_step(
            &subject(&customer),
            &progress,
            &config(lookup, true),
        ))
    };
    assert_eq!(by(LOOKUP, json!({})), "done");
    assert_eq!(by(LOOKUP, json!({"email": " ", "phone": null})), "done");
    assert_eq!(
        by(LOOKUP, json!({"phone": 5511})),
        "http://l/?email=&phone=5511"
    );
    assert_eq!(by("", json!({"email": "a@b"})), "done");
    assert_eq!(
        by("http://l/{phone}", json!({"email": "a@b", "phone": "5"})),
        "http://l/5"
    );
    let payload =
        json!({"lead_id": 7, "attributes": {"customer": {"cpf": 52_998_224_725_u64}}}).to_string();
    let in_attributes = EnrichmentSubject::from_payload(payload.as_bytes());
    assert_eq!(
        url(next_step(&in_attributes, &progress, &config("", true))),
        "http://p/52998224725"
    );
}

#[test]
fn the_message_contains_the_known_values() {
    let config = config("", true);
    let mut progress = EnrichmentProgress::default();
    progress.record(
        EnrichmentStep::Person,
        r#"{"name": "Ana Maria", "tags": [1, 2]}"#,
    );
    let customer = json!({"cpf": CPF, "name": "Ana"});
    let NextEnrichmentStep::Call(StepCall {
        body: Some(body), ..
    }) = next_step(&subject(&customer), &progress, &config)
    else {
        panic!("a reply")
    };
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        body,
        json!({"lead_id": 7, "message": "7: Ana 52998224725 Ana Maria [1,2] "})
    );
    let mut long = config.clone();
    long.message_template = TextTemplate::parse(&"ä".repeat(40_000), |_| true).expect("balanced");
    let text = build_message(
        &subject(&customer),
        &Cpf::parse(CPF).expect("one"),
        "{}",
        &long,
    );
    assert_eq!(text.len(), MESSAGE_MAX_BYTES);
    assert_eq!(
        next_step(&subject(&customer), &progress, &self::config("", false)),
        NextEnrichmentStep::Resolve,
        "nobody to reply to"
    );
}

#[test]
fn answers_are_parsed_by_their_step() {
    let lookup = |body: &str| parse_answer(EnrichmentStep::LookupByEmail, Some(body.as_bytes()));
    assert_eq!(
        lookup(r#"{"cpf": "529.982.247-25"}"#).as_deref(),
        Ok("52998224725")
    );
    assert_eq!(
        lookup(r#"{"cpf": 52998224725}"#).as_deref(),
        Ok("52998224725")
    );
    for none in [
        "null",
        "{}",
        r#"{"cpf": null}"#,
        r#"{"cpf": "1"}"#,
        r#"{"cpf": []}"#,
    ] {
        assert_eq!(lookup(none).as_deref(), Ok(""), "{none}");
    }
    assert_eq!(
        parse_answer(EnrichmentStep::LookupByPhone, None).as_deref(),
        Ok("")
    );
    let person = |body: &str| parse_answer(EnrichmentStep::Person, Some(body.as_bytes()));
    assert_eq!(
        person(r#" {"a": 1.50} "#).as_deref(),
        Ok(r#"{"a": 1.50}"#),
        "digits are kept"
    );
    for wrong in ["", "null", "[]", "{", "text"] {
        assert_eq!(person(wrong), Err("answered no JSON object"), "{wrong}");
        assert_eq!(lookup(wrong).is_err(), wrong != "null", "{wrong}");
    }
    assert_eq!(
        parse_answer(EnrichmentStep::Person, None),
        Err("answered 404")
    );
    assert_eq!(
        parse_answer(EnrichmentStep::Reply, None),
        Err("answered 404")
    );
    assert_eq!(
        parse_answer(EnrichmentStep::Reply, Some(b"whatever")).as_deref(),
        Ok("")
    );
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_answer_of_an_enrichment_server_is_read_or_refused(
        answer in damaged(&[
            r#"{"cpf":"529.982.247-25"}"#, r#"{"name":"Ada","tags":["x",{"y":1e400}],"\ud800":null}"#, "null",
        ]),
        payload in damaged(&[format!(r#"{{"lead_id":7,"customer":{{"cpf":"{CPF}","email":"a@b","phone":5}}}}"#)]),
    ) {
        let mut progress = EnrichmentProgress::default();
        for step in [EnrichmentStep::LookupByEmail, EnrichmentStep::Person, EnrichmentStep::Reply] {
            if let Ok(result) = parse_answer(step, Some(&answer)) {
                progress.record(step, &result);
            }
        }
        let _ = next_step(&EnrichmentSubject::from_payload(&payload), &progress, &config(LOOKUP, true));
    }
}

//! Criterion benchmarks of single stages: verify, decode, decide, commit, the call log, and a
//! subscriber's lanes.
//!
//! `cargo bench --bench stages`
#![expect(
    missing_docs,
    reason = "criterion's macro makes a public function without any"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hookyard::call_log::{self, CallDirection, CallFilter, CallLog, CallLogLimits};
use hookyard::clock::SystemClock;
use hookyard::config::{self, Secret, UnknownEntityPolicy};
use hookyard::derived::DerivedStore;
use hookyard::edge::leads;
use hookyard::edge::signature::SignatureVerifier;
use hookyard::edge::support::{
    SupportRequestContext, decode_support_event, signature::sign_support_body,
};
use hookyard::edge::{crm, instagram};
use hookyard::entity::{
    DecisionContext, DecisionIds, EntityAction, EntityDecision, EntityState, IdAllocator,
    StateLimits,
};
use hookyard::event::{
    EntityKey, EventId, InternedName, Kind, Position, Record, StoreIncarnation, Timestamp,
};
use hookyard::failpoints::NoFailures;
use hookyard::journal::{
    self, DataFolder, Journal, JournalSubmission, LocalDisk, RecordDraft, SegmentJournal,
};
use hookyard::subscriber::attempt::AttemptOutcome;
use hookyard::subscriber::attempt::signing::{DeliverySigner, SigningInput};
use hookyard::subscriber::delivery::{
    DeliveryEffect, DeliveryInput, MatchedRecord, SubscriberDelivery,
};
use hookyard::subscriber::delivery_policy::{self, DeliveryPolicy, DeliveryTarget, RetryPolicy};
use hookyard::subscriber::{AttemptFailure, OutboundRecord, SubscriberId};
use hookyard::subscription::{
    self, DeliveryMode, DeliveryOrdering, Pattern, PatternIndex, SigningSecrets, SigningStyle,
    Subscription, SubscriptionSnapshot,
};
use reqwest::header::HeaderMap;

const TIMESTAMP: &str = "2025-12-04T10:30:00.000Z";

fn body() -> Bytes {
    let text = "The parcel has not arrived although it was sent ten days ago. ".repeat(5);
    let body = format!(
        r#"{{"event":"message.created","support_uid":"SUP-1042","data":{{"message_id":"m-1","text":"{text}","author":"Ada"}},"actor":{{"id":"op-7","name":"Grace"}}}}"#
    );
    body.into()
}

fn verify_and_decode(criterion: &mut Criterion) {
    let secret = Secret::new("hush");
    let (verifier, body) = (
        SignatureVerifier::new(std::slice::from_ref(&secret)),
        body(),
    );
    let signature = sign_support_body(&secret, &body, TIMESTAMP);
    let verify = || {
        verifier
            .verify(&body, TIMESTAMP.as_bytes(), signature.as_bytes())
            .expect("it is signed")
    };
    let unknown_entity = UnknownEntityPolicy::Create;
    let given = SupportRequestContext {
        idempotency_key: Some(b"k-1"),
        at: None,
        unknown_entity,
    };
    let mut group = criterion.benchmark_group("edge");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("verify", |bencher| bencher.iter(|| black_box(verify())));
    group.bench_function("verify + decode", |bencher| {
        bencher.iter(|| {
            black_box(
                decode_support_event(&verify(), given, tracing::Span::none()).expect("it is valid"),
            )
        });
    });
    group.finish();
}

/// Cost of finding the subscribers of an event that one of `count` subscriptions wants, and of
/// evaluating its filter.
fn subscriptions(criterion: &mut Criterion) {
    let at = Timestamp::from_micros(0);
    let subscription = |id: u64, events: &str| Subscription {
        delivery: DeliveryMode::Push,
        id,
        url: "https://crm.example/hook".into(),
        events: vec![Pattern::from_store(events).expect("a pattern")],
        secrets: SigningSecrets::new(Some(Secret::new("hush"))),
        state: subscription::SubscriptionState::Active,
        description: None,
        filter: None,
        transform: None,
        ordering: DeliveryOrdering::Entity,
        concurrency: None,
        signing: vec![SigningStyle::Crm, SigningStyle::Standard],
        headers: Vec::new(),
        rate_limit: None,
        timeout: None,
        retry_schedule: None,
        on_exhausted: None,
        signature_header: None,
        uid: None,
        metadata: Default::default(),
        creation: None,
        from: Position::FIRST,
        created_at: at,
        updated_at: at,
    };
    let mut record = Record::new(
        "leads",
        EntityKey::from_number(Kind::Lead, 7),
        "lead.created",
        at,
    );
    record.sequence = Some(1);
    record.payload =
        r#"{"event": "lead_create", "data": {"first_name": "Ada", "source": "email", "budget": 1.5}}"#.into();
    let mut group = criterion.benchmark_group("subscription");
    for count in [1_u64, 10_000] {
        let others = (2..=count).map(|id| subscription(id, &format!("source-{id}.*")));
        let known: SubscriptionSnapshot = others.chain([subscription(1, "lead.*")]).collect();
        let index = PatternIndex::new(&known);
        assert_eq!(index.candidates(&record), [1]);
        group.bench_function(format!("index, 1 of {count} wants it"), |bencher| {
            bencher.iter(|| black_box(index.candidates(&record)));
        });
    }
    let filter = subscription::FilterExpression::compile(r#"data.source == "email""#)
        .expect("an expression");
    let transform =
        subscription::TransformExpression::compile(r#"{"text": data.first_name + " wrote"}"#)
            .expect("an expression");
    group.bench_function("filter", |bencher| {
        bencher.iter(|| black_box(filter.admits(&record)))
    });
    group.bench_function("transform", |bencher| {
        bencher.iter(|| black_box(transform.render_body(&record)))
    });
    group.bench_function("body", |bencher| {
        bencher.iter(|| black_box(subscription::envelope::encode_envelope(&record)))
    });
    // Cost of a transform over a whole megabyte until the meter stops it.
    let items = vec!["1"; 500_000].join(",");
    record.payload = format!(r#"{{"data": [{items}]}}"#).into();
    let costly = subscription::FilterExpression::compile("data.all(x, data.all(y, x == y))")
        .expect("an expression");
    group.sample_size(10);
    group.bench_function("filter, broken off", |bencher| {
        bencher.iter(|| black_box(costly.admits(&record)))
    });
    group.finish();
}

/// Cost of decoding a call with `count` messages for Instagram, and a list of as many events for
/// the bus.
fn batches(criterion: &mut Criterion) {
    let secret = Secret::new("hush");
    let verifier = SignatureVerifier::new(std::slice::from_ref(&secret));
    let config = config::load_config(None, [("HOOKYARD_ADMIN__TOKEN", "bench-token")])
        .expect("the defaults are valid");
    let published = crm::BusEventCatalogue::new(&config.sources.crm);
    let mut group = criterion.benchmark_group("edge/batches");
    for count in [1_u64, 100] {
        let item = |n| {
            format!(
                r#"{{"sender":{{"id":"1234567890"}},"recipient":{{"id":"0987654321"}},"timestamp":1762597800000,"message":{{"mid":"m-{n}","text":"Hello! When will my order ship?"}}}}"#
            )
        };
        let items: Vec<_> = (0..count).map(item).collect();
        let call = format!(
            r#"{{"object":"instagram","entry":[{{"id":"0987654321","messaging":[{}]}}]}}"#,
            items.join(",")
        );
        let call = Bytes::from(call);
        let signature = instagram::signature::sign_instagram_body(&secret, &call);
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("instagram: verify + decode {count}"), |bencher| {
            bencher.iter(|| {
                let body = instagram::signature::verify_instagram_body(
                    &verifier,
                    &call,
                    signature.as_bytes(),
                )
                .expect("it is signed");
                black_box(
                    instagram::decode_instagram_call(&body, &tracing::Span::none())
                        .expect("it is valid"),
                )
            });
        });
        let event = Bytes::from(
            r#"{"event":"organisation.created","user_id":12,"data":{"organisation_id":51,"name":"ACME Capital","category":"Institution","country_code":"FR"}}"#,
        );
        let text = std::str::from_utf8(&event).expect("text");
        group.bench_function(format!("crm: decode {count}"), |bencher| {
            bencher.iter(|| {
                for _ in 0..count {
                    black_box(
                        crm::decode_bus_event(
                            &published,
                            &event,
                            text,
                            None,
                            tracing::Span::none(),
                        )
                        .expect("it is valid"),
                    );
                }
            });
        });
    }
    group.finish();
}

/// Cost of signing one delivery, in the two default styles and in all four.
fn sign_deliveries(criterion: &mut Criterion) {
    let body = body();
    let mut secrets = SigningSecrets::new(None);
    secrets.ensure_signing_key();
    let at = Timestamp::from_micros(1_733_308_200_000_000);
    let message = SigningInput {
        id: "evt_3f9a2c41_1042",
        event: "message.created",
        event_at: at,
        attempt_at: at,
        body: &body,
    };
    let mut group = criterion.benchmark_group("subscriber");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let usual = vec![SigningStyle::Crm, SigningStyle::Standard];
    for (name, styles) in [
        ("usual", usual),
        (
            "all",
            vec![
                SigningStyle::Crm,
                SigningStyle::Standard,
                SigningStyle::Hub,
                SigningStyle::V1a,
            ],
        ),
    ] {
        let signer = DeliverySigner::new(1, &secrets, &styles);
        group.bench_function(format!("sign, {name} styles"), |bencher| {
            bencher.iter(|| {
                let mut headers = HeaderMap::with_capacity(16);
                signer.sign(&message, &mut headers);
                black_box(headers)
            });
        });
    }
    group.finish();
}

fn decode_c2s(criterion: &mut Criterion) {
    let event = |number: u32| {
        format!(
            r#"{{"lead_id":{number},"updated_at":"2025-01-20T10:{:02}:00Z","hook_action":"lead.updated","customer":{{"name":"Ana","email":"ana@example.com","phone":"+5511999999999","cpf":"529.982.247-25"}},"attributes":{{"status":"new","source":"site"}}}}"#,
            number % 60,
        )
    };
    let mut group = criterion.benchmark_group("edge/c2s");
    for count in [1, 1_000] {
        let list: Vec<_> = (0..count).map(event).collect();
        let body = Bytes::from(if count == 1 {
            list.concat()
        } else {
            format!("[{}]", list.join(","))
        });
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("decode {count} events"), |bencher| {
            bencher.iter(|| {
                black_box(hookyard::edge::c2s::decode_c2s_request(&body).expect("it is valid"))
            });
        });
    }
    group.finish();
}

fn verify_and_decode_lead(criterion: &mut Criterion) {
    let body = Bytes::from_static(
        br#"{"event":"new_lead","source":"website","data":{"first_name":"Robert","last_name":"Johnson","email":"robert@example.com","phone":"+1234567893","company_name":"XYZ Industries","source":"referral","priority":"high","product_interest":"Enterprise Suite","requirements":"Full ERP integration needed","expected_value":100000.00,"city":"Chicago","state":"IL","country":"USA","zip_code":"60601","assigned_to":3}}"#,
    );
    let secret = Secret::new("hush");
    let verifier = SignatureVerifier::new(std::slice::from_ref(&secret));
    let signature = leads::signature::sign_lead_body(&secret, &body);
    let given = leads::LeadRequestContext {
        event: leads::LeadEvent::from_wire_name("new_lead"),
        id: None,
        new_customer_code: || None,
    };
    criterion.bench_function("edge/verify + decode a lead", |bencher| {
        bencher.iter(|| {
            let body = leads::signature::verify_lead_body(
                &verifier,
                b"",
                body.clone(),
                Some(signature.as_bytes()),
            )
            .expect("it is signed");
            black_box(leads::decode_lead_event(&body, given).expect("it is valid"))
        });
    });
}

fn decide(criterion: &mut Criterion) {
    let limits = StateLimits { items_max: 1_000 };
    let action = EntityAction::Ticket(hookyard::entity::ticket::TicketAction::StatusChanged {
        status: "open".into(),
        reason: None,
    });
    let mut state = EntityState::new(Kind::Ticket);
    let (key, ids) = (
        EntityKey::try_new(Kind::Ticket, "SUP-1").expect("valid"),
        IdAllocator::starting_after(0),
    );
    criterion.bench_function("entity/decide + apply", |bencher| {
        bencher.iter(|| {
            let at = Timestamp::from_micros(1);
            let source = InternedName::from_static("support");
            let draw = DecisionIds::new(&ids);
            let context = DecisionContext {
                key: &key,
                source,
                at,
                received_at: at,
                unique_key_is_free: true,
                limits,
                ids: draw,
            };
            let Ok(EntityDecision::Accept(accepted)) = state.decide(&action, &context) else {
                panic!("it is valid")
            };
            state.apply(&accepted.change, limits);
        });
    });
}

fn record(sequence: u64) -> RecordDraft {
    let entity = EntityKey::try_new(Kind::Ticket, &format!("SUP-{sequence}")).expect("valid");
    let record = Record {
        sequence: Some(1),
        idempotency_key: Some(sequence.to_string()),
        payload: body(),
        change: body(),
        ..Record::new(
            "support",
            entity.clone(),
            "message.created",
            Timestamp::from_micros(1),
        )
    };
    RecordDraft {
        entity,
        sequence: Some(1),
        received_at: Timestamp::from_micros(1),
        bytes: record.encode(),
    }
}

/// Cost of one commit of 1, 16 or 128 records, from the queue to the disk and back.
fn commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in("target").expect("a folder on the disk");
    let data = DataFolder::open(folder.path()).expect("opens");
    let limits = journal::JournalLimits {
        queue: 4096,
        commit_records: 1024,
        commit_bytes: 4 << 20,
        sync_interval: None,
        segment_bytes: 16 << 20,
    };
    let clock = Arc::new(SystemClock::default());
    let log = SegmentJournal::open(
        &data,
        Arc::new(LocalDisk),
        limits,
        clock,
        <_>::default(),
        None,
    )
    .expect("opens");
    let mut group = criterion.benchmark_group("journal/commit");
    let mut next = 0_u64;
    for count in [1, 16, 128] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} records"), |bencher| {
            bencher.iter_batched(
                || {
                    next += count;
                    (next - count..next).map(record).collect::<Vec<_>>()
                },
                |drafts| {
                    let (settled, wait) = std::sync::mpsc::channel();
                    let settle =
                        Box::new(move |outcome| settled.send(outcome).expect("someone waits"));
                    log.append(JournalSubmission { drafts, settle })
                        .expect("open");
                    wait.recv().expect("settled").expect("in sequence");
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    log.close();
}

const HEADERS: [(&str, &[u8]); 9] = [
    ("host", b"hooks.example.com"),
    ("user-agent", b"crm-webhooks/4.2"),
    ("accept", b"*/*"),
    ("content-type", b"application/json"),
    ("content-length", b"412"),
    ("x-crm-api-key", b"0123456789abcdef0123456789abcdef"),
    (
        "x-crm-signature",
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
    ("x-crm-timestamp", b"2025-12-04T10:30:00.000Z"),
    ("idempotency-key", b"5f0c7c9e-1d3b-4d5c-9a76-0c9f0e6d8b11"),
];

fn append_call(log: &CallLog, number: u64, direction: CallDirection) {
    let answer = format!(
        r#"{{"status":"accepted","event_id":"evt_3f9a2c41_{number}","entity":{{"kind":"ticket","id":"SUP-{}","sequence":7}}}}"#,
        number % 1000
    );
    let entry = call_log::CallEntry {
        at: Timestamp::from_micros(1_733_308_200_000_000 + 40 * number.cast_signed()),
        direction,
        source: "support",
        method: "POST",
        path: "/api/v0/crm/webhooks/support/",
        status: Some(202),
        code: None,
        duration: Duration::from_micros(1_800 + number % 700),
        client: Some([198, 51, 100, 7].into()),
        event_ids: &[EventId::new(
            StoreIncarnation::new(0x3f9a_2c41),
            Position::new(number + 1),
        )],
        body_bytes: Some(412),
        answer: Some(answer.as_bytes()),
        answer_bytes: Some(answer.len() as u64),
        attempt: None,
        event_type: None,
        next_attempt_at: None,
        warning: None,
        token: None,
    };
    log.append(&entry, HEADERS);
}

/// Cost of a row for the request that writes it, and of pages of a log with a million rows.
fn append_calls(criterion: &mut Criterion) {
    const ROWS: u64 = 1_000_000;
    const ALL: CallFilter = CallFilter {
        direction: None,
        is_successful: None,
    };
    let folder = tempfile::tempdir_in("target").expect("a folder on the disk");
    let data = DataFolder::open(folder.path()).expect("opens");
    let store = DerivedStore::open(&data, 64 << 20, Arc::new(NoFailures)).expect("opens");
    let log = CallLog::open(
        &store,
        CallLogLimits {
            rows_max: ROWS,
            refused_rows_max: 10_000,
            failed_rows_max: 10_000,
        },
    )
    .expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let settle = || runtime.block_on(log.flush()).expect("the disk works");
    let mut group = criterion.benchmark_group("exchange");
    let mut number = 0;
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("append 1000 rows", |bencher| {
        bencher.iter_batched(
            settle,
            |()| {
                for _ in 0..1_000 {
                    number += 1;
                    append_call(&log, number, CallDirection::Incoming);
                }
            },
            BatchSize::PerIteration,
        );
    });
    // A few calls have the other direction, so a page of them spans many blocks.
    for number in 0..ROWS + ROWS / 10 {
        append_call(
            &log,
            number,
            if number % 200 == 0 {
                CallDirection::Outgoing
            } else {
                CallDirection::Incoming
            },
        );
        if number % 10_000 == 0 {
            settle();
        }
    }
    settle();
    group.throughput(Throughput::Elements(100));
    let outgoing = CallFilter {
        direction: Some(CallDirection::Outgoing),
        ..ALL
    };
    for (name, filter, skipped) in [
        ("newest", ALL, 0),
        ("deep", ALL, 700_000),
        ("sparse", outgoing, 3_000),
    ] {
        group.bench_function(
            format!("page of 100 of a million rows, {name}"),
            |bencher| {
                bencher.iter(|| {
                    black_box(
                        runtime
                            .block_on(log.list_calls(filter, skipped..skipped + 100))
                            .expect("readable"),
                    )
                });
            },
        );
    }
    let page = || {
        runtime
            .block_on(log.list_deliveries("support".into(), ALL, 3_000..3_100))
            .expect("readable")
    };
    group.bench_function("page of 100 of one subscriber's deliveries", |bencher| {
        bencher.iter(|| black_box(page()))
    });
    group.finish();
    log.close();
}

/// Cost of a record from matching to settling, for a subscriber that accepts everything and for one
/// whose lanes all stop.
fn lanes(criterion: &mut Criterion) {
    const RECORDS: u64 = 1_000;
    let profile = Arc::new(delivery_policy());
    let items: Vec<_> = (0..RECORDS)
        .map(|n| delivery_item(n + 1, n % 200, 1 + n / 200))
        .collect();
    let run = |outcome: &AttemptOutcome| {
        let now = Duration::from_secs(1);
        let mut delivery = SubscriberDelivery::new(
            profile.clone(),
            Position::FIRST,
            Vec::new(),
            Duration::ZERO,
            1,
            now,
        );
        let met = items
            .iter()
            .map(|item| MatchedRecord {
                item: item.clone(),
                filter_error: None,
            })
            .collect();
        let mut effects = VecDeque::from(delivery.step(
            DeliveryInput::RecordsMatched {
                items: met,
                end: Position::new(RECORDS + 1),
            },
            now,
        ));
        while let Some(effect) = effects.pop_front() {
            if let DeliveryEffect::Attempt { attempt_id, .. } = effect {
                effects.extend(delivery.step(
                    DeliveryInput::AttemptEnded {
                        attempt_id,
                        outcome: outcome.clone(),
                    },
                    now,
                ));
            }
        }
        delivery
    };
    let failure = AttemptFailure {
        status: Some(503),
        code: "status",
        detail: String::new(),
        answer: Bytes::new(),
    };
    let failed = AttemptOutcome::TransientFailure {
        failure,
        retry_after: None,
    };
    let mut group = criterion.benchmark_group("subscriber");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, outcome) in [
        ("1000 records, accepted", AttemptOutcome::Accepted),
        ("1000 records, 200 lanes stop", failed),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(run(&outcome))));
    }
    group.finish();
}

fn delivery_item(position: u64, entity: u64, sequence: u64) -> OutboundRecord {
    let entity = EntityKey::from_number(Kind::Ticket, entity);
    let at = Timestamp::from_micros(0);
    let record = Record {
        sequence: Some(sequence),
        ..Record::new("support", entity, "status.changed", at)
    };
    OutboundRecord {
        position: Position::new(position),
        sequence,
        received_at: at,
        record: Arc::new(record),
    }
}

fn delivery_policy() -> DeliveryPolicy {
    let config = config::load_config(None, [("HOOKYARD_ADMIN__TOKEN", "bench-token")])
        .expect("the defaults are valid");
    let delivery = config.delivery;
    DeliveryPolicy {
        id: SubscriberId::AutoReply,
        target: DeliveryTarget::AutoReply,
        state: subscription::SubscriptionState::Active,
        ordering: subscription::DeliveryOrdering::Entity,
        concurrency: delivery.concurrency,
        rate_limit: None,
        timeout: delivery.timeout,
        retries: RetryPolicy {
            schedule: delivery.retry_schedule.into(),
            jitter: delivery.jitter,
            dead_letter_after: delivery.dead_letter_after,
        },
        on_exhausted: delivery.on_exhausted,
        // No breaker: every lane must stop, none wait for a probe.
        breaker: config::BreakerConfig {
            consecutive: 0,
            failure_rate: 0.0,
            ..delivery.breaker
        },
        disable_after: delivery.disable_after,
        hold: delivery.hold,
        bounds: delivery_policy::DeliveryLimits {
            window_events: delivery.window_events,
            window_bytes: delivery.window_bytes,
            stopped_lanes_max: delivery.stopped_lanes_max,
        },
    }
}

criterion_group!(
    stages,
    verify_and_decode,
    verify_and_decode_lead,
    decode_c2s,
    sign_deliveries,
    batches,
    decide,
    commit,
    append_calls,
    lanes,
    subscriptions
);
criterion_main!(stages);

//! Criterion benches of single stages: verify, decode, decide, commit.
//!
//! `cargo bench --bench stages`
#![expect(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hookyard::clock::SystemClock;
use hookyard::config::{Secret, UnknownEntity};
use hookyard::edge::support::{Given, Verifier, decode, signature::sign};
use hookyard::entity::{Action, Context, Draw, Ids, Limits, State, Verdict};
use hookyard::event::{EntityKey, Kind, Name, Record, Timestamp};
use hookyard::faults::NoFaults;
use hookyard::journal::{self, Draft, Journal, Log, Store, Submission};

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
    let (verifier, body) = (Verifier::new(std::slice::from_ref(&secret)), body());
    let signature = sign(&secret, &body, TIMESTAMP);
    let verify = || verifier.verify(&body, TIMESTAMP.as_bytes(), signature.as_bytes()).expect("it is signed");
    let unknown_entity = UnknownEntity::Create;
    let given = Given { idempotency_key: Some(b"k-1"), at: None, unknown_entity };
    let mut group = criterion.benchmark_group("edge");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("verify", |bencher| bencher.iter(|| black_box(verify())));
    group.bench_function("verify + decode", |bencher| {
        bencher.iter(|| black_box(decode(&verify(), given, tracing::Span::none()).expect("it is valid")));
    });
    group.finish();
}

fn decide(criterion: &mut Criterion) {
    let limits = Limits { items_max: 1_000 };
    let action =
        Action::Ticket(hookyard::entity::ticket::Action::StatusChanged { status: "open".into(), reason: None });
    let mut state = State::new(Kind::Ticket);
    let (key, ids) = (EntityKey::try_new(Kind::Ticket, "SUP-1").expect("valid"), Ids::after(0));
    criterion.bench_function("entity/decide + apply", |bencher| {
        bencher.iter(|| {
            let at = Timestamp::from_micros(1);
            let source = Name::from_static("support");
            let draw = Draw::new(&ids);
            let context = Context { key: &key, source, at, received_at: at, code_is_free: true, limits, draw };
            let Ok(Verdict::Accept(accepted)) = state.decide(&action, &context) else { panic!("it is valid") };
            state.apply(&accepted.change, limits);
        });
    });
}

fn record(sequence: u64) -> Draft {
    let entity = EntityKey::try_new(Kind::Ticket, &format!("SUP-{sequence}")).expect("valid");
    let record = Record {
        sequence: Some(1),
        idempotency_key: Some(sequence.to_string()),
        payload: body(),
        change: body(),
        ..Record::new("support", entity.clone(), "message.created", Timestamp::from_micros(1))
    };
    Draft { entity, sequence: Some(1), received_at: Timestamp::from_micros(1), bytes: record.encode() }
}

/// What one commit of 1, 16 or 128 records costs, from the queue to the disk and back.
fn commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in("target").expect("a folder on the disk");
    let store = Store::open(folder.path(), 64 << 20, Arc::new(NoFaults)).expect("opens");
    let limits = journal::Limits { queue: 4096, commit_records: 1024, commit_bytes: 4 << 20, sync_interval: None };
    let log = Log::open(store, limits, Arc::new(SystemClock::default())).expect("opens");
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
                    let settle = Box::new(move |outcome| settled.send(outcome).expect("someone waits"));
                    log.submit(Submission { drafts, settle }).expect("open");
                    wait.recv().expect("settled").expect("in sequence");
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    log.close();
}

criterion_group!(stages, verify_and_decode, decide, commit);
criterion_main!(stages);

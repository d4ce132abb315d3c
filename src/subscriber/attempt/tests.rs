//! Attempts against real servers: the requests sent, the outcome of each response, and addresses
//! that are never called.

mod connections;
mod credentials;
mod receiver;
mod tls_receiver;
mod tunnels;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::account::Account;
use crate::call_log::{CallFilter, CallLog, CallLogLimits};
use crate::clock::ManualClock;
use crate::config::{Secret, load_config};
use crate::derived::open_test_store;
use crate::event::{EntityKey, EventId, Kind, Position, Record, StoreIncarnation, TraceContext};
use crate::subscriber::delivery_policy::{self, DeliveryTarget, RetryPolicy};
use crate::subscription::{
    DeliveryMode, DeliveryOrdering, SigningSecrets, SigningStyle, Subscription, SubscriptionState,
};
use crate::traces::TraceSink;
use receiver::{AttemptReceiver, ReceiverAction};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Longer than any test takes.
const AMPLE: Duration = Duration::from_secs(60);
/// Timeout of an attempt whose response does not come.
const SHORT: Duration = Duration::from_millis(50);

fn subscription(url: &str) -> Subscription {
    Subscription {
        delivery: DeliveryMode::Push,
        id: 4,
        url: url.into(),
        events: Vec::new(),
        secrets: SigningSecrets::new(Some(Secret::new(SECRET))),
        state: SubscriptionState::Active,
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
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
    }
}

fn delivery(allowed: &str) -> config::DeliveryConfig {
    let keys = [
        ("HOOKYARD_ADMIN__TOKEN", "t"),
        ("HOOKYARD_DELIVERY__ALLOW_TARGETS", allowed),
    ];
    load_config(None, keys).expect("a configuration").delivery
}

fn policy(target: DeliveryTarget, timeout: Duration) -> Arc<DeliveryPolicy> {
    let config = delivery("");
    let bounds = delivery_policy::DeliveryLimits {
        window_events: 1,
        window_bytes: 1,
        stopped_lanes_max: 1,
    };
    Arc::new(DeliveryPolicy {
        id: SubscriberId::Webhook(4),
        target,
        state: SubscriptionState::Active,
        ordering: DeliveryOrdering::Entity,
        concurrency: 1,
        rate_limit: None,
        timeout,
        retries: RetryPolicy {
            schedule: Arc::default(),
            jitter: 0.0,
            dead_letter_after: AMPLE,
        },
        on_exhausted: config.on_exhausted,
        breaker: config.breaker,
        disable_after: AMPLE,
        hold: AMPLE,
        bounds,
    })
}

fn webhook(url: &str, timeout: Duration) -> Arc<DeliveryPolicy> {
    policy(
        DeliveryTarget::Webhook(Arc::new(subscription(url))),
        timeout,
    )
}

fn item() -> OutboundRecord {
    let entity = EntityKey::try_new(Kind::Ticket, "SUP-1").expect("a key");
    let at = Timestamp::parse("2025-12-04T10:30:00.123Z").expect("a time");
    let record = Record {
        sequence: Some(7),
        payload: r#"{"event":"status.changed","data":{"status":"open"}}"#.into(),
        trace: TraceContext::try_new([0xab; 16], [0xcd; 8], false),
        ..Record::new("support", entity, "status.changed", at)
    };
    OutboundRecord {
        position: Position::new(300),
        sequence: 7,
        received_at: at,
        record: Arc::new(record),
    }
}

fn sender_with(allowed: &str, lookup: ScriptedLookup) -> AttemptSender {
    sender_from_config(&delivery(allowed), lookup)
}

fn sender_from_config(config: &config::DeliveryConfig, lookup: ScriptedLookup) -> AttemptSender {
    sender_with_clock(config, lookup).0
}

fn sender_with_clock(
    config: &config::DeliveryConfig,
    lookup: ScriptedLookup,
) -> (AttemptSender, Arc<ManualClock>) {
    let clock = ManualClock::starting_at(Timestamp::parse("2025-12-04T10:30:05Z").expect("a time"));
    let clock = Arc::new(clock);
    let sender = AttemptSender::with_resolver(
        config,
        IncarnationHistory::new(StoreIncarnation::new(7)),
        Arc::clone(&clock) as Arc<dyn Clock>,
        (
            ExpressionShares::new(Arc::clone(&clock) as _),
            TraceSink::default(),
        ),
        lookup.into_resolver(),
    );
    (sender.expect("TLS"), clock)
}

/// Creates a sender that may call loopback.
fn sender() -> AttemptSender {
    sender_with("127.0.0.0/8", ScriptedLookup::default())
}

/// Results of the lookups, one after another; after the last, every lookup fails.
#[derive(Default)]
struct ScriptedLookup(Mutex<VecDeque<io::Result<Vec<IpAddr>>>>);

impl ScriptedLookup {
    fn giving(answers: &[&[[u8; 4]]]) -> Self {
        let addresses = answers.iter().map(|answer| {
            answer
                .iter()
                .map(|octets| Ok(Ipv4Addr::from(*octets).into()))
                .collect()
        });
        Self(Mutex::new(addresses.collect()))
    }

    fn into_resolver(self) -> SystemResolver {
        let resolve = move |_: &str| {
            let answer = self.0.lock().pop_front();
            answer.unwrap_or_else(|| Err(io::Error::other("no such name")))
        };
        SystemResolver::with_resolve_fn(Arc::new(resolve), LOOKUPS_MAX)
    }
}

async fn outcome(act: ReceiverAction, timeout: Duration) -> AttemptOutcome {
    let receiver = AttemptReceiver::start(&[act]).await;
    sender()
        .send_delivery(&webhook(&receiver.url(), timeout), &item(), 1)
        .await
        .outcome
}

/// Returns the kind, status and code of an outcome.
fn summary_of(outcome: &AttemptOutcome) -> (&'static str, Option<u16>, &'static str) {
    let kind = match outcome {
        AttemptOutcome::Accepted => "accepted",
        AttemptOutcome::Dropped => "dropped",
        AttemptOutcome::TransientFailure { .. } => "failed",
        AttemptOutcome::PermanentFailure { .. } => "refused",
        AttemptOutcome::Gone { .. } => "gone",
    };
    outcome.failure().map_or((kind, None, ""), |failure| {
        (kind, failure.status, failure.code)
    })
}

fn answered(status: u16) -> ReceiverAction {
    ReceiverAction::Answer(format!(
        "HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 2\r\n\r\n{{}}"
    ))
}

#[tokio::test]
async fn an_attempt_is_a_signed_post_of_the_event() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let headers = vec![
        ("X-Api-Key".to_owned(), Secret::new("k3y")),
        ("Host".to_owned(), Secret::new("evil")),
    ];
    let subscription = Subscription {
        headers,
        ..subscription(&receiver.url())
    };
    let made = sender()
        .send_delivery(
            &policy(DeliveryTarget::Webhook(Arc::new(subscription)), AMPLE),
            &item(),
            1,
        )
        .await;
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
    let requests = receiver.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").expect("a head");
    let expected = r#"{"event":"status.changed","timestamp":"2025-12-04T10:30:00.123Z","user_id":null,"data":{"status":"open"},"entity":{"kind":"ticket","id":"SUP-1","sequence":7},"late":false}"#;
    assert_eq!(body, expected);
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /hooks?token=s3cret HTTP/1.1");
    for line in [
        "content-type: application/json",
        concat!("user-agent: Hookyard/", env!("CARGO_PKG_VERSION")),
        "x-api-key: k3y",
        "webhook-id: evt_00000007_300",
        "x-entity-sequence: 7",
        "x-hookyard-hops: 1",
        "x-webhook-id: 4",
        "x-webhook-event: status.changed",
        "x-webhook-timestamp: 2025-12-04T10:30:00.123Z",
        "webhook-timestamp: 1764844205",
        &format!("host: {}", receiver.address),
    ] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    let names: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name)
        .collect();
    let others = [
        "traceparent",
        "x-webhook-signature",
        "webhook-signature",
        "content-length",
        "accept",
    ];
    assert!(
        others.iter().all(|name| names.contains(name)) && names.len() == 16,
        "{head}"
    );
}

#[tokio::test]
async fn the_signature_of_the_body_stands_where_the_subscription_wants_it() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    for signing in [
        vec![SigningStyle::Crm],
        vec![SigningStyle::Crm, SigningStyle::Hub],
    ] {
        let subscription = Subscription {
            signing,
            signature_header: Some("X-Acme-Signature".into()),
            ..subscription(&receiver.url())
        };
        let policy = policy(DeliveryTarget::Webhook(Arc::new(subscription)), AMPLE);
        sender().send_delivery(&policy, &item(), 1).await;
    }
    let requests = receiver.requests();
    let own = |request: &str| {
        let line = request
            .lines()
            .find_map(|line| line.strip_prefix("x-acme-signature: "));
        line.map(str::len)
    };
    let hex = 64;
    assert_eq!(own(&requests[0]), Some(hex));
    assert!(!requests[0].contains("x-webhook-signature"));
    assert_eq!(own(&requests[1]), Some("sha256=".len() + hex));
    assert!(requests[1].contains("x-webhook-signature") && !requests[1].contains("x-hub-"));
}

#[tokio::test]
async fn all_attempts_at_an_event_are_one_trace() {
    let receiver = AttemptReceiver::start(&[answered(500)]).await;
    let sender = sender();
    for attempt in 1..=2 {
        sender
            .send_delivery(&webhook(&receiver.url(), AMPLE), &item(), attempt)
            .await;
    }
    let trace = |request: &String| {
        request
            .lines()
            .find_map(|line| line.strip_prefix("traceparent: ").map(str::to_owned))
    };
    let traces: Vec<_> = receiver.requests().iter().filter_map(trace).collect();
    let parts: Vec<Vec<_>> = traces
        .iter()
        .map(|trace| trace.split('-').collect())
        .collect();
    let (first, second) = (&parts[0], &parts[1]);
    assert_eq!((first[0], first[3]), ("00", "00"), "{traces:?}");
    assert_eq!((first[1], second[1]), (&*"ab".repeat(16), first[1]));
    assert_eq!((first[2].len(), second[2].len()), (16, 16), "{traces:?}");
    assert!(
        first[2] != second[2] && first[2] != "cd".repeat(8),
        "{traces:?}"
    );

    let untraced = OutboundRecord {
        record: Arc::new(Record {
            trace: None,
            ..Record::clone(&item().record)
        }),
        ..item()
    };
    let policy = webhook(&receiver.url(), AMPLE);
    sender.send_delivery(&policy, &untraced, 1).await;
    assert_eq!(receiver.requests().iter().filter_map(trace).count(), 2);
}

#[tokio::test]
async fn nothing_but_2xx_is_success() {
    let table = [
        ("accepted", &[200, 201, 202, 204, 299][..]),
        (
            "failed",
            &[
                301,
                302,
                307,
                308,
                400 + 8,
                409,
                425,
                429,
                500,
                502,
                503,
                599,
            ],
        ),
        ("refused", &[400, 401, 403, 404, 405, 413, 422, 451]),
        ("gone", &[410]),
    ];
    for (kind, statuses) in table {
        for status in statuses {
            let outcome = outcome(answered(*status), AMPLE).await;
            let expected = if kind == "accepted" {
                (kind, None, "")
            } else {
                (kind, Some(*status), "status")
            };
            assert_eq!(summary_of(&outcome), expected);
        }
    }
    let ahead = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(
        outcome(ReceiverAction::Answer(ahead.into()), AMPLE).await,
        AttemptOutcome::Accepted
    );
    let switched = outcome(
        ReceiverAction::Close("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        AMPLE,
    )
    .await;
    assert_eq!(summary_of(&switched).0, "failed");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let receiver = AttemptReceiver::start(&[answered(307)]).await;
    let made = sender()
        .send_delivery(&webhook(&receiver.url(), AMPLE), &item(), 1)
        .await;
    assert_eq!(
        (summary_of(&made.outcome).1, receiver.requests().len()),
        (Some(307), 1)
    );
}

#[tokio::test]
async fn an_answer_has_to_come_to_its_end_in_time() {
    let none = outcome(ReceiverAction::Hang(""), SHORT).await;
    assert_eq!(summary_of(&none), ("failed", None, "timeout"));
    let dripping = outcome(ReceiverAction::Drip, SHORT).await;
    assert_eq!(
        summary_of(&dripping),
        ("failed", Some(200), "timeout"),
        "however alive it looks"
    );
    let half = outcome(ReceiverAction::Hang("HTTP/1.1 200 OK\r\ncontent-"), SHORT).await;
    assert_eq!(summary_of(&half), ("failed", None, "timeout"));
    let unfinished = outcome(
        ReceiverAction::Hang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
        SHORT,
    )
    .await;
    assert_eq!(summary_of(&unfinished), ("failed", Some(200), "timeout"));
    assert_eq!(unfinished.failure().expect("it failed").answer, "half");
}

#[tokio::test]
async fn a_status_that_is_no_success_needs_no_body() {
    let gone = outcome(
        ReceiverAction::Hang("HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\n"),
        SHORT,
    )
    .await;
    assert_eq!(summary_of(&gone), ("gone", Some(410), "status"));
    let busy = outcome(
        ReceiverAction::Hang("HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n"),
        SHORT,
    )
    .await;
    assert!(
        matches!(busy, AttemptOutcome::TransientFailure { retry_after: Some(after), .. } if after == Duration::from_secs(7)),
        "{busy:?}"
    );
}

#[tokio::test]
async fn what_ends_early_is_no_success() {
    for (answer, status) in [
        ("", None),
        ("HTTP/1.1 200 OK\r\ncontent-", None),
        ("no http at all\r\n\r\n", None),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            Some(200),
        ),
    ] {
        assert_eq!(
            summary_of(&outcome(ReceiverAction::Close(answer), AMPLE).await),
            ("failed", status, "broken_off"),
            "{answer}"
        );
    }
    // Without a length the end of the connection is the end of the response.
    assert_eq!(
        outcome(ReceiverAction::Close("HTTP/1.1 200 OK\r\n\r\nwhole"), AMPLE).await,
        AttemptOutcome::Accepted
    );
}

#[tokio::test]
async fn of_an_endless_answer_only_the_beginning_is_read() {
    for (status, kind) in [(200, "accepted"), (500, "failed")] {
        let receiver = AttemptReceiver::start(&[ReceiverAction::Endless(status)]).await;
        let made = sender()
            .send_delivery(&webhook(&receiver.url(), AMPLE), &item(), 1)
            .await;
        assert_eq!(summary_of(&made.outcome).0, kind);
        assert_eq!(made.call.answer().len(), 16 * 1024);
        // At most as much as the system buffers between two sockets.
        assert!(
            receiver.written() < 32 << 20,
            "{} bytes",
            receiver.written()
        );
    }
}

#[tokio::test]
async fn one_connection_serves_many_attempts() {
    let receiver = AttemptReceiver::start(&[answered(200), answered(500), answered(404)]).await;
    let (sender, policy) = (sender(), webhook(&receiver.url(), AMPLE));
    for attempt in 1..=5 {
        sender
            .clone()
            .send_delivery(&policy, &item(), attempt)
            .await;
    }
    assert_eq!((receiver.requests().len(), receiver.connections()), (5, 1));
}

/// Connections beyond what one subscriber may have were closed after each attempt: two subscribers
/// at one host cost more than twice what one does.
#[tokio::test]
async fn subscribers_at_one_host_take_no_connections_from_each_other() {
    const SUBSCRIBERS: usize = 8;
    const ROUNDS: u32 = 20;
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let sender = sender_from_config(
        &config::DeliveryConfig {
            concurrency: 1,
            ..delivery("127.0.0.0/8")
        },
        ScriptedLookup::default(),
    );
    for round in 1..=ROUNDS {
        let attempts = (0..SUBSCRIBERS).map(|_| {
            let (sender, policy) = (sender.clone(), webhook(&receiver.url(), AMPLE));
            tokio::spawn(async move { sender.send_delivery(&policy, &item(), round).await.outcome })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            assert_eq!(attempt.await.expect("no panic"), AttemptOutcome::Accepted);
        }
    }
    // A connection is perhaps not back in the pool yet when the next attempt needs one.
    assert!(
        receiver.connections() < 3 * SUBSCRIBERS,
        "{} connections",
        receiver.connections()
    );
}

#[tokio::test]
async fn where_nobody_listens_is_tried_again() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("an address");
    let made = sender()
        .send_delivery(&webhook(&format!("http://{free}/"), AMPLE), &item(), 1)
        .await;
    assert_eq!(summary_of(&made.outcome), ("failed", None, "connect"));
}

#[tokio::test]
async fn what_cannot_speak_tls_is_tried_again() {
    for act in [
        ReceiverAction::Close("HTTP/1.1 400 Bad Request\r\n\r\n"),
        ReceiverAction::Close(""),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("https://{}/", listener.local_addr().expect("an address"));
        let ReceiverAction::Close(answer) = act else {
            unreachable!("only those")
        };
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.expect("a sender");
            let _ = stream.read(&mut [0; 1024]).await;
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("the sender reads");
        });
        let made = sender()
            .send_delivery(&webhook(&url, AMPLE), &item(), 1)
            .await;
        assert_eq!(
            summary_of(&made.outcome),
            ("failed", None, "tls"),
            "{:?}",
            made.outcome
        );
        serving.await.expect("it served");
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_tried_again() {
    for names in [ScriptedLookup::default(), ScriptedLookup::giving(&[&[]])] {
        let made = sender_with("", names)
            .send_delivery(&webhook("https://crm.example/", AMPLE), &item(), 1)
            .await;
        assert_eq!(summary_of(&made.outcome), ("failed", None, "dns"));
    }
}

#[tokio::test]
async fn an_address_that_is_not_public_is_never_connected_to() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let port = receiver.address.port();
    let table = [
        (
            format!("http://127.0.0.1:{port}/"),
            ScriptedLookup::default(),
        ),
        (
            format!("http://2130706433:{port}/"),
            ScriptedLookup::default(),
        ),
        (
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            ScriptedLookup::default(),
        ),
        (
            format!("http://crm.example:{port}/"),
            ScriptedLookup::giving(&[&[[127, 0, 0, 1]]]),
        ),
        (
            format!("http://crm.example:{port}/"),
            ScriptedLookup::giving(&[&[[127, 0, 0, 1], [169, 254, 169, 254]]]),
        ),
    ];
    for (url, names) in table {
        let made = sender_with("10.0.0.0/8", names)
            .send_delivery(&webhook(&url, AMPLE), &item(), 1)
            .await;
        assert_eq!(
            summary_of(&made.outcome),
            ("refused", None, "refused_address"),
            "{url}"
        );
    }
    assert_eq!(receiver.connections(), 0);
}

/// Only the name's IPv4 address is allowed, and only there a server listens.
#[tokio::test]
async fn names_are_looked_up_by_the_system() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let clock = Arc::new(ManualClock::starting_at(Timestamp::default()));
    let sender = AttemptSender::try_new(
        &delivery("127.0.0.0/8"),
        IncarnationHistory::new(StoreIncarnation::new(7)),
        Arc::clone(&clock) as Arc<dyn Clock>,
        ExpressionShares::new(clock),
        TraceSink::default(),
    )
    .expect("TLS");
    let url = format!("http://localhost:{}/", receiver.address.port());
    let made = sender
        .send_delivery(&webhook(&url, AMPLE), &item(), 1)
        .await;
    assert_eq!(
        (made.outcome, receiver.connections()),
        (AttemptOutcome::Accepted, 1)
    );
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_ones_are_connected_to() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let url = format!("http://crm.example:{}/", receiver.address.port());
    let names = ScriptedLookup::giving(&[&[[169, 254, 169, 254], [127, 0, 0, 1]]]);
    let made = sender_with("127.0.0.0/8", names)
        .send_delivery(&webhook(&url, AMPLE), &item(), 1)
        .await;
    assert_eq!(
        (made.outcome, receiver.connections()),
        (AttemptOutcome::Accepted, 1)
    );
}

#[tokio::test]
async fn an_error_says_what_happened_and_nothing_of_the_url() {
    for (act, said) in [
        (
            ReceiverAction::Close(""),
            "connection closed before message completed",
        ),
        (
            ReceiverAction::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            "end of file before message length reached",
        ),
        (answered(500), "answered 500"),
        (ReceiverAction::Hang(""), "no response within 0.05 s"),
    ] {
        let outcome = outcome(act, SHORT).await;
        assert_eq!(outcome.failure().expect("it failed").detail, said);
    }
    let policy = webhook("https://crm.example/?token=s3cret", AMPLE);
    let failed = sender_with("", ScriptedLookup::default())
        .send_delivery(&policy, &item(), 1)
        .await
        .outcome;
    assert_eq!(
        failed.failure().expect("it failed").detail,
        "host name lookup failed: no such name"
    );
}

/// A name that is public when it is checked and private when it is used gets no request: each
/// lookup is checked, and each connection goes to an address of its own lookup.
#[tokio::test]
async fn a_name_that_changes_its_mind_gets_nothing() {
    let receiver =
        AttemptReceiver::start(&[ReceiverAction::Close("HTTP/1.1 200 OK\r\n\r\n")]).await;
    let url = format!("http://crm.example:{}/", receiver.address.port());
    let names = ScriptedLookup::giving(&[&[[127, 0, 0, 1]], &[[10, 0, 0, 1]], &[[127, 0, 0, 1]]]);
    let sender = sender_with("127.0.0.0/8", names);
    let mut codes = Vec::new();
    for attempt in 1..=4 {
        codes.push(
            summary_of(
                &sender
                    .send_delivery(&webhook(&url, AMPLE), &item(), attempt)
                    .await
                    .outcome,
            )
            .2,
        );
    }
    assert_eq!(
        codes,
        ["", "refused_address", "", "dns"],
        "one look-up for each connection"
    );
    assert_eq!(receiver.connections(), 2);
}

/// A message to the business account.
fn message() -> OutboundRecord {
    let entity = EntityKey::try_new(Kind::Conversation, "conv_1_9").expect("an id");
    let change = r#"{"at":1,"keep":9,"effect":{"message":{"sender_id":"1","message_id":"m","text":"t","message_type":"text"}}}"#;
    let record = Record {
        sequence: Some(7),
        change: change.into(),
        ..Record::new(
            "instagram",
            entity,
            "message.received",
            Timestamp::default(),
        )
    };
    OutboundRecord {
        record: Arc::new(record),
        ..item()
    }
}

fn account() -> Arc<Account> {
    Arc::new(Account {
        id: "acc_xyz789".into(),
        instagram_account_id: "0987654321".into(),
        crm_webhook_url: None,
        webhook_secret: Secret::new("It's a Secret to Everybody"),
        access_token: None,
        auto_reply: None,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        from: Position::FIRST,
    })
}

#[tokio::test]
async fn an_address_of_the_configuration_may_be_anywhere() {
    let receiver = AttemptReceiver::start(&[answered(401)]).await;
    let url = receiver.url();
    let forward = |is_checked| {
        policy(
            DeliveryTarget::Forward {
                account: account(),
                url: url.clone(),
                is_checked,
            },
            AMPLE,
        )
    };
    let sender = sender_with("", ScriptedLookup::default());
    let checked = sender.send_delivery(&forward(true), &message(), 1).await;
    assert_eq!(summary_of(&checked.outcome).2, "refused_address");
    let trusted = sender.send_delivery(&forward(false), &message(), 1).await;
    assert_eq!(
        summary_of(&trusted.outcome),
        ("refused", Some(401), "status"),
        "which is not tried again"
    );
    let requests = receiver.requests();
    for line in [
        "x-hub-signature-256: sha256=",
        "webhook-id: evt_00000007_300\r\n",
        "x-entity-sequence: 7\r\n",
    ] {
        assert!(
            requests[0].contains(line),
            "{line} is not in {}",
            requests[0]
        );
    }
    assert!(!requests[0].contains("x-webhook-"), "{}", requests[0]);
}

#[tokio::test]
async fn a_changed_definition_counts_from_the_next_attempt_on() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let sender = sender();
    for path in ["/first", "/second"] {
        sender
            .send_delivery(
                &webhook(&format!("http://{}{path}", receiver.address), AMPLE),
                &item(),
                1,
            )
            .await;
    }
    let paths: Vec<_> = receiver
        .requests()
        .iter()
        .map(|request| request[..request.find(" HTTP").expect("a head")].to_owned())
        .collect();
    assert_eq!(paths, ["POST /first", "POST /second"]);
}

/// A subscription at one of the node's own sources had delivered for ever.
#[tokio::test]
async fn an_event_that_came_by_too_many_deliveries_is_not_delivered_again() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let (sender, policy) = (sender(), webhook(&receiver.url(), AMPLE));
    let item = |hops| {
        let record = Record {
            hops,
            ..Record::clone(&item().record)
        };
        OutboundRecord {
            record: Arc::new(record),
            ..item()
        }
    };
    let made = sender.send_delivery(&policy, &item(7), 1).await;
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
    let made = sender.send_delivery(&policy, &item(8), 1).await;
    assert_eq!(
        summary_of(&made.outcome),
        ("refused", None, "too_many_hops")
    );
    let requests = receiver.requests();
    assert!(requests.len() == 1 && requests[0].contains("x-hookyard-hops: 8\r\n"));
}

#[tokio::test]
async fn a_ping_is_signed_like_an_event() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let made = sender().send_ping(&webhook(&receiver.url(), AMPLE)).await;
    assert_eq!(
        (made.outcome, made.call.status()),
        (AttemptOutcome::Accepted, Some(200))
    );
    let requests = receiver.requests();
    let body = requests[0].split_once("\r\n\r\n").expect("a head").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (&body["event"], &body["timestamp"]),
        (&"ping".into(), &"2025-12-04T10:30:05.000Z".into())
    );
    assert!(
        requests[0].contains("x-webhook-event: ping\r\n")
            && requests[0].contains("webhook-signature: v1,")
    );
}

#[tokio::test]
async fn the_call_log_is_told_of_an_attempt_and_of_no_secret() {
    let receiver = AttemptReceiver::start(&[
        answered(503),
        ReceiverAction::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
    ])
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open_test_store(folder.path());
    let log = CallLog::open(
        &store,
        CallLogLimits {
            rows_max: 100,
            refused_rows_max: 100,
            failed_rows_max: 100,
        },
    )
    .expect("opens");
    let headers = vec![("X-Tenant".to_owned(), Secret::new("k3y"))];
    let policy = policy(
        DeliveryTarget::Webhook(Arc::new(Subscription {
            headers,
            ..subscription(&receiver.url())
        })),
        AMPLE,
    );
    let (sender, next) = (sender(), Timestamp::from_micros(5));
    for attempt in [1, 2] {
        let made = sender.send_delivery(&policy, &item(), attempt).await;
        made.call
            .append_to_log(&log, (attempt == 1).then_some(next));
        assert!(!format!("{:?}", made.outcome).contains("s3cret"));
    }
    let page = log
        .list_deliveries("webhook:4".into(), CallFilter::default(), 0..9)
        .await
        .expect("readable");
    let [second, first] = &page.items[..] else {
        panic!("{page:?}")
    };
    assert_eq!(
        (first.method.as_str(), first.path.as_str(), first.status),
        (
            "POST",
            &*format!("http://{}/…", receiver.address),
            Some(503)
        ),
        "chats have their secret in the path"
    );
    assert_eq!(
        (first.code.as_deref(), first.attempt, first.next_attempt_at),
        (Some("status"), Some(1), Some(next))
    );
    assert_eq!(
        (first.event_type.as_deref(), first.answer.as_deref()),
        (Some("status.changed"), Some(&b"{}"[..]))
    );
    assert_eq!(
        first.event_ids,
        [EventId::new(StoreIncarnation::new(7), Position::new(300))]
    );
    assert!(
        !format!("{first:?}").contains("k3y")
            && first.headers.contains(&("x-tenant".into(), "…".into())),
        "{first:?}"
    );
    assert_eq!(
        (
            second.status,
            second.code.as_deref(),
            second.is_successful()
        ),
        (Some(200), Some("broken_off"), false)
    );
    log.close();
}

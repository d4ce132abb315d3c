//! Attempts at real servers: what goes out, what each answer comes to, and where nothing is sent to.

mod receiver;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use parking_lot::Mutex;

use super::resolver::{Found, Lookup};
use super::*;
use crate::account::Account;
use crate::clock::ManualClock;
use crate::config::{Secret, load};
use crate::event::{EntityKey, Kind, Position, Record};
use crate::exchange::{Bounds, Exchange, Filter};
use crate::faults::NoFaults;
use crate::journal::Store;
use crate::subscriber::profile::{self, Retries, Target};
use crate::subscription::{Ordering, Secrets, State, Style, Subscription};
use receiver::{Act, Receiver};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Longer than any test takes.
const AMPLE: Duration = Duration::from_secs(60);
/// What is waited for an answer that does not come.
const SHORT: Duration = Duration::from_millis(50);

fn subscription(url: &str) -> Subscription {
    Subscription {
        id: 4,
        url: url.into(),
        events: Vec::new(),
        secrets: Secrets::new(Some(Secret::new(SECRET))),
        state: State::Active,
        description: None,
        filter: None,
        transform: None,
        ordering: Ordering::Entity,
        concurrency: None,
        signing: vec![Style::Crm, Style::Standard],
        headers: Vec::new(),
        rate_limit: None,
        timeout: None,
        retry_schedule: None,
        on_exhausted: None,
        from: Position::FIRST,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
    }
}

fn delivery(allowed: &str) -> config::Delivery {
    let keys = [("HOOKYARD_ADMIN__TOKEN", "t"), ("HOOKYARD_DELIVERY__ALLOW_TARGETS", allowed)];
    load(None, keys).expect("a configuration").delivery
}

fn profile(target: Target, timeout: Duration) -> Profile {
    let config = delivery("");
    let bounds = profile::Bounds { window_events: 1, window_bytes: 1, stopped_lanes_max: 1, dead_letters_max: 1 };
    Profile {
        id: SubscriberId::Webhook(4),
        target,
        state: State::Active,
        ordering: Ordering::Entity,
        concurrency: 1,
        rate_limit: None,
        timeout,
        retries: Retries { schedule: Arc::default(), jitter: 0.0, dead_letter_after: AMPLE },
        on_exhausted: config.on_exhausted,
        breaker: config.breaker,
        disable_after: AMPLE,
        hold: AMPLE,
        bounds,
    }
}

fn webhook(url: &str, timeout: Duration) -> Profile {
    profile(Target::Webhook(Arc::new(subscription(url))), timeout)
}

fn item() -> Item {
    let entity = EntityKey::try_new(Kind::Ticket, "SUP-1").expect("a key");
    let at = Timestamp::parse("2025-12-04T10:30:00.123Z").expect("a time");
    let record = Record {
        sequence: Some(7),
        payload: r#"{"event":"status.changed","data":{"status":"open"}}"#.into(),
        ..Record::new("support", entity, "status.changed", at)
    };
    Item { position: Position::new(300), sequence: 7, received_at: at, record: Arc::new(record) }
}

fn caller_with(allowed: &str, lookup: impl Lookup) -> Caller {
    caller_by(&delivery(allowed), lookup)
}

fn caller_by(config: &config::Delivery, lookup: impl Lookup) -> Caller {
    let clock = ManualClock::starting_at(Timestamp::parse("2025-12-04T10:30:05Z").expect("a time"));
    Caller::with_lookup(config, Incarnation::new(7), Arc::new(clock), Arc::new(lookup)).expect("TLS")
}

/// A caller that may call loopback.
fn caller() -> Caller {
    caller_with("127.0.0.0/8", Names::default())
}

/// What each look-up gives, one after another; then nothing can be looked up.
#[derive(Default)]
struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    fn giving(answers: &[&[[u8; 4]]]) -> Self {
        let addresses =
            answers.iter().map(|answer| answer.iter().map(|octets| Ipv4Addr::from(*octets).into()).collect());
        Self(Mutex::new(addresses.collect()))
    }
}

impl Lookup for Names {
    fn find(&self, _name: &str) -> Found {
        let answer = self.0.lock().pop_front();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

async fn outcome(act: Act, timeout: Duration) -> Outcome {
    let receiver = Receiver::start(&[act]).await;
    caller().make(&webhook(&receiver.url(), timeout), &item(), 1).await.outcome
}

/// Its kind, its status and its code.
fn told(outcome: &Outcome) -> (&'static str, Option<u16>, &'static str) {
    let kind = match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Failed { .. } => "failed",
        Outcome::Refused { .. } => "refused",
        Outcome::Gone { .. } => "gone",
    };
    outcome.failure().map_or((kind, None, ""), |failure| (kind, failure.status, failure.code))
}

fn answered(status: u16) -> Act {
    Act::Answer(format!("HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 2\r\n\r\n{{}}"))
}

#[tokio::test]
async fn an_attempt_is_a_signed_post_of_the_event() {
    let receiver = Receiver::start(&[answered(200)]).await;
    let headers = vec![("X-Api-Key".to_owned(), Secret::new("k3y")), ("Host".to_owned(), Secret::new("evil"))];
    let subscription = Subscription { headers, ..subscription(&receiver.url()) };
    let made = caller().make(&profile(Target::Webhook(Arc::new(subscription)), AMPLE), &item(), 1).await;
    assert_eq!(made.outcome, Outcome::Accepted);
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
        "x-webhook-id: 4",
        "x-webhook-event: status.changed",
        "x-webhook-timestamp: 2025-12-04T10:30:00.123Z",
        "webhook-timestamp: 1764844205",
        &format!("host: {}", receiver.address),
    ] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    let names: Vec<_> = lines.iter().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let others = ["traceparent", "x-webhook-signature", "webhook-signature", "content-length", "accept"];
    assert!(others.iter().all(|name| names.contains(name)) && names.len() == 15, "{head}");
}

#[tokio::test]
async fn all_attempts_at_an_event_are_one_trace() {
    let receiver = Receiver::start(&[answered(500)]).await;
    let caller = caller();
    for attempt in 1..=2 {
        caller.make(&webhook(&receiver.url(), AMPLE), &item(), attempt).await;
    }
    let trace =
        |request: &String| request.lines().find_map(|line| line.strip_prefix("traceparent: ").map(str::to_owned));
    let traces: Vec<_> = receiver.requests().iter().filter_map(trace).collect();
    let parts: Vec<Vec<_>> = traces.iter().map(|trace| trace.split('-').collect()).collect();
    assert_eq!(parts[0].iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{traces:?}");
    assert!(parts[0][1] == parts[1][1] && parts[0][2] != parts[1][2], "{traces:?}");
}

#[tokio::test]
async fn nothing_but_2xx_is_success() {
    let table = [
        ("accepted", &[200, 201, 202, 204, 299][..]),
        ("failed", &[301, 302, 307, 308, 400 + 8, 409, 425, 429, 500, 502, 503, 599]),
        ("refused", &[400, 401, 403, 404, 405, 413, 422, 451]),
        ("gone", &[410]),
    ];
    for (kind, statuses) in table {
        for status in statuses {
            let outcome = outcome(answered(*status), AMPLE).await;
            let expected = if kind == "accepted" { (kind, None, "") } else { (kind, Some(*status), "status") };
            assert_eq!(told(&outcome), expected);
        }
    }
    let ahead = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(outcome(Act::Answer(ahead.into()), AMPLE).await, Outcome::Accepted);
    let switched = outcome(Act::Close("HTTP/1.1 101 Switching Protocols\r\n\r\n"), AMPLE).await;
    assert_eq!(told(&switched).0, "failed");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let receiver = Receiver::start(&[answered(307)]).await;
    let made = caller().make(&webhook(&receiver.url(), AMPLE), &item(), 1).await;
    assert_eq!((told(&made.outcome).1, receiver.requests().len()), (Some(307), 1));
}

#[tokio::test]
async fn an_answer_has_to_come_to_its_end_in_time() {
    let none = outcome(Act::Hang(""), SHORT).await;
    assert_eq!(told(&none), ("failed", None, "timeout"));
    let dripping = outcome(Act::Drip, SHORT).await;
    assert_eq!(told(&dripping), ("failed", Some(200), "timeout"), "however alive it looks");
    let half = outcome(Act::Hang("HTTP/1.1 200 OK\r\ncontent-"), SHORT).await;
    assert_eq!(told(&half), ("failed", None, "timeout"));
    let unfinished = outcome(Act::Hang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), SHORT).await;
    assert_eq!(told(&unfinished), ("failed", Some(200), "timeout"));
    assert_eq!(unfinished.failure().expect("it failed").answer, "half");
}

#[tokio::test]
async fn a_status_that_is_no_success_needs_no_body() {
    let gone = outcome(Act::Hang("HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\n"), SHORT).await;
    assert_eq!(told(&gone), ("gone", Some(410), "status"));
    let busy = outcome(Act::Hang("HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n"), SHORT).await;
    assert!(
        matches!(busy, Outcome::Failed { retry_after: Some(after), .. } if after == Duration::from_secs(7)),
        "{busy:?}"
    );
}

#[tokio::test]
async fn what_ends_early_is_no_success() {
    for (answer, status) in [
        ("", None),
        ("HTTP/1.1 200 OK\r\ncontent-", None),
        ("no http at all\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Some(200)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", Some(200)),
    ] {
        assert_eq!(told(&outcome(Act::Close(answer), AMPLE).await), ("failed", status, "broken_off"), "{answer}");
    }
    // Without a length the end of the connection is the end of the answer.
    assert_eq!(outcome(Act::Close("HTTP/1.1 200 OK\r\n\r\nwhole"), AMPLE).await, Outcome::Accepted);
}

#[tokio::test]
async fn of_an_endless_answer_only_the_beginning_is_read() {
    for (status, kind) in [(200, "accepted"), (500, "failed")] {
        let receiver = Receiver::start(&[Act::Endless(status)]).await;
        let made = caller().make(&webhook(&receiver.url(), AMPLE), &item(), 1).await;
        assert_eq!(told(&made.outcome).0, kind);
        assert_eq!(made.call.answer().len(), 16 * 1024);
        // What the system holds between two sockets, and no more.
        assert!(receiver.written() < 32 << 20, "{} bytes", receiver.written());
    }
}

#[tokio::test]
async fn one_connection_serves_many_attempts() {
    let receiver = Receiver::start(&[answered(200), answered(500), answered(404)]).await;
    let (caller, profile) = (caller(), webhook(&receiver.url(), AMPLE));
    for attempt in 1..=5 {
        caller.clone().make(&profile, &item(), attempt).await;
    }
    assert_eq!((receiver.requests().len(), receiver.connections()), (5, 1));
}

/// Connections beyond what one subscriber may have were closed after each attempt: two subscribers at one host cost more
/// than twice what one does.
#[tokio::test]
async fn subscribers_at_one_host_take_no_connections_from_each_other() {
    const SUBSCRIBERS: usize = 8;
    const ROUNDS: u32 = 20;
    let receiver = Receiver::start(&[answered(200)]).await;
    let caller = caller_by(&config::Delivery { concurrency: 1, ..delivery("127.0.0.0/8") }, Names::default());
    for round in 1..=ROUNDS {
        let attempts = (0..SUBSCRIBERS).map(|_| {
            let (caller, profile) = (caller.clone(), webhook(&receiver.url(), AMPLE));
            tokio::spawn(async move { caller.make(&profile, &item(), round).await.outcome })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            assert_eq!(attempt.await.expect("no panic"), Outcome::Accepted);
        }
    }
    // One is perhaps not given back yet when the next attempt asks for it.
    assert!(receiver.connections() < 3 * SUBSCRIBERS, "{} connections", receiver.connections());
}

#[tokio::test]
async fn where_nobody_listens_is_tried_again() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let made = caller().make(&webhook(&format!("http://{free}/"), AMPLE), &item(), 1).await;
    assert_eq!(told(&made.outcome), ("failed", None, "connect"));
}

#[tokio::test]
async fn what_cannot_speak_tls_is_tried_again() {
    for act in [Act::Close("HTTP/1.1 400 Bad Request\r\n\r\n"), Act::Close("")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/", listener.local_addr().expect("an address"));
        let Act::Close(answer) = act else { unreachable!("only those") };
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer.as_bytes()).await.expect("the caller reads");
        });
        let made = caller().make(&webhook(&url, AMPLE), &item(), 1).await;
        assert_eq!(told(&made.outcome), ("failed", None, "tls"), "{:?}", made.outcome);
        serving.await.expect("it served");
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_tried_again() {
    for names in [Names::default(), Names::giving(&[&[]])] {
        let made = caller_with("", names).make(&webhook("https://crm.example/", AMPLE), &item(), 1).await;
        assert_eq!(told(&made.outcome), ("failed", None, "dns"));
    }
}

#[tokio::test]
async fn an_address_that_is_not_public_is_never_connected_to() {
    let receiver = Receiver::start(&[answered(200)]).await;
    let port = receiver.address.port();
    let table = [
        (format!("http://127.0.0.1:{port}/"), Names::default()),
        (format!("http://2130706433:{port}/"), Names::default()),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), Names::default()),
        (format!("http://crm.example:{port}/"), Names::giving(&[&[[127, 0, 0, 1]]])),
        (format!("http://crm.example:{port}/"), Names::giving(&[&[[127, 0, 0, 1], [169, 254, 169, 254]]])),
    ];
    for (url, names) in table {
        let made = caller_with("10.0.0.0/8", names).make(&webhook(&url, AMPLE), &item(), 1).await;
        assert_eq!(told(&made.outcome), ("refused", None, "refused_address"), "{url}");
    }
    assert_eq!(receiver.connections(), 0);
}

/// Only the name's IPv4 address is allowed, and only there is anyone.
#[tokio::test]
async fn names_are_looked_up_by_the_system() {
    let receiver = Receiver::start(&[answered(200)]).await;
    let clock = Arc::new(ManualClock::starting_at(Timestamp::default()));
    let caller = Caller::try_new(&delivery("127.0.0.0/8"), Incarnation::new(7), clock).expect("TLS");
    let url = format!("http://localhost:{}/", receiver.address.port());
    let made = caller.make(&webhook(&url, AMPLE), &item(), 1).await;
    assert_eq!((made.outcome, receiver.connections()), (Outcome::Accepted, 1));
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_ones_are_connected_to() {
    let receiver = Receiver::start(&[answered(200)]).await;
    let url = format!("http://crm.example:{}/", receiver.address.port());
    let names = Names::giving(&[&[[169, 254, 169, 254], [127, 0, 0, 1]]]);
    let made = caller_with("127.0.0.0/8", names).make(&webhook(&url, AMPLE), &item(), 1).await;
    assert_eq!((made.outcome, receiver.connections()), (Outcome::Accepted, 1));
}

#[tokio::test]
async fn an_error_says_what_happened_and_nothing_of_the_url() {
    for (act, said) in [
        (Act::Close(""), "connection closed before message completed"),
        (Act::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), "end of file before message length reached"),
        (answered(500), "answered 500"),
        (Act::Hang(""), "there was no answer within 0.05 s"),
    ] {
        let outcome = outcome(act, SHORT).await;
        assert_eq!(outcome.failure().expect("it failed").detail, said);
    }
    let profile = webhook("https://crm.example/?token=s3cret", AMPLE);
    let failed = caller_with("", Names::default()).make(&profile, &item(), 1).await.outcome;
    assert_eq!(failed.failure().expect("it failed").detail, "the name cannot be looked up: no such name");
}

/// A name that is public when it is looked at and private when it is used gets nothing: each look-up is checked, and each
/// connection goes to what its own look-up gave.
#[tokio::test]
async fn a_name_that_changes_its_mind_gets_nothing() {
    let receiver = Receiver::start(&[Act::Close("HTTP/1.1 200 OK\r\n\r\n")]).await;
    let url = format!("http://crm.example:{}/", receiver.address.port());
    let names = Names::giving(&[&[[127, 0, 0, 1]], &[[10, 0, 0, 1]], &[[127, 0, 0, 1]]]);
    let caller = caller_with("127.0.0.0/8", names);
    let mut codes = Vec::new();
    for attempt in 1..=4 {
        codes.push(told(&caller.make(&webhook(&url, AMPLE), &item(), attempt).await.outcome).2);
    }
    assert_eq!(codes, ["", "refused_address", "", "dns"], "one look-up for each connection");
    assert_eq!(receiver.connections(), 2);
}

/// A message to the business account.
fn message() -> Item {
    let entity = EntityKey::try_new(Kind::Conversation, "conv_1_9").expect("an id");
    let change =
        r#"{"at":1,"keep":9,"effect":{"message":{"sender_id":"1","message_id":"m","text":"t","message_type":"text"}}}"#;
    let record = Record {
        sequence: Some(7),
        change: change.into(),
        ..Record::new("instagram", entity, "message.received", Timestamp::default())
    };
    Item { record: Arc::new(record), ..item() }
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
        from: Position::FIRST,
    })
}

#[tokio::test]
async fn an_address_of_the_configuration_may_be_anywhere() {
    let receiver = Receiver::start(&[answered(401)]).await;
    let url = receiver.url();
    let forward = |is_checked| profile(Target::Forward { account: account(), url: url.clone(), is_checked }, AMPLE);
    let caller = caller_with("", Names::default());
    let checked = caller.make(&forward(true), &message(), 1).await;
    assert_eq!(told(&checked.outcome).2, "refused_address");
    let trusted = caller.make(&forward(false), &message(), 1).await;
    assert_eq!(told(&trusted.outcome), ("refused", Some(401), "status"), "which is not tried again");
    let requests = receiver.requests();
    for line in ["x-hub-signature-256: sha256=", "webhook-id: evt_00000007_300\r\n", "x-entity-sequence: 7\r\n"] {
        assert!(requests[0].contains(line), "{line} is not in {}", requests[0]);
    }
    assert!(!requests[0].contains("x-webhook-"), "{}", requests[0]);
}

#[tokio::test]
async fn a_changed_definition_counts_from_the_next_attempt_on() {
    let receiver = Receiver::start(&[answered(200)]).await;
    let caller = caller();
    for path in ["/first", "/second"] {
        caller.make(&webhook(&format!("http://{}{path}", receiver.address), AMPLE), &item(), 1).await;
    }
    let paths: Vec<_> = receiver
        .requests()
        .iter()
        .map(|request| request[..request.find(" HTTP").expect("a head")].to_owned())
        .collect();
    assert_eq!(paths, ["POST /first", "POST /second"]);
}

#[tokio::test]
async fn a_ping_is_signed_like_an_event() {
    let receiver = Receiver::start(&[answered(200)]).await;
    let made = caller().test(&webhook(&receiver.url(), AMPLE)).await;
    assert_eq!((made.outcome, made.call.status()), (Outcome::Accepted, Some(200)));
    let requests = receiver.requests();
    let body = requests[0].split_once("\r\n\r\n").expect("a head").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["event"], &body["timestamp"]), (&"ping".into(), &"2025-12-04T10:30:05.000Z".into()));
    assert!(requests[0].contains("x-webhook-event: ping\r\n") && requests[0].contains("webhook-signature: v1,"));
}

#[tokio::test]
async fn the_call_log_is_told_of_an_attempt_and_of_no_secret() {
    let receiver = Receiver::start(&[answered(503), Act::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path(), 1 << 20, Arc::new(NoFaults)).expect("opens");
    let log = Exchange::open(store, Bounds { rows_max: 100, refused_rows_max: 100 }).expect("opens");
    let headers = vec![("X-Tenant".to_owned(), Secret::new("k3y"))];
    let profile = profile(Target::Webhook(Arc::new(Subscription { headers, ..subscription(&receiver.url()) })), AMPLE);
    let (caller, next) = (caller(), Timestamp::from_micros(5));
    for attempt in [1, 2] {
        let made = caller.make(&profile, &item(), attempt).await;
        made.call.append(&log, (attempt == 1).then_some(next));
        assert!(!format!("{:?}", made.outcome).contains("s3cret"));
    }
    let page = log.list_of("webhook:4".into(), Filter::default(), 0..9).await.expect("readable");
    let [second, first] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!((first.method.as_str(), first.path.as_str(), first.status), ("POST", "/hooks", Some(503)));
    assert_eq!((first.code.as_deref(), first.attempt, first.next_attempt_at), (Some("status"), Some(1), Some(next)));
    assert_eq!((first.event_type.as_deref(), first.answer.as_deref()), (Some("status.changed"), Some(&b"{}"[..])));
    assert_eq!(first.event_ids, [EventId::new(Incarnation::new(7), Position::new(300))]);
    assert!(
        !format!("{first:?}").contains("k3y") && first.headers.contains(&("x-tenant".into(), "…".into())),
        "{first:?}"
    );
    assert_eq!((second.status, second.code.as_deref(), second.is_successful()), (Some(200), Some("broken_off"), false));
    log.close();
}

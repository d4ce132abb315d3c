//! Test subscriber: a real HTTP server that answers each request as the test's script decides, and
//! records all requests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::test_node::{expect_soon, run_async};

/// Request as it was received.
#[derive(Clone, Debug)]
pub struct ReceiverRequest {
    /// Index of its connection, from 0.
    pub connection: u64,
    /// Number of earlier requests with the same `webhook-id`.
    pub before: usize,
    pub method: String,
    pub path: String,
    /// Headers with lowercase names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl ReceiverRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    fn require_header(&self, name: &str) -> &str {
        self.header(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// Returns its `webhook-id`.
    pub fn id(&self) -> &str {
        self.require_header("webhook-id")
    }

    /// Returns the sequence in its entity.
    pub fn sequence(&self) -> u64 {
        self.require_header("x-entity-sequence")
            .parse()
            .expect("a number")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// Returns the name of the event.
    pub fn event(&self) -> String {
        self.json()["event"]
            .as_str()
            .unwrap_or_else(|| panic!("no event in {self:?}"))
            .to_owned()
    }

    /// Returns the entity as `kind/id`.
    pub fn entity(&self) -> String {
        let entity = &self.json()["entity"];
        let text = |member: &str| {
            entity[member]
                .as_str()
                .unwrap_or_else(|| panic!("no {member} in {self:?}"))
                .to_owned()
        };
        format!("{}/{}", text("kind"), text("id"))
    }
}

/// Reaction to a request.
#[derive(Clone, Debug)]
pub enum ReceiverReply {
    /// Answers with this status and nothing else.
    Status(u16),
    /// Answers with this status, these headers and this body.
    Full(u16, Vec<(&'static str, String)>, String),
    /// Sends the inner reply after the latch is opened.
    Held(ReplyLatch, Box<ReceiverReply>),
    /// Sends nothing and keeps the connection open until the other side closes it.
    Hang,
    /// Sends this status at once, then an endless body, byte by byte as the bytes are read.
    Drip(u16),
    /// Sends this status at once, then an endless body as fast as possible.
    Endless(u16),
    /// Closes the connection without an answer.
    Close,
    /// Sends this status and half of the announced body, then closes the connection.
    BreakOff(u16),
}

impl ReceiverReply {
    /// Answers 429 or 503 with a `Retry-After`.
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self::Full(
            status,
            vec![("retry-after", seconds.to_string())],
            String::new(),
        )
    }

    pub fn redirect(location: &str) -> Self {
        Self::Full(302, vec![("location", location.to_owned())], String::new())
    }

    /// Wraps the reply so that it is sent after `latch` is opened.
    pub fn held_by(self, latch: &ReplyLatch) -> Self {
        Self::Held(latch.clone(), Box::new(self))
    }
}

/// Holds replies back until a test opens it. Clones share the latch.
#[derive(Clone, Debug, Default)]
pub struct ReplyLatch(Arc<watch::Sender<bool>>);

impl ReplyLatch {
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn wait_until_open(&self) {
        self.0
            .subscribe()
            .wait_for(|is_open| *is_open)
            .await
            .expect("the sender is our own");
    }
}

/// Events in order; numbers are indexes of [`ReceiverLog::arrivals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverEvent {
    Arrived(usize),
    /// The answer with this status is about to be sent.
    Answered(usize, u16),
}

/// Requests and answers of a receiver.
#[derive(Debug, Default)]
pub struct ReceiverLog {
    pub arrivals: Vec<ReceiverRequest>,
    pub happened: Vec<ReceiverEvent>,
    /// `webhook-id`s that were answered with a 2xx.
    pub accepted: HashSet<String>,
    /// Number of requests with each `webhook-id`.
    pub attempts: HashMap<String, usize>,
}

impl ReceiverLog {
    /// Records a request and returns its index.
    fn record_request(&mut self, mut arrival: ReceiverRequest) -> (usize, ReceiverRequest) {
        if let Some(id) = arrival.header("webhook-id").map(str::to_owned) {
            let attempts = self.attempts.entry(id).or_default();
            arrival.before = *attempts;
            *attempts += 1;
        }
        let number = self.arrivals.len();
        self.happened.push(ReceiverEvent::Arrived(number));
        self.arrivals.push(arrival.clone());
        (number, arrival)
    }

    fn record_answer(&mut self, number: usize, status: u16) {
        self.happened.push(ReceiverEvent::Answered(number, status));
        if let (true, Some(id)) = (
            (200..300).contains(&status),
            self.arrivals[number].header("webhook-id"),
        ) {
            self.accepted.insert(id.to_owned());
        }
    }

    /// Returns the accepted sequences of each entity, in the order of their first acceptance.
    pub fn accepted_sequences(&self) -> BTreeMap<String, Vec<u64>> {
        let mut known = HashSet::new();
        let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for happened in &self.happened {
            let ReceiverEvent::Answered(number, 200..300) = happened else {
                continue;
            };
            let arrival = &self.arrivals[*number];
            if known.insert(arrival.id()) {
                sequences
                    .entry(arrival.entity())
                    .or_default()
                    .push(arrival.sequence());
            }
        }
        sequences
    }

    /// Checks that no event of an entity arrived before an earlier one was accepted, unless the
    /// earlier one's `webhook-id` is in `given_up` (dead letters), and that a sequence has one
    /// `webhook-id`. Returns the number of repeats after acceptance.
    pub fn check_order(&self, given_up: &HashSet<String>) -> usize {
        let mut lanes: HashMap<String, BTreeMap<u64, (&str, bool)>> = HashMap::new();
        let mut repeats = 0;
        for happened in &self.happened {
            let (ReceiverEvent::Arrived(number) | ReceiverEvent::Answered(number, _)) = *happened;
            let arrival = &self.arrivals[number];
            let (entity, sequence, id) = (arrival.entity(), arrival.sequence(), arrival.id());
            let lane = lanes.entry(entity.clone()).or_default();
            let (known, is_accepted) = lane.entry(sequence).or_insert((id, false));
            assert_eq!(*known, id, "two ids of {entity} {sequence}");
            match *happened {
                ReceiverEvent::Answered(_, status) => *is_accepted |= (200..300).contains(&status),
                ReceiverEvent::Arrived(_) => {
                    repeats += usize::from(*is_accepted);
                    let open = lane
                        .range(..sequence)
                        .find(|(_, (id, is_accepted))| !is_accepted && !given_up.contains(*id));
                    assert_eq!(open, None, "{entity} {sequence} came before that");
                }
            }
        }
        repeats
    }

    /// Checks the order, and that each entity's accepted sequences are 1 to its number in
    /// `expected`, which names all entities.
    pub fn check_complete(&self, expected: &BTreeMap<String, u64>) -> usize {
        let repeats = self.check_order(&HashSet::new());
        let expected: BTreeMap<String, Vec<u64>> = expected
            .iter()
            .map(|(entity, last)| (entity.clone(), (1..=*last).collect()))
            .collect();
        assert_eq!(self.accepted_sequences(), expected);
        repeats
    }
}

type ReceiverScript = Box<dyn FnMut(&ReceiverRequest) -> ReceiverReply + Send>;

/// Receiver on a thread of its own, which answers while the test runs. Stops when dropped.
pub struct TestReceiver {
    address: SocketAddr,
    shared: Arc<ReceiverState>,
    /// True while it should listen; dropping the sender ends the thread.
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
}

struct ReceiverState {
    seen: watch::Sender<ReceiverLog>,
    script: Mutex<ReceiverScript>,
}

impl TestReceiver {
    /// Starts a receiver that accepts everything.
    pub async fn accept_all() -> Self {
        Self::start(|_| ReceiverReply::Status(200)).await
    }

    /// Starts a receiver with a script, which decides once for each request, in the order of
    /// arrival.
    pub async fn start(
        script: impl FnMut(&ReceiverRequest) -> ReceiverReply + Send + 'static,
    ) -> Self {
        let shared = Arc::new(ReceiverState {
            seen: watch::Sender::default(),
            script: Mutex::new(Box::new(script)),
        });
        let (wanted, is_wanted) = watch::channel(true);
        let (is_listening, listening) = watch::channel(false);
        let (told, address) = tokio::sync::oneshot::channel();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let socket = socket(([127, 0, 0, 1], 0).into());
                let address = socket.local_addr().expect("bound");
                told.send(address).expect("it waits for that");
                serve(serving, socket, address, is_wanted, is_listening).await;
            });
        });
        let receiver = Self {
            address: expect_soon(address).await.expect("a port"),
            shared,
            wanted,
            listening,
        };
        receiver.wait_until_listening(true).await;
        receiver
    }

    /// Returns its URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Replaces the script.
    pub fn set_script(
        &self,
        script: impl FnMut(&ReceiverRequest) -> ReceiverReply + Send + 'static,
    ) {
        *self.shared.script.lock() = Box::new(script);
    }

    /// Closes all connections and refuses new ones. The log stays.
    pub async fn stop(&self) {
        self.wanted.send_replace(false);
        self.wait_until_listening(false).await;
    }

    /// Accepts connections again, at the same address.
    pub async fn restart(&self) {
        self.wanted.send_replace(true);
        self.wait_until_listening(true).await;
    }

    async fn wait_until_listening(&self, state: bool) {
        expect_soon(
            self.listening
                .clone()
                .wait_for(|listening| *listening == state),
        )
        .await
        .expect("its thread lives");
    }

    /// Returns the requests and answers so far.
    pub fn log(&self) -> watch::Ref<'_, ReceiverLog> {
        // Held for a short time only: a reader blocks the server, so drop it before awaiting
        // anything.
        self.shared.seen.borrow()
    }

    pub fn arrivals(&self) -> Vec<ReceiverRequest> {
        self.log().arrivals.clone()
    }

    /// Waits until the log satisfies `is_enough`.
    pub async fn wait_until(&self, mut is_enough: impl FnMut(&ReceiverLog) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        expect_soon(seen.wait_for(|seen| is_enough(seen)))
            .await
            .expect("the sender is our own");
    }

    /// Waits for this many requests, repeats included.
    pub async fn wait_for_requests(&self, count: usize) {
        self.wait_until(|seen| seen.arrivals.len() >= count).await;
    }

    /// Waits until this many different `webhook-id`s were accepted.
    pub async fn wait_for_accepted(&self, count: usize) {
        self.wait_until(|seen| seen.accepted.len() >= count).await;
    }
}

/// Bound but not listening: connections are refused, and no other process gets the port.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_reuseaddr(true)
        .expect("an option of every socket");
    // Lets the next socket bind before the last one is closed, so that nobody takes the port.
    socket
        .set_reuseport(true)
        .expect("an option of every socket");
    socket.bind(address).expect("a free port");
    socket
}

/// Listens while the flag is set, until its sender is dropped.
async fn serve(
    shared: Arc<ReceiverState>,
    mut bound: TcpSocket,
    address: SocketAddr,
    mut wanted: watch::Receiver<bool>,
    listening: watch::Sender<bool>,
) {
    let mut connections = 0;
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let listener = bound.listen(1024).expect("bound");
        listening.send_replace(true);
        let mut open = JoinSet::new();
        let stopped = tokio::select! {
            stopped = wanted.wait_for(|wanted| !wanted) => stopped.map(drop),
            () = accept(&listener, &shared, &mut open, &mut connections) => Ok(()),
        };
        open.shutdown().await;
        bound = socket(address);
        drop(listener);
        let Ok(()) = stopped else { return };
        listening.send_replace(false);
    }
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<ReceiverState>,
    open: &mut JoinSet<()>,
    connections: &mut u64,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (shared, connection) = (Arc::clone(shared), *connections);
        *connections += 1;
        open.spawn(async move {
            // Ignored: a caller that disconnects is part of the test.
            let _ = shared.serve_connection(stream, connection).await;
        });
        while open.try_join_next().is_some() {}
    }
}

impl ReceiverState {
    /// Answers the requests of one connection, until either side closes it.
    async fn serve_connection(&self, stream: TcpStream, connection: u64) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        while let Some(arrival) = read(&mut reader, connection).await? {
            let mut filed = None;
            // The script runs inside, so it sees requests in the recorded order.
            self.seen.send_modify(|seen| {
                let (number, arrival) = seen.record_request(arrival);
                filed = Some((number, self.script.lock()(&arrival)));
            });
            let (number, mut reply) = filed.expect("just made");
            while let ReceiverReply::Held(latch, then) = reply {
                tokio::select! {
                    () = latch.wait_until_open() => reply = *then,
                    // Input before the answer means that the caller closed the connection, so there
                    // is no answer.
                    _ = reader.fill_buf() => return Ok(()),
                }
            }
            if let Some(status) = reply.status() {
                self.seen
                    .send_modify(|seen| seen.record_answer(number, status));
            }
            if !reply.write(&mut writer).await? {
                // Until the other side has read enough.
                if matches!(reply, ReceiverReply::Hang) {
                    reader.read_u8().await?;
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

impl ReceiverReply {
    /// Returns the status that every caller sees, however little it reads; `None` if the answer is
    /// incomplete in a way that callers may judge differently.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) | Self::Full(status, ..) | Self::Endless(status) => Some(*status),
            Self::Held(..) | Self::Hang | Self::Drip(_) | Self::Close | Self::BreakOff(_) => None,
        }
    }

    /// Sends the reply; returns true if the connection can be reused.
    async fn write(&self, to: &mut OwnedWriteHalf) -> std::io::Result<bool> {
        const LONG: &str = "content-length: 1000000000\r\n\r\n";
        match self {
            Self::Status(status) => {
                to.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes())
                    .await?
            }
            Self::Full(status, headers, body) => {
                let headers: String = headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}"
                );
                to.write_all(answer.as_bytes()).await?;
            }
            Self::Drip(status) => {
                to.write_all(format!("HTTP/1.1 {status} X\r\n{LONG}").as_bytes())
                    .await?;
                loop {
                    to.write_all(b".").await?;
                    // One byte at a time; nothing waits for the pause.
                    let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
                    pause.tick().await;
                    pause.tick().await;
                }
            }
            Self::Endless(status) => {
                to.write_all(
                    format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes(),
                )
                .await?;
                let chunk = [b"4000\r\n".as_slice(), &[b'.'; 0x4000], b"\r\n"].concat();
                loop {
                    to.write_all(&chunk).await?;
                }
            }
            Self::BreakOff(status) => {
                to.write_all(
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 10\r\n\r\n12345").as_bytes(),
                )
                .await?;
                return Ok(false);
            }
            Self::Held(..) | Self::Hang | Self::Close => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads the next request of a connection; `None` at its end.
async fn read(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    connection: u64,
) -> std::io::Result<Option<ReceiverRequest>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let mut words = head[0].split(' ').map(str::to_owned);
    let (method, path) = (
        words.next().expect("a method"),
        words.next().expect("a path"),
    );
    let headers = head[1..].iter().filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a length"))];
    reader.read_exact(&mut body).await?;
    Ok(Some(ReceiverRequest {
        connection,
        before: 0,
        method,
        path,
        headers,
        body,
    }))
}

/// Sends a delivery, as far as these tests need one.
async fn deliver(
    client: &reqwest::Client,
    url: &str,
    sequence: u64,
) -> reqwest::Result<(u16, String)> {
    let body = serde_json::json!({"event": "e.x", "entity": {"kind": "e", "id": "1"}}).to_string();
    let request = client
        .post(url)
        .header("webhook-id", format!("evt_{sequence}"))
        .header("x-entity-sequence", sequence);
    let answer = request.body(body).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
}

#[test]
fn a_receiver_answers_by_its_script_and_records_all_requests() {
    run_async(async {
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver =
            TestReceiver::start(
                move |arrival| match (arrival.path.as_str(), arrival.before) {
                    ("/flaky", 0) => ReceiverReply::Status(500),
                    ("/held", _) => {
                        ReceiverReply::Full(201, vec![("x-y", "z".to_owned())], "late".to_owned())
                            .held_by(&held)
                    }
                    ("/close", _) => ReceiverReply::Close,
                    ("/cut", _) => ReceiverReply::BreakOff(200),
                    _ => ReceiverReply::Status(200),
                },
            )
            .await;
        let client = client();
        let url = |path| receiver.url(path);
        assert_eq!(
            deliver(&client, &url("/flaky"), 1)
                .await
                .expect("an answer")
                .0,
            500
        );
        assert_eq!(
            deliver(&client, &url("/flaky"), 1)
                .await
                .expect("an answer")
                .0,
            200
        );
        assert!(
            deliver(&client, &url("/close"), 2).await.is_err()
                && deliver(&client, &url("/cut"), 2).await.is_err()
        );
        let (waiting, address) = (client.clone(), url("/held"));
        let waiting = actix_rt::spawn(async move { deliver(&waiting, &address, 2).await });
        receiver.wait_for_requests(5).await;
        latch.open();
        assert_eq!(
            waiting.await.expect("no panic").expect("an answer"),
            (201, "late".to_owned())
        );
        receiver.wait_for_accepted(2).await;
        assert_eq!(
            receiver
                .log()
                .check_complete(&[("e/1".to_owned(), 2)].into()),
            0
        );
        assert_eq!(
            receiver.arrivals()[1].connection,
            receiver.arrivals()[0].connection
        );
    });
}

#[test]
fn a_stopped_receiver_refuses_connections_and_comes_back_at_its_address() {
    run_async(async {
        let (receiver, client) = (TestReceiver::accept_all().await, client());
        let url = receiver.url("/");
        assert!(deliver(&client, &url, 1).await.is_ok());
        receiver.stop().await;
        // A kept connection may not have noticed the stop yet, so a new client has to connect.
        let newcomer = self::client();
        assert!(
            deliver(&newcomer, &url, 2)
                .await
                .expect_err("nobody listens")
                .is_connect()
        );
        receiver.restart().await;
        assert!(deliver(&client, &url, 2).await.is_ok());
        assert_eq!(receiver.arrivals().len(), 2);
    });
}

#[test]
#[should_panic(expected = "e/1 2 came before that")]
fn an_overtaking_is_noticed() {
    run_async(async {
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.sequence() == 1 { 500 } else { 200 })
        })
        .await;
        let client = client();
        for sequence in [1, 2] {
            deliver(&client, &receiver.url("/"), sequence)
                .await
                .expect("an answer");
        }
        receiver.log().check_order(&HashSet::new());
    });
}

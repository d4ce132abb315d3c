//! Connections: kept ones that the receiver closed, odd answers, their bound, and a node that lacks
//! resources.

use rustix::io::Errno;

use super::*;

/// Answer with a length, so that the connection could be kept.
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Makes attempts at a receiver with `acts`; returns their kinds and codes.
async fn attempt_in_turn(
    receiver: &AttemptReceiver,
    attempts: u32,
    timeout: Duration,
) -> Vec<(&'static str, &'static str)> {
    let (sender, policy) = (sender(), webhook(&receiver.url(), timeout));
    let mut summaries = Vec::new();
    for attempt in 1..=attempts {
        let made = sender.send_delivery(&policy, &item(), attempt).await;
        let (kind, _, code) = summary_of(&made.outcome);
        summaries.push((kind, code));
    }
    summaries
}

/// The end of a kept connection had counted as a failed attempt: one in six or so at receivers that
/// close after each answer.
#[tokio::test]
async fn a_kept_connection_that_the_receiver_closed_costs_no_attempt() {
    const ACCEPTED: (&str, &str) = ("accepted", "");
    let kept = || ReceiverAction::Answer(OK.into());
    let table = [
        (ReceiverAction::Close(""), kept(), ACCEPTED, 3),
        (ReceiverAction::Reset, kept(), ACCEPTED, 3),
        (
            ReceiverAction::Close("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"),
            kept(),
            ACCEPTED,
            3,
        ),
        // The second connection is a fresh one, and its end is the subscriber's failure.
        (
            ReceiverAction::Close(""),
            ReceiverAction::Close(""),
            ("failed", "broken_off"),
            3,
        ),
        // One time limit covers both.
        (
            ReceiverAction::Close(""),
            ReceiverAction::Hang(""),
            ("failed", "timeout"),
            3,
        ),
        // The subscriber has the request and began to answer it.
        (
            ReceiverAction::Close("HTTP/1.1 2"),
            kept(),
            ("failed", "broken_off"),
            2,
        ),
    ];
    for (on_kept, on_fresh, expected, requests) in table {
        let row = format!("{on_kept:?}, {on_fresh:?}");
        let receiver = AttemptReceiver::start(&[kept(), on_kept, on_fresh]).await;
        let summaries = attempt_in_turn(&receiver, 2, Duration::from_secs(1)).await;
        assert_eq!(summaries, [ACCEPTED, expected], "{row}");
        assert_eq!(receiver.requests().len(), requests, "{row}");
    }
}

#[tokio::test]
async fn a_receiver_that_closes_after_each_answer_gets_each_delivery_once() {
    for answer in [
        OK,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.0 200 OK\r\n\r\n",
    ] {
        let receiver = AttemptReceiver::start(&[ReceiverAction::Close(answer)]).await;
        let summaries = attempt_in_turn(&receiver, 40, AMPLE).await;
        assert_eq!(summaries, vec![("accepted", ""); 40], "{answer}");
        assert_eq!(receiver.requests().len(), 40, "{answer}");
    }
}

#[tokio::test]
async fn an_accepted_delivery_stays_accepted_whatever_its_headers_look_like() {
    let many = (0..200).map(|number| format!("x-{number}: {number}\r\n"));
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n",
        many.collect::<String>()
    );
    for answer in [
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 Tudo bem, já está\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Ort: Köln\r\nCONTENT-LENGTH: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nserver : odd\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-folded: one\r\n two\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\nretry-after: \u{e9}\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-end: 1\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-type: text/html\r\n\r\n",
        "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore than was announced",
        &many,
    ] {
        let receiver = AttemptReceiver::start(&[ReceiverAction::Answer(answer.into())]).await;
        let summaries = attempt_in_turn(&receiver, 2, Duration::from_secs(5)).await;
        assert_eq!(summaries, vec![("accepted", ""); 2], "{answer}");
    }
}

/// Each host had kept connections of its own: 8 attempts at once had left 150 open.
#[tokio::test]
async fn open_connections_are_bounded_and_the_one_idle_for_longest_makes_room() {
    let config = config::DeliveryConfig {
        attempts_max: 2,
        ..delivery("127.0.0.0/8")
    };
    let sender = sender_from_config(&config, ScriptedLookup::default());
    let mut receivers = Vec::new();
    for _ in 0..3 {
        receivers.push(AttemptReceiver::start(&[answered(200)]).await);
    }
    for (to, connections) in [
        (0, 1),
        (1, 1),
        (0, 1),
        // Closes the connection to 1.
        (2, 1),
        (0, 1),
        // Closes the connection to 2.
        (1, 2),
        (0, 1),
        (2, 2),
    ] {
        let policy = webhook(&receivers[to].url(), AMPLE);
        let made = sender.send_delivery(&policy, &item(), 1).await;
        assert_eq!(made.outcome, AttemptOutcome::Accepted);
        assert_eq!(receivers[to].connections(), connections, "to {to}");
    }
    assert_eq!(sender.0.client.pool.free_slots(), 0, "two are open");
    sender.0.client.pool.close_idle();
    assert_eq!(sender.0.client.pool.free_slots(), 2);
}

#[tokio::test]
async fn a_test_waits_for_a_connection_and_gets_the_next() {
    let config = config::DeliveryConfig {
        attempts_max: 1,
        ..delivery("127.0.0.0/8")
    };
    let sender = sender_from_config(&config, ScriptedLookup::default());
    let hanging = AttemptReceiver::start(&[ReceiverAction::Hang("")]).await;
    let tested = AttemptReceiver::start(&[answered(200)]).await;
    let (hang, busy) = (webhook(&hanging.url(), AMPLE), sender.clone());
    let attempt = tokio::spawn(async move { busy.send_delivery(&hang, &item(), 1).await });
    while hanging.requests().is_empty() {
        tokio::task::yield_now().await;
    }

    let waits = sender.send_ping(&webhook(&tested.url(), SHORT)).await;
    assert_eq!(summary_of(&waits.outcome), ("failed", None, "timeout"));
    attempt.abort();
    let made = sender.send_ping(&webhook(&tested.url(), AMPLE)).await;
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
}

/// A node without descriptors had counted failures of its subscribers.
#[tokio::test]
async fn an_attempt_that_this_node_cannot_make_is_made_later() {
    let receiver = AttemptReceiver::start(&[answered(200)]).await;
    let shortage = |errno: Errno| Err(io::Error::from_raw_os_error(errno.raw_os_error()));
    let lookup = ScriptedLookup::default();
    *lookup.0.lock() = VecDeque::from([
        shortage(Errno::MFILE),
        shortage(Errno::NOBUFS),
        Ok(vec![Ipv4Addr::LOCALHOST.into()]),
        shortage(Errno::NFILE),
    ]);
    let sender = sender_with("127.0.0.0/8", lookup);
    let url = |host: &str| format!("http://{host}:{}/", receiver.address.port());
    let policy = webhook(&url("crm.example"), AMPLE);
    let made = sender.send_when_possible(&policy, &item(), 1.into()).await;
    let made = made.expect("within two pauses");
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
    assert_eq!(made.call.attempt, 1);

    // A person who waits for the result of a test is told.
    let made = sender
        .send_ping(&webhook(&url("other.example"), AMPLE))
        .await;
    assert_eq!(summary_of(&made.outcome), ("failed", None, "no_resources"));
}

/// Meanwhile the subscription may have been changed or the event erased.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_this_node_cannot_make_for_a_while_is_given_back() {
    let lookup = ScriptedLookup::default();
    let shortage = || Err(io::Error::from_raw_os_error(Errno::MFILE.raw_os_error()));
    *lookup.0.lock() = std::iter::repeat_with(shortage).take(99).collect();
    let sender = sender_with("", lookup);
    let policy = webhook("https://crm.example/", AMPLE);
    let made = sender.send_when_possible(&policy, &item(), 1.into()).await;
    assert!(made.is_none(), "{made:?}");
}

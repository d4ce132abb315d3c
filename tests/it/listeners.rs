//! A listener of its own for operators: admin API, dashboard, metrics and documentation are there and
//! nowhere else, and senders cannot take its threads or connections.

use std::fs;

use reqwest::Client;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::commands::{folder, hookyard, output_of};
use crate::test_node::{TOKEN, TestClient, TestEnv, TestNode, expect_soon, free_port, run_async};

/// Paths for operators, each with the status that its listener answers with the admin's token.
const FOR_OPERATORS: [(&str, u16); 8] = [
    ("/api/v1/events", 200),
    ("/api/v1/webhooks", 200),
    ("/api/v1/clock", 200),
    ("/metrics", 200),
    ("/openapi.json", 200),
    ("/docs/", 200),
    ("/docs/guide", 200),
    ("/dashboard/login", 200),
];

fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut test_env = TestEnv::new(&[
        ("admin.bind", "127.0.0.1:0"),
        ("sources.crm.enabled", "true"),
        ("sources.crm.tokens", "token-of-the-crm-publisher"),
    ]);
    keys.iter()
        .for_each(|(key, value)| test_env.set(key, value));
    test_env
}

/// Client of the listener for operators.
fn admin_of(node: &TestNode) -> TestClient {
    let mut admin = node.api.clone();
    admin.base = format!("http://{}", node.inner.admin_address());
    admin.client = Client::builder().no_proxy().build().expect("a client");
    admin
}

#[test]
fn what_is_for_operators_is_on_their_listener_alone_and_senders_are_on_the_other() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let admin = admin_of(&node);
        assert_ne!(admin.base, node.base);
        assert_eq!(node.send_message("S", "m1").await.status, 202);
        assert_eq!(admin.send_message("S", "m2").await.status, 404);
        for (path, status) in FOR_OPERATORS {
            assert_eq!(admin.get(path).await.status, status, "{path}");
            let hidden = match path {
                // Publishers of the event bus post there.
                "/api/v1/events" => 405,
                _ => 404,
            };
            assert_eq!(node.get(path).await.status, hidden, "{path}");
        }
        assert_eq!(node.post("/api/v1/reload").await.status, 404);
        for client in [&node.api, &admin] {
            for path in ["/healthz", "/health", "/readyz"] {
                assert_eq!(client.get(path).await.status, 200, "{path}");
            }
        }
        node.stop().await;
    });
}

#[test]
fn senders_that_hold_all_connections_leave_the_operators_theirs() {
    run_async(async {
        let node = test_env(&[("server.connections_max", "3")]).start().await;
        let address = node.inner.address();
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let admin = admin_of(&node);
        let answer = expect_soon(admin.get("/api/v1/webhooks")).await;
        assert_eq!(answer.status, 200);
        drop(held);
        node.stop().await;
        let gone = TcpStream::connect(admin.base.trim_start_matches("http://")).await;
        let read = match gone {
            Ok(mut stream) => stream.read(&mut [0; 1]).await.unwrap_or(0),
            Err(_) => 0,
        };
        assert_eq!(read, 0, "both listeners are closed");
    });
}

/// The share of one client was a third of the senders' connections, which was all that operators have.
#[test]
fn one_client_cannot_take_all_connections_of_the_operators() {
    run_async(async {
        let node = test_env(&[("server.request_timeout_s", "2")]).start().await;
        let admin = admin_of(&node);
        let address = admin.base.trim_start_matches("http://");
        let mut held = Vec::new();
        for _ in 0..90 {
            held.push(TcpStream::connect(address).await.expect("it listens"));
        }
        // Those that have a place are answered 408 after their time, the others are closed at once.
        let mut closed = 0;
        for stream in &mut held {
            let read = expect_soon(stream.read(&mut [0; 1])).await;
            closed += usize::from(read.unwrap_or(0) == 0);
        }
        assert!((1..=5).contains(&closed), "a third of 256 is 85: {closed}");
        node.stop().await;
    });
}

#[test]
fn the_commands_find_the_listener_for_operators_by_the_configuration() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let admin_port = free_port();
        test_env.set("admin.bind", &format!("127.0.0.1:{admin_port}"));
        let node = test_env.start_process().await;
        let place = folder();
        let text = format!(
            "[server]\nbind = \"{}\"\n[admin]\nbind = \"127.0.0.1:{admin_port}\"\ntoken = \"{TOKEN}\"\n\
             [sources.support]\nenabled = true\napi_keys = [\"{}\"]\nsecrets = [\"{}\"]\n[store]\npath = {:?}\n",
            node.base.trim_start_matches("http://"),
            crate::test_node::API_KEY,
            crate::test_node::SECRET,
            test_env.store_path(),
        );
        fs::write(place.path().join("h.toml"), text).expect("writable");
        let backup = place.path().join("b.backup");
        let backup = backup.to_str().expect("text");
        for words in [
            &["health"][..],
            &["webhooks", "list"],
            &["tokens", "list"],
            &["audit", "list"],
            &["send"],
            &["events", "tail", "--no-follow"],
            &["reload"],
            &["backup", backup],
        ] {
            let words = [words, &["--config", "h.toml"]].concat();
            let (code, out, error) = output_of(&mut hookyard(place.path(), &words));
            assert_eq!(code, Some(0), "{words:?}: {out}{error}");
        }
        drop(node);
    });
}

//! TLS with an authority of one's own, and deliveries by a proxy.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::tls_receiver::{CA, TlsReceiver};
use super::*;
use crate::trusted_roots::read_roots;

/// Starts a proxy that answers the requests for tunnels with `answers`, one after another, and then
/// closes its port. Tunnels lead to the same port of this machine. Returns the proxy's port, and its
/// requests in the end.
async fn start_proxy(
    answers: &'static [&'static str],
) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            let request = String::from_utf8(request).expect("text");
            let head = format!("HTTP/1.1 {answer}\r\nx-proxy: 1\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("open");
            if answer.starts_with("200") {
                let target = request.split([':', ' ']).nth(2).expect("a port");
                let address = format!("127.0.0.1:{target}");
                let mut target = TcpStream::connect(address).await.expect("a receiver");
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut target).await });
            }
            requests.push(request);
        }
        requests
    });
    (port, serving)
}

fn config_with(ca_files: &[&str], proxy_url: Option<String>) -> config::DeliveryConfig {
    config::DeliveryConfig {
        ca_files: ca_files.iter().map(PathBuf::from).collect(),
        proxy_url: proxy_url.map(Secret::new),
        ..delivery("127.0.0.0/8")
    }
}

fn crm_example() -> ScriptedLookup {
    ScriptedLookup::giving(&[&[[127, 0, 0, 1]]])
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_if_it_is_configured() {
    let receiver = TlsReceiver::start(None, &[200]).await;
    let url = receiver.url();
    let attempt = async |ca_files: &[&str]| {
        let sender = sender_from_config(&config_with(ca_files, None), crm_example());
        let policy = webhook(&url, AMPLE);
        sender.send_delivery(&policy, &item(), 1).await.outcome
    };
    assert_eq!(summary_of(&attempt(&[]).await), ("failed", None, "tls"));
    assert_eq!(attempt(&[CA]).await, AttemptOutcome::Accepted);

    let build = |file: &str| read_roots("delivery.ca_files", &[PathBuf::from(file)]);
    let missing = build("/nowhere/ca.pem").expect_err("no such file");
    assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
    let key = CA.replace("ca.pem", "server.key");
    let other = build(&key).expect_err("no certificate");
    assert!(
        other.to_string().contains("no usable certificate"),
        "{other}"
    );
}

#[tokio::test]
async fn https_targets_are_called_by_the_proxy_and_its_failures_count_against_nobody() {
    let receiver = TlsReceiver::start(None, &[200]).await;
    let (proxy, requests) = start_proxy(&[
        "407 Proxy Authentication Required",
        "503 Service Unavailable",
        "200 Connection established",
    ])
    .await;
    let proxy_url = format!("http://user:pa%3Ass@127.0.0.1:{proxy}");
    // This node looks no name up: that is up to the proxy.
    let config = config_with(&[CA], Some(proxy_url));
    let sender = sender_from_config(&config, ScriptedLookup::default());
    let policy = webhook(&receiver.url(), AMPLE);

    // The first answer says nothing of the subscriber, so the attempt is made again.
    let refused = sender.send_when_possible(&policy, &item(), 1.into()).await;
    let refused = refused.expect("after one pause");
    assert_eq!(summary_of(&refused.outcome), ("failed", None, "connect"));
    let accepted = sender.send_delivery(&policy, &item(), 2).await;
    assert_eq!(accepted.outcome, AttemptOutcome::Accepted);

    let requests = requests.await.expect("it served");
    let receiver = receiver.port;
    let expected = format!(
        "CONNECT crm.example:{receiver} HTTP/1.1\r\nHost: crm.example:{receiver}\r\n\
         Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n\r\n"
    );
    assert_eq!(requests, vec![expected; 3]);

    // The proxy has gone, and with it the way to another origin.
    let other = webhook("https://other.example/", AMPLE);
    let made = sender.send_ping(&other).await;
    assert_eq!(summary_of(&made.outcome), ("failed", None, "proxy"));
    let inside = sender.send_ping(&webhook("https://10.0.0.1/", AMPLE)).await;
    assert_eq!(summary_of(&inside.outcome).2, "refused_address");
    let plain = AttemptReceiver::start(&[answered(200)]).await;
    let made = sender
        .send_delivery(&webhook(&plain.url(), AMPLE), &item(), 1)
        .await;
    // Plain http is not for a proxy.
    assert_eq!(made.outcome, AttemptOutcome::Accepted);
}

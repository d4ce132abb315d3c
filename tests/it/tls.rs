//! TLS of the node itself: its certificate and the renewal of it, certificates of clients, and the limits of
//! connections that hold for encrypted ones too.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::commands::{folder, hookyard, output_of};
use crate::senders::sha256;
use crate::test_node::{TOKEN, TestClient, TestEnv, TestNode, expect_soon, run_async};
use crate::tokens::call;

/// Authority that issues certificates.
struct TestAuthority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl TestAuthority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self {
            certificate: params.self_signed(&key).expect("a certificate"),
            key,
        }
    }

    /// Issues a certificate for 127.0.0.1 that ends at the end of `year`, and returns it with its key.
    fn issue(&self, subject: &str, usage: ExtendedKeyUsagePurpose, year: i32) -> [String; 2] {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&key, &self.certificate, &self.key);
        [issued.expect("a certificate").pem(), key.serialize_pem()]
    }

    fn issue_for_server(&self) -> [String; 2] {
        self.issue("node", ExtendedKeyUsagePurpose::ServerAuth, 2096)
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Client that trusts this authority alone, with a certificate of its own if given.
    fn client(&self, identity: Option<[String; 2]>) -> Client {
        let root = Certificate::from_pem(self.pem().as_bytes()).expect("PEM");
        let builder = Client::builder()
            .no_proxy()
            .tls_built_in_root_certs(false)
            .add_root_certificate(root);
        let builder = match identity {
            None => builder,
            Some(pems) => {
                let identity = Identity::from_pem(pems.concat().as_bytes());
                builder.identity(identity.expect("PEM"))
            }
        };
        builder.build().expect("a client")
    }
}

/// Environment of a node with TLS, and the files of its certificate and key.
fn test_env(authority: &TestAuthority, keys: &[(&str, &str)]) -> (TestEnv, [PathBuf; 2]) {
    let mut test_env = TestEnv::new(keys);
    let files = ["cert.pem", "key.pem"].map(|name| test_env.folder.path().join(name));
    write_pair(&files, &authority.issue_for_server());
    for (key, file) in ["server.tls.cert", "server.tls.key"].iter().zip(&files) {
        test_env.set(key, file.to_str().expect("text"));
    }
    (test_env, files)
}

fn write_pair(files: &[PathBuf; 2], pair: &[String; 2]) {
    for (file, text) in files.iter().zip(pair) {
        fs::write(file, text).expect("writable");
    }
}

/// The node's client, by TLS with `client`.
fn by_tls(node: &TestNode, client: Client) -> TestClient {
    let mut by_tls = node.api.clone();
    by_tls.base = format!("https://{}", node.inner.address());
    by_tls.client = client;
    by_tls
}

#[test]
fn a_renewed_certificate_is_presented_after_a_reload_and_open_connections_go_on() {
    run_async(async {
        let [first, second] = ["first", "second"].map(TestAuthority::new);
        let more = "[[sources.custom]]\nname = \"urls\"\nsecrets = [\"secret-of-the-urls-sender\"]\nentity = \"/e\"\n\
                    event = \"/t\"\nscheme = { header = \"x-sig\", algorithm = \"hmac-sha256\", signed = \"{url}.{body}\" }\n";
        let (mut test_env, files) = test_env(&first, &[]);
        test_env.write_file(more);
        let node = test_env.start().await;
        let known = by_tls(&node, first.client(None));
        assert_eq!(known.send_message("S", "m1").await.status, 202);
        let plain = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let plain = plain.get(format!("http://{}/healthz", node.inner.address()));
        assert!(plain.send().await.is_err(), "no answer in the clear");

        // The signed URL of a sender begins with https.
        let url = format!("{}/in/urls", known.base);
        let body = r#"{"e": "e1", "t": "t1"}"#;
        let signature = hex::encode(sha256(
            b"secret-of-the-urls-sender",
            &format!("{url}.{body}"),
        ));
        let signed = known
            .client
            .post(url)
            .header("x-sig", signature)
            .header("content-type", "application/json");
        assert_eq!(known.send_request(signed.body(body)).await.status, 200);

        // A key that does not belong to it: everything stays.
        let [certificate, _] = second.issue_for_server();
        let [_, other_key] = second.issue_for_server();
        write_pair(&files, &[certificate, other_key]);
        let refused = call(&known, TOKEN, Method::POST, "/api/v1/reload", &Value::Null).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(
            refused
                .text
                .contains("does not match the first certificate"),
            "{refused:?}"
        );
        let again = by_tls(&node, first.client(None));
        assert_eq!(again.get("/healthz").await.status, 200);

        let server = ExtendedKeyUsagePurpose::ServerAuth;
        write_pair(&files, &second.issue("node", server, 2097));
        let reloaded = call(&known, TOKEN, Method::POST, "/api/v1/reload", &Value::Null).await;
        assert_eq!(reloaded.status, 200, "{reloaded:?}");
        let end = "2097-12-31T00:00:00.000Z";
        assert_eq!(reloaded.body["certificate_ends_at"], end, "{reloaded:?}");
        let renewed = by_tls(&node, second.client(None));
        assert_eq!(renewed.send_message("S", "m2").await.status, 202);
        assert_eq!(
            known.send_message("S", "m3").await.status,
            202,
            "by its open connection"
        );
        let fresh = first.client(None).get(format!("{}/healthz", known.base));
        assert!(
            fresh.send().await.is_err(),
            "the former certificate is gone"
        );
        node.stop().await;
    });
}

#[test]
fn a_source_can_ask_for_certificates_of_clients() {
    run_async(async {
        let [servers, clients, strangers] =
            ["servers", "clients", "strangers"].map(TestAuthority::new);
        let (mut test_env, _) = test_env(
            &servers,
            &[
                ("sources.support.client_certificate", "required"),
                ("sources.leads.enabled", "true"),
            ],
        );
        let client_ca = test_env.folder.path().join("clients.pem");
        fs::write(&client_ca, clients.pem()).expect("writable");
        test_env.set("server.tls.client_ca", client_ca.to_str().expect("text"));
        let node = test_env.start().await;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;

        let without = by_tls(&node, servers.client(None));
        let refused = without.send_message("S", "m1").await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (401, &json!("client_certificate_required"))
        );
        assert_eq!(
            without.get("/api/v1/events").await.status,
            200,
            "the admin API asks for none"
        );
        let billing = servers.client(Some(clients.issue("billing", usage.clone(), 2096)));
        let known = by_tls(&node, billing);
        let accepted = known.send_message("S", "m1").await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let logs = without
            .get("/api/v1/webhooks/logs?is_successful=true")
            .await;
        assert_eq!(logs.body["items"][0]["token"], "CN=billing", "{logs:?}");

        for pair in [
            strangers.issue("billing", usage.clone(), 2096),
            clients.issue("old", usage, 2021),
        ] {
            let client = servers.client(Some(pair));
            let answer = client.get(format!("{}/healthz", known.base)).send().await;
            assert!(answer.is_err(), "the handshake fails: {answer:?}");
        }
        node.stop().await;
    });
}

#[test]
fn a_handshake_and_a_head_by_tls_have_a_deadline_and_count_against_the_address() {
    run_async(async {
        let authority = TestAuthority::new("authority");
        let limits = [
            ("server.request_timeout_s", "0.5"),
            ("server.connections_per_address_max", "2"),
        ];
        let (test_env, _) = test_env(&authority, &limits);
        let node = test_env.start().await;
        let address = node.inner.address();

        // Two that never begin take all that the address may have.
        let mut silent = [(); 2].map(|()| None);
        for stream in &mut silent {
            *stream = Some(TcpStream::connect(address).await.expect("it listens"));
        }
        let mut third = TcpStream::connect(address).await.expect("it listens");
        assert_eq!(
            expect_soon(third.read(&mut [0; 9])).await.unwrap_or(0),
            0,
            "closed at once"
        );
        for stream in silent.iter_mut().flatten() {
            let read = expect_soon(stream.read(&mut [0; 9])).await;
            assert_eq!(read.unwrap_or(0), 0, "the handshake has a deadline");
        }

        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let mut stream = connector.connect(name, stream).await.expect("a handshake");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("room");
        let mut answer = [0; 4096];
        let count = expect_soon(stream.read(&mut answer))
            .await
            .expect("an answer");
        assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{count}");
        // A later head that does not end.
        stream.write_all(b"GET").await.expect("room");
        let rest = async {
            let mut rest = Vec::new();
            // The connection may end without TLS's own farewell.
            let _ = stream.read_to_end(&mut rest).await;
            rest
        };
        expect_soon(rest).await;
        let node_api = by_tls(&node, authority.client(None));
        assert_eq!(
            node_api.get("/healthz").await.status,
            200,
            "there is room again"
        );
        node.stop().await;
    });
}

#[test]
fn the_commands_reach_a_node_with_tls_and_check_names_what_is_wrong_with_its_files() {
    run_async(async {
        let authority = TestAuthority::new("authority");
        let (test_env, files) = test_env(&authority, &[]);
        let node = test_env.start_process().await;
        let place = folder();
        let [cert, key] = files
            .each_ref()
            .map(|file| file.to_str().expect("text").to_owned());
        let port = node.base.rsplit(':').next().expect("a port").to_owned();
        let config = place.path().join("h.toml");
        let write = |cert: &str, key: &str| {
            let text = format!(
                "[server]\nbind = \"127.0.0.1:{port}\"\n[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n[admin]\ntoken = \"{TOKEN}\"\n"
            );
            fs::write(&config, text).expect("writable");
        };
        let run = |words: &[&str]| {
            let words = [words, &["--config", "h.toml"]].concat();
            output_of(&mut hookyard(place.path(), &words))
        };
        write(&cert, &key);
        assert_eq!(
            run(&["health"]),
            (Some(0), "ready\n".to_owned(), String::new())
        );
        let (code, out, error) = run(&["tokens", "list"]);
        assert_eq!(code, Some(0), "{error}");
        assert!(out.contains("config:admin"), "{out}");

        write(&cert, &cert);
        let (code, _, error) = run(&["check"]);
        assert_eq!(code, Some(1));
        assert!(
            error.contains("h.toml:5: server.tls.key: no private key found in"),
            "{error}"
        );
        write(&key, &key);
        let (_, _, error) = run(&["check"]);
        assert!(
            error.contains("h.toml:4: server.tls.cert: no certificate found in"),
            "{error}"
        );
        write(&cert, "");
        let (_, _, error) = run(&["check"]);
        assert!(error.contains("server.tls.key: missing"), "{error}");
        write("gone.pem", &key);
        let (_, _, error) = run(&["check"]);
        assert!(error.contains("gone.pem cannot be read"), "{error}");

        let old = authority.issue("node", ExtendedKeyUsagePurpose::ServerAuth, 2021);
        write_pair(&files, &old);
        write(&cert, &key);
        let (code, out, _) = run(&["check"]);
        assert_eq!(code, Some(0));
        assert!(
            out.contains("warning: the certificate in") && out.contains("ended at 2021-12-31"),
            "{out}"
        );
        let (code, out, _) = run(&["doctor"]);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.contains("ended at 2021-12-31"), "{out}");
        drop(node);
    });
}

#[test]
fn a_certificate_that_ends_soon_raises_an_alert() {
    run_async(async {
        let authority = TestAuthority::new("authority");
        let (test_env, files) = test_env(&authority, &[("alerts.check_interval_s", "0.05")]);
        let old = authority.issue("node", ExtendedKeyUsagePurpose::ServerAuth, 2021);
        write_pair(&files, &old);
        let node = test_env.start().await;
        // The client's own clock does not matter here: it trusts no other certificate either.
        let client = Client::builder()
            .no_proxy()
            .danger_accept_invalid_certs(true);
        let api = by_tls(&node, client.build().expect("a client"));
        let mut polls = tokio::time::interval(Duration::from_millis(20));
        let path = "/api/v1/events?kind=custom:alert&type=alert.raised";
        let raised = expect_soon(async {
            loop {
                polls.tick().await;
                let found = api.get(path).await;
                if found.body["total"] == 1 {
                    return found;
                }
            }
        });
        let raised = raised.await;
        assert_eq!(
            raised.body["items"][0]["entity"]["id"], "certificate_end",
            "{raised:?}"
        );
        node.stop().await;
    });
}

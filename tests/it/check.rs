//! `hookyard check --source`: a captured request against a source, with the real binary and no
//! node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use hookyard::config::Secret;
use serde::Deserialize;
use tempfile::TempDir;

/// Entry of `vectors.json`.
#[derive(Deserialize)]
struct CheckVector {
    preset: String,
    version: Option<String>,
    secret: String,
    public_key: Option<String>,
    #[serde(default)]
    body: String,
    form: Option<BTreeMap<String, String>>,
    url: Option<String>,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct CheckVectorFile {
    vectors: Vec<CheckVector>,
}

fn vectors() -> Vec<CheckVector> {
    serde_json::from_str::<CheckVectorFile>(include_str!("vectors.json"))
        .expect("vectors")
        .vectors
}

impl CheckVector {
    fn name(&self) -> String {
        format!(
            "{} {}",
            self.preset,
            self.version.as_deref().unwrap_or_default()
        )
    }

    fn body(&self) -> String {
        let form = self.form.as_ref().map(|form| {
            form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish()
        });
        form.unwrap_or_else(|| self.body.clone())
    }

    /// Returns the request as sent, with `line_end` after each line of the head.
    fn raw(&self, line_end: &str) -> String {
        let mut head = vec![
            format!("POST /in/{} HTTP/1.1", self.preset),
            "Host: hooks.example.com".to_owned(),
        ];
        head.extend(
            self.headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        );
        if self.form.is_some() {
            head.push("Content-Type: application/x-www-form-urlencoded".to_owned());
        }
        format!("{}{line_end}{line_end}{}", head.join(line_end), self.body())
    }

    /// Texts that no report may show: the secret, unless the body contains it, and the right
    /// signature.
    fn hidden(&self) -> impl Iterator<Item = &str> {
        let of_signature = |name: &str| {
            name.ends_with("signature") || name.ends_with("-v3") || name.contains("256")
        };
        let signatures = self
            .headers
            .iter()
            .filter(move |(name, _)| of_signature(&name.to_lowercase()));
        let signatures = signatures.map(|(_, text)| &text[text.len() - 20..]);
        let secret = Some(self.secret.trim_start_matches("whsec_"))
            .filter(|secret| !self.body().contains(secret));
        signatures.chain(secret)
    }

    /// Time of signing, as spelled in the headers.
    fn time(&self) -> Option<String> {
        let named = self
            .headers
            .iter()
            .find(|(name, _)| name.to_lowercase().ends_with("timestamp"));
        let in_signature = || {
            [
                "Stripe-Signature",
                "Calendly-Webhook-Signature",
                "Paddle-Signature",
            ]
            .iter()
            .find_map(|name| self.headers.get(*name))
            .and_then(|text| text.split(['=', ',', ';']).nth(1))
        };
        let in_body = || {
            let (_, text) = self.body.split_once("\"webhookTimestamp\":")?;
            Some(text.trim_end_matches('}'))
        };
        named
            .map(|(_, text)| text.as_str())
            .or_else(in_signature)
            .or_else(in_body)
            .map(str::to_owned)
    }
}

/// Folder with the configuration of one source, in which `check` runs.
struct CheckFolder(TempDir);

impl CheckFolder {
    fn new(table: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("h.toml"), table).expect("writable");
        Self(folder)
    }

    fn for_vector(vector: &CheckVector) -> Self {
        let secret = vector.public_key.as_ref().unwrap_or(&vector.secret);
        let entity = if vector.form.is_some() {
            "/CallSid"
        } else {
            "/id"
        };
        Self::new(&format!(
            "[[sources.custom]]\nname = {0:?}\npreset = {0:?}\nsecrets = [{secret:?}]\nentity = {entity:?}\nevent = \"Host\"\n",
            vector.preset
        ))
    }

    /// Returns exit code, report and errors.
    fn check(
        &self,
        source: &str,
        request: impl AsRef<[u8]>,
        more: &[&str],
    ) -> (Option<i32>, String, String) {
        fs::write(self.0.path().join("request.http"), request).expect("writable");
        let mut command = command_in(self.0.path());
        command
            .args([
                "check",
                "--config",
                "h.toml",
                "--source",
                source,
                "--request",
                "request.http",
            ])
            .args(more);
        output_of(&mut command)
    }
}

fn command_in(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookyard"));
    command.current_dir(folder).env_clear();
    command
}

fn output_of(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it starts");
    (
        status.code(),
        String::from_utf8(stdout).expect("text"),
        String::from_utf8(stderr).expect("text"),
    )
}

fn line<'a>(report: &'a str, name: &str) -> &'a str {
    let found = report
        .lines()
        .find(|line| line.trim_start().starts_with(name));
    found
        .unwrap_or_else(|| panic!("no {name} in\n{report}"))
        .trim_start()
        .trim_start_matches(name)
        .trim_start()
}

#[test]
fn every_vector_verifies_as_a_raw_request() {
    for vector in vectors() {
        let bench = CheckFolder::for_vector(&vector);
        let time = vector.time();
        let mut more: Vec<&str> = time.iter().flat_map(|time| ["--at", time]).collect();
        more.extend(vector.url.iter().flat_map(|url| ["--url", url]));
        for line_end in ["\r\n", "\n"] {
            let (_, report, error) = bench.check(&vector.preset, vector.raw(line_end), &more);
            assert_eq!(
                line(&report, "verification"),
                "ok",
                "{}: {report}{error}",
                vector.name()
            );
            for hidden in vector.hidden() {
                assert!(
                    !report.contains(hidden),
                    "{}: {hidden} is shown in {report}",
                    vector.name()
                );
            }
        }
        let changed = vector
            .raw("\n")
            .replace(&vector.body(), &vector.body().replacen(['e', 'l'], "x", 1));
        let (code, report, error) = bench.check(&vector.preset, changed, &more);
        assert_eq!(
            (code, line(&report, "verification")),
            (Some(1), "failed"),
            "{}: {report}{error}",
            vector.name()
        );
    }
}

#[test]
fn decoding_and_verification_are_reported_separately() {
    let bench = CheckFolder::new(
        "[[sources.custom]]\nname = \"billing\"\npreset = \"stripe\"\nsecrets = [\"whsec_test_secret\"]\n",
    );
    let stripe = vectors()
        .into_iter()
        .find(|vector| vector.preset == "stripe")
        .expect("a vector");
    let at = ["--at", "2017-04-21T11:37:57Z"];
    let (code, report, error) = bench.check("billing", stripe.raw("\n"), &at);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(
        (line(&report, "source"), line(&report, "verification")),
        ("billing (preset stripe)", "ok")
    );
    assert_eq!(line(&report, "header"), "stripe-signature");
    assert_eq!(line(&report, "signature"), "HMAC-SHA256, 1 to compare");
    assert!(
        line(&report, "signed").starts_with("{timestamp}.{body}: 53 bytes, SHA-256 "),
        "{report}"
    );
    assert_eq!(
        line(&report, "time"),
        "2017-04-21T11:36:17.000Z, 100 s ago; up to 300 s are accepted"
    );
    assert_eq!(
        (line(&report, "decoding"), line(&report, "entity")),
        ("ok", "custom:billing unmatched"),
        "an authentic event is never refused"
    );
    assert!(
        report.contains("entity is not at any of its 8 places"),
        "{report}"
    );

    let whole = r#"{"id": "evt_1", "type": "invoice.paid", "created": 1492774577, "data": {"object": {"id": "in_7"}}}"#;
    let unsigned = format!("POST /in/billing HTTP/1.1\nHost: h\n\n{whole}");
    let (code, report, _) = bench.check("billing", unsigned, &[]);
    assert_eq!((code, line(&report, "verification")), (Some(1), "failed"));
    assert_eq!(
        line(&report, "reason"),
        "header stripe-signature is missing"
    );
    assert_eq!(
        (line(&report, "decoding"), line(&report, "entity")),
        ("ok", "custom:billing in_7")
    );
    assert_eq!(
        (line(&report, "event"), line(&report, "key")),
        ("billing.invoice.paid", "evt_1")
    );
    assert!(report.contains("2017-04-21T11:36:17.000Z"), "{report}");
    assert!(
        !bench.0.path().join("hookyard-data").exists(),
        "nothing is made by checking"
    );
}

#[test]
fn the_place_that_found_a_field_is_reported_if_there_are_several() {
    let bench = CheckFolder::new(
        "[[sources.custom]]\nname = \"door\"\nsecrets = [\"hush-hush-hush-hush-hush\"]\n\
         entity = [\"/repository/full_name\", \"organization:{/organization/login}\", \"account\"]\n\
         event = [\"X-Event\", \"ping\"]\noccurred_at = \"/at\"\n\
         scheme = { header = \"X-Token\", algorithm = \"token\" }\n",
    );
    let request = |body: &str| {
        format!("POST /in/door HTTP/1.1\nHost: h\nX-Token: hush-hush-hush-hush-hush\n\n{body}")
    };
    let (code, report, _) = bench.check(
        "door",
        request(r#"{"organization": {"login": "octo"}, "at": 7}"#),
        &[],
    );
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        ["entity", "entity from", "event", "event from", "time"].map(|name| line(&report, name)),
        [
            "custom:door organization:octo",
            "as organization:{/organization/login} (place 2 of 3)",
            "door.ping",
            "as ping (place 2 of 2)",
            "1970-01-01T00:00:07.000Z",
        ]
    );
    assert!(
        !report.contains("time from") && !report.contains("is not at"),
        "{report}"
    );
    let (_, report, _) = bench.check("door", request("{}"), &[]);
    assert_eq!(line(&report, "entity"), "custom:door account");
    let warning = "occurred_at is not at /at; the time of arrival counts";
    assert!(report.contains(warning), "{report}");
    // A token covers no content, which the report did not say.
    assert!(line(&report, "warning").starts_with("the body is not signed"));
    assert!(line(&report, "not signed").starts_with("everything"));
}

#[test]
fn a_request_that_would_be_taken_is_a_success() {
    let table = "[[sources.custom]]\nname = \"door\"\nentity = \"/id\"\nevent = \"X-Event\"\n\
                 scheme = { header = \"Authorization\", algorithm = \"token\", prefix = \"Bearer \" }\n";
    let bench = CheckFolder::new(table);
    let request = "POST /in/door HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer hush\r\nX-Event: opened\r\n\r\n{\"id\": 7}";
    fs::write(bench.0.path().join("request.http"), request).expect("writable");
    let mut command = command_in(bench.0.path());
    command.args([
        "check",
        "--config",
        "h.toml",
        "--source",
        "door",
        "--request",
        "request.http",
    ]);
    let (code, report, error) =
        output_of(command.env("HOOKYARD_SOURCES__CUSTOM__DOOR__SECRETS", "old,hush"));
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(
        (line(&report, "request"), line(&report, "keys")),
        ("POST http://h/in/door, 9 bytes", "2")
    );
    assert!(
        report.contains("none, so no event is a duplicate") && !report.contains("hush"),
        "{report}"
    );
}

#[test]
fn the_report_explains_clock_url_and_end_of_file() {
    let vectors = vectors();
    let find = |preset: &str, version: Option<&str>| {
        vectors
            .iter()
            .find(|v| v.preset == preset && v.version.as_deref() == version)
            .expect("a vector")
    };
    let hubspot = find("hubspot", Some("v3"));
    let bench = CheckFolder::for_vector(hubspot);
    let (_, report, _) = bench.check(
        "hubspot",
        hubspot.raw("\n"),
        &[
            "--at",
            "1700000301",
            "--url",
            "https://www.example.com/webhook_uri",
        ],
    );
    assert_eq!(
        line(&report, "time"),
        "2023-11-14T22:13:20.000Z, 301 s ago; up to 300 s are accepted"
    );
    assert_eq!(
        line(&report, "reason"),
        "signed timestamp is outside the tolerance of this node's clock"
    );
    let (_, report, _) = bench.check("hubspot", hubspot.raw("\n"), &["--at", "1700000000"]);
    assert_eq!(
        line(&report, "request"),
        "POST http://hooks.example.com/in/hubspot, 33 bytes"
    );
    assert_eq!(
        line(&report, "reason"),
        "signature is missing or does not match this request"
    );
    assert!(
        line(&report, "hint").starts_with("the URL is signed too"),
        "{report}"
    );

    let shopify = find("shopify", None);
    let (_, report, _) =
        CheckFolder::for_vector(shopify).check("shopify", shopify.raw("\n") + "\n", &[]);
    assert!(
        line(&report, "hint").starts_with("the signature matches without the line end"),
        "{report}"
    );
}

#[test]
fn handshakes_are_told_apart_from_events() {
    let intercom = vectors()
        .into_iter()
        .find(|vector| vector.preset == "intercom")
        .expect("a vector");
    let (code, report, _) =
        CheckFolder::for_vector(&intercom).check("intercom", intercom.raw("\n"), &[]);
    assert_eq!(
        (code, line(&report, "handshake")),
        (Some(0), "a ping; no event")
    );
    let bench = CheckFolder::new(
        "[[sources.custom]]\nname = \"pages\"\npreset = \"meta\"\nverify_token = \"hunter2\"\nentity = \"/id\"\nevent = \"/object\"\n",
    );
    let subscription = |token: &str| {
        format!(
            "GET /in/pages?hub.mode=subscribe&hub.challenge=1&hub.verify_token={token} HTTP/1.1\nHost: h\n\n"
        )
    };
    let (code, report, _) = bench.check("pages", subscription("hunter2"), &[]);
    assert_eq!(
        (code, line(&report, "verification")),
        (Some(0), "ok"),
        "{report}"
    );
    let (code, report, _) = bench.check("pages", subscription("other"), &[]);
    assert_eq!(
        (code, line(&report, "verification")),
        (Some(1), "failed"),
        "{report}"
    );
}

#[test]
fn a_support_event_can_be_checked_too() {
    let bench = CheckFolder::new(
        "[sources.support]\napi_keys = [\"test-key\"]\nsecrets = [\"test-secret\"]\n",
    );
    let at = "2025-12-04T10:30:00Z";
    let body = r#"{"event": "status.changed", "support_uid": "SUP-1", "idempotency_key": "k1", "data": {"status": "open"}}"#;
    let signature = hookyard::edge::support::signature::sign_support_body(
        &Secret::new("test-secret"),
        body.as_bytes(),
        at,
    );
    let request = |key: &str| {
        format!(
            "POST /api/v0/crm/webhooks/support/ HTTP/1.1\nX-CRM-API-Key: {key}\nX-CRM-Signature: {signature}\nX-CRM-Timestamp: {at}\n\n{body}"
        )
    };
    let (code, report, error) = bench.check("support", request("test-key"), &["--at", at]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(
        (line(&report, "entity"), line(&report, "event")),
        ("ticket SUP-1", "status.changed")
    );
    let (code, report, _) = bench.check("support", request("other"), &["--at", at]);
    assert_eq!(
        (
            code,
            line(&report, "verification"),
            line(&report, "decoding")
        ),
        (Some(1), "failed", "ok")
    );
    assert_eq!(line(&report, "x-crm-api-key"), "wrong");
    let (code, report, _) = bench.check(
        "support",
        request("test-key"),
        &["--at", "2025-12-04T10:36:00Z"],
    );
    assert_eq!((code, line(&report, "time is recent")), (Some(1), "no"));
}

/// JSON request to `path` with `headers`, each of which includes its line end.
fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\nHost: h\nContent-Type: application/json\n{headers}\n{body}")
}

fn halves(report: &str) -> (&str, &str) {
    (line(report, "verification"), line(report, "decoding"))
}

#[test]
fn an_event_of_a_lead_is_checked_by_its_path_and_its_signature() {
    use hookyard::edge::leads::signature::sign_lead_body;
    let bench = CheckFolder::new("[sources.leads]\nsecrets = [\"test-secret\"]\n");
    let body = r#"{"event": "lead_update", "source": "crm", "data": {"city": "Lyon"}}"#;
    let signature = format!(
        "X-Webhook-Signature: sha256={}\n",
        sign_lead_body(&Secret::new("test-secret"), body.as_bytes())
    );
    let path = "/api/v1/webhooks/incoming/lead/7/update";
    let (code, report, error) = bench.check("leads", post(path, &signature, body), &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(
        (line(&report, "entity"), line(&report, "event")),
        ("lead 7", "lead.updated")
    );
    assert_eq!(line(&report, "signature"), "valid");

    let (code, report, _) = bench.check("leads", post(path, "", body), &[]);
    assert_eq!((code, halves(&report)), (Some(1), ("failed", "failed")));
    assert_eq!(
        line(&report, "reason"),
        "not decoded, because the signature is wrong"
    );
    for (path, reason) in [
        (
            "/api/v1/webhooks/incoming/lead/7/memo/add",
            "event must be lead_memo_add here",
        ),
        ("/api/v1/webhooks/incoming", "lead_id is required"),
        (
            "/api/v1/webhooks/incoming/lead/x/update",
            "the id in the path is not a number",
        ),
        ("/incoming", "not a path of leads"),
    ] {
        let (code, report, _) = bench.check("leads", post(path, &signature, body), &[]);
        assert_eq!(
            (code, halves(&report)),
            (Some(1), ("ok", "failed")),
            "{path}"
        );
        assert!(report.contains(reason), "{path}: {report}");
    }
    let open = CheckFolder::new("");
    let new =
        r#"{"event": "new_lead", "source": "crm", "data": {"first_name": "Ada", "phone": "1"}}"#;
    let (code, report, _) = open.check(
        "leads",
        post("/api/v1/webhooks/incoming/", "Idempotency-Key: k\n", new),
        &[],
    );
    assert_eq!(
        (code, line(&report, "entity"), line(&report, "key")),
        (Some(0), "a new lead", "k"),
        "{report}"
    );
    assert_eq!(
        line(&report, "signature"),
        "not required: the source has no secrets"
    );
}

#[test]
fn events_of_contact2sale_are_counted_and_their_token_checked() {
    let bench = CheckFolder::new("[sources.c2s]\ntokens = [\"hunter2\"]\n");
    let request = |token: &str, body: &str| {
        post(
            "/api/v1/webhooks/c2s",
            &format!("X-Webhook-Token: {token}\n"),
            body,
        )
    };
    let list = r#"[{"lead_id": 7, "updated_at": "2025-01-20T10:00:00Z"}, {"lead_id": 8}]"#;
    let (code, report, error) = bench.check("c2s", request("hunter2", list), &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(line(&report, "events"), "2, of which 1 would be refused");
    assert_eq!(
        line(&report, "event "),
        "[0] c2s_lead 7 at 2025-01-20T10:00:00.000Z"
    );
    assert_eq!(line(&report, "reason"), "[1] updated_at is required");
    let (code, report, _) = bench.check("c2s", request("other", list), &[]);
    assert_eq!(
        (code, halves(&report)),
        (Some(1), ("failed", "ok")),
        "decoded all the same"
    );
    assert!(!report.contains("hunter2"), "{report}");
    let (code, report, _) = bench.check("c2s", request("hunter2", r#"{"lead_id": 8}"#), &[]);
    assert_eq!((code, halves(&report)), (Some(1), ("ok", "failed")));
    assert_eq!(line(&report, "reason"), "updated_at is required");
    let single = r#"{"lead_id": "7", "updated_at": "2025-01-20T10:00:00Z"}"#;
    let (code, report, _) = bench.check("c2s", request("hunter2", single), &[]);
    assert_eq!((code, line(&report, "entity")), (Some(0), "c2s_lead 7"));
    let typed = request("hunter2", single).replace("application/json", "text/plain");
    assert_eq!(
        bench.check("c2s", typed, &[]).0,
        Some(1),
        "a node takes JSON only"
    );
}

#[test]
fn updates_and_the_handshake_of_instagram_are_checked() {
    use hookyard::edge::instagram::signature::sign_instagram_body;
    let bench = CheckFolder::new(
        "[sources.instagram]\napp_secrets = [\"test-app\"]\nverify_token = \"hunter2\"\n",
    );
    let body = r#"{"object": "instagram", "entry": [{"id": "9", "time": 1762597800000, "messaging": [
        {"sender": {"id": "1"}, "recipient": {"id": "9"}, "timestamp": 1762597800000, "message": {"mid": "m", "text": "my card"}}]}]}"#;
    let request = |body: &str| {
        let signature = sign_instagram_body(&Secret::new("test-app"), body.as_bytes());
        post(
            "/webhooks/instagram",
            &format!("X-Hub-Signature-256: {signature}\n"),
            body,
        )
    };
    let (code, report, error) = bench.check("instagram", request(body), &[]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(
        (line(&report, "updates"), line(&report, "event")),
        ("1", "message.received of conv_1_9")
    );
    assert!(!report.contains("my card"), "{report}");
    let (code, report, _) = bench.check(
        "instagram",
        request(body).replace("my card", "my cart"),
        &[],
    );
    assert_eq!((code, halves(&report)), (Some(1), ("failed", "failed")));
    let (code, report, _) = bench.check(
        "instagram",
        request(r#"{"object": "page", "entry": []}"#),
        &[],
    );
    assert_eq!((code, halves(&report)), (Some(1), ("ok", "failed")));
    assert_eq!(line(&report, "reason"), "object must be one of instagram");

    let handshake = |token: &str| {
        format!(
            "GET /webhooks/instagram?hub.mode=subscribe&hub.challenge=1&hub.verify_token={token} HTTP/1.1\nHost: h\n\n"
        )
    };
    let (code, report, _) = bench.check("instagram", handshake("hunter2"), &[]);
    assert_eq!(
        (code, line(&report, "handshake")),
        (Some(0), "a subscription; a node returns the challenge")
    );
    assert_eq!(bench.check("instagram", handshake("other"), &[]).0, Some(1));
}

#[test]
fn events_of_the_bus_are_checked_one_by_one() {
    let bench = CheckFolder::new(
        "[admin]\ntoken = \"test-admin\"\n[sources.crm]\ntokens = [\"hunter2\"]\nevents = [\"invoice.paid\"]\n",
    );
    let request = |token: &str, body: &str| {
        post(
            "/api/v1/events",
            &format!("Authorization: Bearer {token}\nIdempotency-Key: k-1\n"),
            body,
        )
    };
    let paid = r#"{"event": "invoice.paid", "data": {"invoice_id": "I-1"}}"#;
    for token in ["hunter2", "test-admin"] {
        let (code, report, error) = bench.check("crm", request(token, paid), &[]);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
        assert_eq!(
            (line(&report, "entity"), line(&report, "key")),
            ("custom:invoice I-1", "k-1")
        );
        assert!(!report.contains("hunter2"), "{report}");
    }
    let (code, report, _) = bench.check("crm", request("other", paid), &[]);
    assert_eq!((code, halves(&report)), (Some(1), ("failed", "ok")));
    let list =
        format!(r#"[{paid}, {{"event": "person.created", "data": {{}}}}, {{"event": "x.y"}}]"#);
    let (code, report, _) = bench.check("crm", request("hunter2", &list), &[]);
    assert_eq!(
        (code, line(&report, "events")),
        (Some(0), "3, of which 2 would be refused"),
        "{report}"
    );
    assert_eq!(
        line(&report, "reason"),
        "[1] data.person_id is required, or data.id"
    );
    for (body, reason) in [
        ("[]", "a list holds 1 to 1000 events, not 0"),
        ("{", "body is not valid JSON"),
    ] {
        let (code, report, _) = bench.check("crm", request("hunter2", body), &[]);
        assert_eq!((code, halves(&report)), (Some(1), ("ok", "failed")));
        assert!(line(&report, "reason").starts_with(reason), "{report}");
    }
}

#[test]
fn uncheckable_requests_are_reported() {
    let bench = CheckFolder::new("[[sources.custom]]\nname = \"billing\"\npreset = \"stripe\"\n");
    let (code, _, error) = bench.check("biling", "POST / HTTP/1.1\n\n", &[]);
    assert_eq!(
        (code, error.as_str()),
        (
            Some(1),
            "error: unknown source \"biling\"; the sources are support, leads, c2s, instagram, crm, billing\n"
        )
    );
    let (code, _, error) = bench.check("billing", "{}", &[]);
    assert_eq!(
        (code, error.as_str()),
        (
            Some(1),
            "error: request.http is not an HTTP request: no empty line after the headers\n"
        )
    );
    let vector = vectors()
        .into_iter()
        .find(|vector| vector.preset == "stripe")
        .expect("a vector");
    let (code, report, _) = bench.check("billing", vector.raw("\n"), &["--at", "1492774577"]);
    assert_eq!(
        (code, line(&report, "hint")),
        (Some(1), "the source has no secret yet")
    );
    let (code, _, error) =
        output_of(command_in(bench.0.path()).args(["check", "--source", "billing"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("--request"), "{error}");
    let (code, _, error) = bench.check("billing", "", &["--at", "soon"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("RFC 3339"), "{error}");
}

/// Sources with a token, of which the requests are made below.
fn token_source(more: &str) -> CheckFolder {
    CheckFolder::new(&format!(
        "[server]\nbody_limit_bytes = 2000\n[[sources.custom]]\nname = \"door\"\n\
         secrets = [\"hush-hush-hush-hush-hush\"]\nentity = [\"./of\", \"/of\"]\nevent = [\"./type\", \"/type\"]\n\
         idempotency_key = [\"./id\", \"/id\"]\nitems = \"\"\n\
         scheme = {{ header = \"X-Token\", algorithm = \"token\" }}\n{more}"
    ))
}

fn door_request(body: &str) -> String {
    format!("POST /in/door HTTP/1.1\nHost: h\nX-Token: hush-hush-hush-hush-hush\n\n{body}")
}

/// The command said that all was well where a node refuses.
#[test]
fn what_a_node_would_refuse_is_no_success() {
    let folder = token_source("");
    let large = format!(
        r#"{{"id": "1", "type": "t", "of": {:?}}}"#,
        "x".repeat(2_000)
    );
    let (code, report, _) = folder.check("door", door_request(&large), &[]);
    assert_eq!(
        (code, line(&report, "reason")),
        (
            Some(1),
            "body is larger than 2000 bytes; a node answers 413"
        )
    );

    let (code, report, _) = folder.check(
        "door",
        door_request(r#"[{"id": "1", "type": "t", "of": "a"}, {"id": "2", "type": "t"}, {"id": "1", "type": "t", "of": "b"}]"#),
        &[],
    );
    assert_eq!(code, Some(1), "{report}");
    assert!(
        line(&report, "reason")
            .starts_with("item 2 has the key of item 0 and other content; a node answers 409"),
        "{report}"
    );
    let same = r#"[{"id": "1", "type": "t"}, {"id": "1", "type": "t"}]"#;
    assert_eq!(
        folder.check("door", door_request(same), &[]).0,
        Some(0),
        "a duplicate"
    );
    let (code, report, _) = folder.check("door", door_request("[]"), &[]);
    assert_eq!(
        (code, line(&report, "events")),
        (Some(0), "none: the list is empty, and a node answers 200")
    );

    let strict = token_source("schemas = \"forms\"\nschema_violations = \"refuse\"\n");
    fs::create_dir(strict.0.path().join("forms")).expect("writable");
    fs::write(
        strict.0.path().join("forms/t.json"),
        r#"{"required": ["of"]}"#,
    )
    .expect("writable");
    let unfit = r#"{"id": "1", "type": "t"}"#;
    let (code, report, _) = strict.check("door", door_request(unfit), &[]);
    let reason =
        "event does not fit its schema: / breaks /required: without of; a node answers 400";
    assert_eq!((code, line(&report, "reason")), (Some(1), reason));
    let (code, report, _) = strict.check("door", door_request(&format!("[{unfit}]")), &[]);
    assert_eq!((code, halves(&report)), (Some(1), ("ok", "failed")));
}

#[test]
fn the_report_hints_at_a_cut_file_a_prefix_and_a_signature_that_counts() {
    let cut = door_request("{}").replace("Host: h", "Host: h\nContent-Length: 3");
    let (_, report, _) = token_source("").check("door", cut, &[]);
    assert_eq!(
        line(&report, "hint"),
        "Content-Length is 3, but the body in the file has 2 bytes"
    );

    let own = |scheme: &str| {
        CheckFolder::new(&format!(
            "[[sources.custom]]\nname = \"door\"\nsecrets = [\"hush-hush-hush-hush-hush\"]\nentity = \"/id\"\n\
             event = \"/type\"\nscheme = {{ {scheme} }}\n"
        ))
    };
    let request = |head: &str| format!("POST /in/door HTTP/1.1\nHost: h\n{head}\n\n{{}}");
    let plain = own("header = \"X-Sig\", algorithm = \"hmac-sha256\"");
    let (_, report, _) = plain.check("door", request("X-Sig: sha256=00ff"), &[]);
    assert_eq!(
        line(&report, "hint"),
        "the value begins with `sha256=`: set prefix = \"sha256=\""
    );

    let jwt =
        own("format = \"jwt\", header = \"X-Jwt\", algorithm = \"hmac-sha256\", body_hash = \"h\"");
    let (_, report, _) = jwt.check("door", request("X-Jwt: e30.e30.AA"), &[]);
    assert_eq!(
        line(&report, "key"),
        "none; the signature counts, which covers a time"
    );
}

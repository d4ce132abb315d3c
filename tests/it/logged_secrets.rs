//! Secrets of each test, of which none may be in the log of a node: every node of the suite is
//! watched, and a test fails with the place of the secret that its node logged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::process::Command;
use std::sync::{Arc, Once};
use std::thread;

use hookyard::config::is_secret_key;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap};
use serde_json::Value;

/// Text in messages of the common fixture.
pub const MESSAGE_TEXT: &str = "words-of-a-person-that-no-log-may-hold";

/// Beginning of a link that logs in to the dashboard. Only a development node prints one, on standard
/// output.
const LOGIN_LINK: &str = "/dashboard/login?link=";

/// Fewest bytes of a secret that cannot be in a log by chance.
const DISTINCTIVE_BYTES: usize = 8;

/// Level of the nodes in this process: all lines of the project, warnings of libraries.
const OWN_LEVEL: &str = "hookyard=debug,warn";

/// Headers of requests that hold a secret.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "x-crm-api-key",
    "x-webhook-token",
    "x-gitlab-token",
];

/// Members of requests, answers and forms that hold a secret.
const SECRET_MEMBERS: [&str; 6] = [
    "secret",
    "webhook_secret",
    "access_token",
    "app_secret",
    "verify_token",
    "client_secret",
];

/// Place of a secret in the body of a request.
const REQUEST: &str = "request";

/// Secrets that a test gives to its nodes or gets from them, each with its place. Clones share them.
#[derive(Clone, Debug)]
pub struct TestSecrets(Arc<Mutex<BTreeMap<String, String>>>);

impl TestSecrets {
    /// Starts with what every test has.
    pub fn new() -> Self {
        let secrets = Self(Arc::default());
        secrets.note("text of a message", MESSAGE_TEXT);
        secrets.note("login link", LOGIN_LINK);
        secrets
    }

    pub fn note(&self, place: &str, secret: &str) {
        assert!(
            secret.len() >= DISTINCTIVE_BYTES,
            "{place}: this test's secret is so short that a log may hold it by chance"
        );
        let mut known = self.0.lock();
        known
            .entry(secret.to_owned())
            .or_insert_with(|| place.to_owned());
    }

    /// Notes what a caller claims to be a credential; short words are no node's secrets.
    fn note_claim(&self, place: &str, claim: &str) {
        if claim.len() >= DISTINCTIVE_BYTES {
            self.note(place, claim);
        }
    }

    /// Notes the secrets among the variables that `command` sets.
    pub fn note_variables(&self, command: &Command) {
        for (name, value) in command.get_envs() {
            if let (Some(name), Some(value)) = (name.to_str(), value.and_then(OsStr::to_str)) {
                self.note_variable(name, value);
            }
        }
    }

    pub fn note_variable(&self, name: &str, value: &str) {
        let Some(key) = name.strip_prefix("HOOKYARD_") else {
            return;
        };
        let key = key.to_lowercase().replace("__", ".");
        if let Some(key) = key.strip_suffix("_file") {
            let content = std::fs::read_to_string(value).unwrap_or_default();
            self.note_setting(key, &content);
        } else {
            self.note_setting(&key, value);
        }
    }

    fn note_setting(&self, key: &str, value: &str) {
        self.note_login(key, value);
        if is_secret_key(key) {
            // The items of a list; a header's value stands behind its name.
            for item in value.split(',').map(str::trim) {
                let is_header = key.ends_with("otlp_headers");
                let item = item
                    .split_once('=')
                    .filter(|_| is_header)
                    .map_or(item, |(_, value)| value);
                if !item.is_empty() {
                    self.note(key, item);
                }
            }
        }
    }

    /// Notes the secrets of a configuration file.
    pub fn note_file(&self, text: &str) {
        if let Ok(table) = text.parse::<toml::Table>() {
            self.note_toml("", &toml::Value::Table(table));
        }
    }

    fn note_toml(&self, key: &str, value: &toml::Value) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    self.note_toml(&format!("{key}.{name}"), value);
                }
            }
            toml::Value::Array(items) => items.iter().for_each(|item| self.note_toml(key, item)),
            toml::Value::String(text) => {
                self.note_setting(key.trim_start_matches('.'), text);
            }
            _ => {}
        }
    }

    /// Notes name and password in a URL.
    fn note_login(&self, place: &str, url: &str) {
        let login = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        if let Some((login, _)) = login {
            self.note_claim(&format!("login in {place}"), login);
        }
    }

    /// Notes the secrets in headers and body of a request.
    pub fn note_request(&self, request: &reqwest::Request) {
        let headers = request.headers();
        for name in SECRET_HEADERS {
            for value in headers.get_all(name) {
                let value = value.to_str().unwrap_or_default();
                let credential = value.split_once(' ').map_or(value, |(_, rest)| rest);
                self.note_claim(name, credential);
            }
        }
        self.note_cookies(headers);
        let Some(body) = request.body().and_then(reqwest::Body::as_bytes) else {
            return;
        };
        let is_form = headers
            .get(CONTENT_TYPE)
            .is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/x-www-form"));
        if is_form {
            for (name, value) in url::form_urlencoded::parse(body) {
                if name == "token" || name == "csrf" || SECRET_MEMBERS.contains(&&*name) {
                    self.note_claim(&name, &value);
                }
            }
        } else if let Ok(body) = serde_json::from_slice::<Value>(body) {
            self.note_json(REQUEST, &body);
        }
    }

    fn note_cookies(&self, headers: &HeaderMap) {
        for cookies in headers.get_all(COOKIE) {
            let cookies = cookies.to_str().unwrap_or_default().split(';');
            for (_, value) in cookies.filter_map(|cookie| cookie.split_once('=')) {
                self.note_claim("cookie", value);
            }
        }
    }

    /// Notes the secrets among the members of `value`, in whatever depth. A masked one is none.
    pub fn note_json(&self, place: &str, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.note_json(place, item)),
            Value::Object(members) => {
                for (name, value) in members {
                    let place = format!("{place}.{name}");
                    match value {
                        Value::String(text) if text.contains('…') => {}
                        Value::String(text) if name == "url" => self.note_login(&place, text),
                        Value::String(text) if SECRET_MEMBERS.contains(&name.as_str()) => {
                            self.note_claim(&place, text);
                        }
                        // In an answer they are those of a call, of which most are no secrets.
                        Value::Object(headers)
                            if name == "headers" && place.starts_with(REQUEST) =>
                        {
                            for (name, value) in headers {
                                let value = value.as_str().filter(|value| !value.contains('…'));
                                self.note_claim(&format!("{place}.{name}"), value.unwrap_or(""));
                            }
                        }
                        value => self.note_json(&place, value),
                    }
                }
            }
            _ => {}
        }
    }

    /// Describes each known secret that is in `log`, by its place and the line without it.
    fn find_in(&self, log: &str) -> Vec<String> {
        let known = self.0.lock();
        let found = known.iter().filter_map(|(secret, place)| {
            let line = log.lines().find(|line| line.contains(secret))?;
            Some(format!("{place}: {}", line.replace(secret, "█")))
        });
        found.collect()
    }

    /// Fails if `log` holds a known secret.
    pub fn assert_not_in(&self, log: &str) {
        if thread::panicking() {
            return;
        }
        let found = self.find_in(log);
        assert!(
            found.is_empty(),
            "the log holds secrets of this test; their places and the lines:\n{}",
            found.join("\n")
        );
    }
}

/// Lines of all nodes in this process.
static OWN_LINES: Mutex<String> = Mutex::new(String::new());

/// Writer of one line to [`OWN_LINES`].
struct OwnLine;

impl io::Write for OwnLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = OWN_LINES.lock();
        lines.push_str(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Watch over the lines that this process logs while a node of it runs. The end of the watch fails
/// the test if a secret is among them.
pub struct OwnLogWatch {
    secrets: TestSecrets,
    /// Length of the log at the start of the node.
    start: usize,
}

impl OwnLogWatch {
    pub fn start(secrets: &TestSecrets) -> Self {
        static LOGGING: Once = Once::new();
        LOGGING.call_once(|| {
            tracing_subscriber::fmt()
                .with_env_filter(OWN_LEVEL)
                .with_ansi(false)
                .with_writer(|| OwnLine)
                .init();
        });
        Self {
            secrets: secrets.clone(),
            start: OWN_LINES.lock().len(),
        }
    }
}

impl Drop for OwnLogWatch {
    fn drop(&mut self) {
        let lines = OWN_LINES.lock()[self.start..].to_owned();
        self.secrets.assert_not_in(&lines);
    }
}

#[test]
fn a_secret_in_a_log_is_found_and_not_shown() {
    let secrets = TestSecrets::new();
    secrets.note_variable(
        "HOOKYARD_SOURCES__SUPPORT__SECRETS",
        "first-of-two,second-of-two",
    );
    secrets.note_variable("HOOKYARD_SERVER__BIND", "127.0.0.1:9000");
    secrets.note_file("[[sources.custom]]\nname = \"shop-of-ada\"\nsecrets = [\"in-the-file\"]\n");
    let body = serde_json::json!({"secret": "in-the-body", "headers": {"X-Key": "in-a-header"}});
    secrets.note_json(REQUEST, &body);
    let shown = serde_json::json!({"items": [{"secret": "in-the-answer"}, {"secret": "…answer"}]});
    secrets.note_json("answer", &shown);

    for secret in [
        "second-of-two",
        "in-the-file",
        "in-the-body",
        "in-a-header",
        "in-the-answer",
        MESSAGE_TEXT,
    ] {
        let found = secrets.find_in(&format!("node ready\nwhat x={secret}y\n"));
        assert_eq!(found.len(), 1, "{secret}");
        assert!(found[0].ends_with(": what x=█y"), "{found:?}");
    }
    assert!(
        secrets
            .find_in("127.0.0.1:9000 shop-of-ada …answer")
            .is_empty()
    );
}

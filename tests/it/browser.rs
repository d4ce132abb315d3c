//! The pages in a real browser: Chromium, driven through chromedriver (W3C WebDriver). Run with `--
//! --ignored`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::c2s;
use crate::docs::ENABLED;
use crate::instagram::APP_SECRET;
use crate::senders::DESCRIBED;
use crate::test_node::{API_KEY, SECRET, TOKEN, expect_soon, run_async};

/// Headless browser in a session of its own.
struct BrowserSession {
    client: Client,
    session: String,
    driver: Child,
    _profile: TempDir,
}

impl BrowserSession {
    async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver is installed (Debian: chromium-driver)");
        let output = BufReader::new(driver.stdout.take().expect("a pipe"));
        let port = output.lines().find_map(|line| {
            let line = line.expect("text");
            line.contains("started successfully").then(|| {
                line.rsplit(' ')
                    .next()
                    .map(|end| end.trim_end_matches('.').to_owned())
            })?
        });
        let base = format!(
            "http://127.0.0.1:{}",
            port.expect("chromedriver says where it listens")
        );
        let profile = tempfile::tempdir().expect("a temporary folder");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ];
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<_> = arguments
            .iter()
            .copied()
            .chain([profile_argument.as_str()])
            .collect();
        let client = Client::builder().no_proxy().build().expect("a client");
        let mut browser = Self {
            client,
            session: format!("{base}/session"),
            driver,
            _profile: profile,
        };
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}}});
        let made = browser.ask(Method::POST, "", wanted).await;
        browser.session = format!(
            "{}/{}",
            browser.session,
            made["sessionId"].as_str().expect("a session")
        );
        browser
            .ask(
                Method::POST,
                "/timeouts",
                json!({"script": 60_000, "pageLoad": 60_000}),
            )
            .await;
        browser
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self
            .client
            .request(method, format!("{}{path}", self.session))
            .body(body.to_string());
        let text = expect_soon(request.send())
            .await
            .expect("answered")
            .text()
            .await
            .expect("a body");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{value:#}");
        value
    }

    async fn open(&self, url: &str) {
        self.ask(Method::POST, "/url", json!({ "url": url })).await;
    }

    /// Runs `script` and returns its result, which may be a promise.
    async fn run(&self, script: &str, arguments: Value) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async (...given) => {{ {script} }})(...arguments).then(done, error => done('' + error.stack))"
        );
        self.ask(
            Method::POST,
            "/execute/async",
            json!({"script": script, "args": arguments}),
        )
        .await
    }
}

impl Drop for BrowserSession {
    fn drop(&mut self) {
        // The driver ends its browser. Ignored: it may have ended already.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Opens one operation of the page by its index, presses "Execute", closes the operation, and
/// returns its path and status; null beyond the last one.
const TRY_ONE: &str = r"
    const until = async (name, what) => {
        for (let tries = 0; tries < 500; tries += 1) {
            const found = what(tries);
            if (found) return found;
            await new Promise((next) => setTimeout(next, 20));
        }
        throw new Error(`${name} never came`);
    };
    await until('the page', () => document.querySelectorAll('.opblock').length > 0);
    for (const [scheme, secret] of Object.entries(given[0])) window.ui.preauthorizeApiKey(scheme, secret);
    const block = document.querySelectorAll('.opblock')[given[1]];
    if (!block) return null;
    const path = block.querySelector('.opblock-summary-path').dataset.path;
    block.querySelector('.opblock-summary-control').click();
    const button = await until(`the button of ${path}`, () => block.querySelector('.execute'));
    const status = await until(`the answer of ${path}`, (tries) => {
        // A press before the form is filled in has no effect.
        if (tries % 50 === 10 && !block.querySelector('.loading')) button.click();
        return block.querySelector('.live-responses-table .response .response-col_status');
    });
    const tried = [block.querySelector('.opblock-summary-method').innerText, path, parseInt(status.innerText)];
    block.querySelector('.opblock-summary-control').click();
    return tried;
";

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn every_endpoint_can_be_tried_on_the_page() {
    run_async(async {
        let mut test_env = c2s::test_env(&ENABLED);
        test_env.write_file(DESCRIBED);
        let node = test_env.start().await;
        let browser = BrowserSession::start().await;
        browser.open(&format!("{}/docs/", node.base)).await;
        let secrets = json!({
            "admin_token": TOKEN, "support_api_key": API_KEY, "support_signature": SECRET, "configured_signature": SECRET,
            "instagram_signature": APP_SECRET, "leads_signature": SECRET, "c2s_token": c2s::C2S_TOKEN,
        });
        let mut tried: Vec<(String, String, u16)> = Vec::new();
        loop {
            let one = browser.run(TRY_ONE, json!([secrets, tried.len()])).await;
            let one = serde_json::from_value(one.clone()).unwrap_or_else(|_| panic!("{one:#}"));
            let Some(one) = one else { break };
            tried.push(one);
        }
        let spec = node.get("/openapi.json").await.body;
        let paths = spec["paths"].as_object().expect("paths");
        let operations: usize = paths
            .values()
            .map(|item| item.as_object().map_or(0, serde_json::Map::len))
            .sum();
        assert_eq!(tried.len(), operations);
        for (method, path, status) in &tried {
            let described =
                &spec["paths"][path][method.to_lowercase()]["responses"][status.to_string()];
            assert!(
                described.is_object(),
                "{method} {path} answered {status}, which is not described"
            );
            // The page sends the shown example; only ids of entities that do not exist may fail.
            assert!(
                (200..300).contains(status) || *status == 404,
                "{method} {path} answered {status}"
            );
        }
        let signed = tried
            .iter()
            .find(|(_, path, _)| path.ends_with("/support/"))
            .expect("on the page");
        assert_eq!(signed.2, 202, "the page signs requests");
        for method in ["GET", "POST"] {
            let configured = tried
                .iter()
                .find(|(tried, path, _)| tried == method && path == "/in/{name}");
            assert_eq!(
                configured.map(|(_, _, status)| *status),
                Some(200),
                "{method}, also of configured sources"
            );
        }
        let lead = tried
            .iter()
            .find(|(_, path, _)| path.ends_with("/incoming/lead/create"))
            .expect("on the page");
        assert_eq!(lead.2, 200, "and those of leads");
        drop(browser);
        node.stop().await;
    });
}

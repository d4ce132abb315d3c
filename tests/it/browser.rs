//! The pages in a real browser: Chromium, driven through chromedriver (W3C WebDriver). Run with `--
//! --ignored`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::accounts;
use crate::c2s;
use crate::clock_jumps::{JumpingClock, wait_for_readiness};
use crate::docs::ENABLED;
use crate::instagram::{self, APP_SECRET};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::senders::DESCRIBED;
use crate::test_node::{API_KEY, SECRET, TOKEN, TestEnv, expect_soon, run_async};

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
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}});
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

    /// Repeats `script` until it returns something that counts as true, over page loads too.
    async fn wait_for(&self, script: &str, arguments: Value) -> Value {
        let mut polls = tokio::time::interval(Duration::from_millis(50));
        let waiting = async {
            loop {
                polls.tick().await;
                let found = self.run(script, arguments.clone()).await;
                if !matches!(found, Value::Null | Value::Bool(false)) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        if let Ok(found) = found {
            return found;
        }
        let page = self.run("return document.body.innerText", json!([])).await;
        panic!("{script} {arguments}: never, on the page {page:#}");
    }

    /// Waits for the element `selector` and returns its text.
    async fn read(&self, selector: &str) -> String {
        let script =
            "const found = document.querySelector(given[0]); return found && found.innerText + ' '";
        let text = self.wait_for(script, json!([selector])).await;
        text.as_str().expect("a text").trim().to_owned()
    }

    /// Waits until the element `selector` shows `text`.
    async fn wait_for_text(&self, selector: &str, text: &str) {
        let script = "return [...document.querySelectorAll(given[0])].some((found) => found.innerText.includes(given[1]))";
        self.wait_for(script, json!([selector, text])).await;
    }

    /// Presses the element `selector` that shows `text`, as soon as it is there. The answer comes before
    /// the press: a page that is left would lose it.
    async fn press(&self, selector: &str, text: &str) {
        let script = "const found = [...document.querySelectorAll(given[0])].find((found) => found.innerText.includes(given[1])); \
            if (!found) return false; setTimeout(() => found.click(), 0); return true";
        self.wait_for(script, json!([selector, text])).await;
    }

    /// Types `text` into the field `selector`.
    async fn fill(&self, selector: &str, text: &str) {
        let script = "const found = document.querySelector(given[0]); if (!found) return false; \
            found.value = given[1]; found.dispatchEvent(new Event('input', {bubbles: true})); return true";
        self.wait_for(script, json!([selector, text])).await;
    }

    /// Takes the warnings and errors that the browser has logged since the last call.
    async fn take_problems(&self) -> Vec<String> {
        let log = self
            .ask(Method::POST, "/se/log", json!({"type": "browser"}))
            .await;
        let entries = log.as_array().expect("a list").iter();
        entries
            .filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")))
            .map(|entry| entry["message"].to_string())
            .collect()
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
    // Deliveries, which the page describes too, are calls of this node.
    const block = document.querySelectorAll('.opblock:not(.webhooks .opblock)')[given[1]];
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
            // The page sends the shown example; only ids of entities that do not exist may fail. After
            // an erasure the store is copied, and answers 503 meanwhile.
            let is_copied = *status == 503 && path.contains("/erasures/");
            assert!(
                (200..300).contains(status) || *status == 404 || is_copied,
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

/// An operator's first hour: makes a webhook, sees it work, sees it break, and repairs it.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn an_operator_repairs_a_broken_webhook_from_the_dashboard_alone() {
    run_async(async {
        let test_env = instagram::test_env(&[
            ("delivery.allow_targets", "127.0.0.0/8"),
            ("delivery.breaker.consecutive", "2"),
            ("delivery.breaker.open_s", "3600"),
            ("delivery.retry_schedule_s", "0.05,0.05,0.05,0.05"),
        ]);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        let browser = BrowserSession::start().await;

        browser.open(&format!("{}/dashboard", node.base)).await;
        browser.fill("#token", TOKEN).await;
        browser.press("button", "Log in").await;
        browser.wait_for_text("h1", "Overview").await;
        browser.wait_for_text("#health", "Healthy").await;

        browser.press("nav a", "Webhooks").await;
        browser.press("a.button", "New webhook").await;
        browser.fill("#url", &receiver.url("/hook")).await;
        browser.press("button", "Create webhook").await;
        let is_refused = "return !document.querySelector('#patterns').checkValidity()";
        browser.wait_for(is_refused, json!([])).await;
        for event in ["message.created", "status.changed"] {
            let tick = "const box = document.querySelector(`[name=events][value='${given[0]}']`); \
                box.closest('details').open = true; box.click(); return box.checked";
            browser.wait_for(tick, json!([event])).await;
        }
        browser.wait_for_text("[data-chosen]", "2 ticked").await;
        browser.press("button", "Create webhook").await;
        let secret = browser.read("#new-secret").await;
        assert!(secret.starts_with("whsec_"), "{secret}");
        let page = browser.run("return location.href", json!([])).await;
        browser.open(page.as_str().expect("an address")).await;
        browser.wait_for_text("h1", "/hook").await;
        let is_shown = "return document.body.innerText.includes(given[0])";
        let again = browser.run(is_shown, json!([secret])).await;
        assert_eq!(again, json!(false), "the secret is shown once");

        browser.press("button", "Send test").await;
        browser.wait_for_text(".notice", "Test delivered.").await;
        // The page renews itself: nobody loads it again here.
        node.send_message("SUP-1", "first").await;
        browser
            .wait_for_text("#attempts td", "message.created")
            .await;
        browser.wait_for_text("#attempts td", "SUP-1").await;

        // One event is refused for good; then the receiver breaks down.
        receiver.set_script(|_| ReceiverReply::Status(404));
        node.send_message("SUP-2", "refused").await;
        browser.wait_for_text("#attempts td", "404").await;
        receiver.set_script(|_| ReceiverReply::Status(500));
        node.send_message("SUP-3", "broken").await;
        browser.wait_for_text("#state", "breaker open").await;
        browser.press("nav a", "Overview").await;
        browser
            .wait_for_text("#health", "1 circuit breaker is open")
            .await;
        browser.wait_for_text("#health", "1 dead letter").await;

        receiver.set_script(|_| ReceiverReply::Status(200));
        browser.press("#health a", "Show webhooks").await;
        browser.press("td a", "/hook").await;
        browser.press("button", "Send test").await;
        browser.wait_for_text(".notice", "Test delivered.").await;
        browser.wait_for_text("#attempts td", "SUP-3").await;
        browser.press("nav a", "Overview").await;
        browser.press("#health a", "Inspect").await;
        browser.press("main td a", "1").await;
        browser.wait_for_text("h1", "Dead letter 1").await;
        browser.press("main button", "Retry").await;
        browser.wait_for_text("h1", "Job 1").await;
        browser.wait_for_text("#job-rows", "completed").await;
        browser.press("nav a", "Dead letters").await;
        browser
            .wait_for_text("main .panel", "No dead letters.")
            .await;
        browser.press("nav a", "Overview").await;
        browser.wait_for_text("#health", "Healthy").await;

        browser.press("nav a", "Entities").await;
        browser.fill("#id", "SUP-1").await;
        browser.press("main button", "Show").await;
        browser.wait_for_text("#story .what", "added").await;
        browser.wait_for_text("#story", "#1").await;
        browser.press(".side nav a", "Overview").await;
        browser.press("#entities td a", "SUP-3").await;
        browser.wait_for_text("h1", "SUP-3").await;

        let account = json!({
            "account_id": "acc_1", "instagram_account_id": "111", "access_token": "given-token",
        });
        let made = accounts::create(&node, &account).await;
        assert_eq!(made.status, 200, "{made:?}");
        browser.press(".side nav a", "Accounts").await;
        browser.press("td a", "acc_1").await;
        browser.wait_for_text("h1", "Edit account acc_1").await;
        let choose = "const found = document.querySelector('#reply'); if (!found) return false; \
            found.value = 'own'; return true";
        browser.wait_for(choose, json!([])).await;
        browser.fill("#reply_text", "Thank you").await;
        browser.fill("#cooldown_s", "soon").await;
        browser.press("main button", "Save").await;
        browser
            .wait_for_text(".error", "This must be a number")
            .await;
        // The browser logs the status of a refused form.
        let refused = browser.take_problems().await;
        assert!(
            refused.len() == 1 && refused[0].contains("status of 400"),
            "{refused:?}"
        );
        browser.fill("#cooldown_s", "60").await;
        browser.press("main button", "Save").await;
        browser.wait_for_text(".notice", "was changed").await;
        browser.wait_for_text("td", "Thank you").await;

        browser.press(".side nav a", "Events").await;
        browser.press("td a", "message.created").await;
        browser.wait_for_text("#receivers td", "delivered").await;
        browser.press(".side nav a", "Sources").await;
        browser.press("summary", "Check a request").await;
        let request = "POST /api/v0/crm/webhooks/support/ HTTP/1.1\nHost: h\n\n{}";
        browser.fill("textarea[name=request]", request).await;
        browser.press("main button", "Check").await;
        browser
            .wait_for_text("#finding", "would refuse this request")
            .await;
        browser.wait_for_text("#finding pre", "verification").await;

        for page in [
            "Jobs", "Events", "Sources", "Call log", "Accounts", "Settings",
        ] {
            browser.press(".side nav a", page).await;
            browser.wait_for_text("h1", page).await;
        }
        browser.press("button", "Log out").await;
        browser.wait_for_text("h1", "Log in").await;
        assert_eq!(browser.take_problems().await, [""; 0]);

        // The log would have shown a violation of the policy.
        let inline = "const script = document.createElement('script'); script.textContent = '1'; document.body.append(script)";
        browser.run(inline, json!([])).await;
        let problems = browser.take_problems().await.concat();
        assert!(problems.contains("Content Security Policy"), "{problems}");
        drop(browser);
        node.stop().await;
    });
}

/// A page that answered 503 went on to show its old rows as new, and the overview of a closed store
/// kept the figures of the open one.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn a_page_that_cannot_be_renewed_says_that_it_is_old() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        node.send_message("SUP-1", "first").await;
        let browser = BrowserSession::start().await;
        browser.open(&format!("{}/dashboard", node.base)).await;
        browser.fill("#token", TOKEN).await;
        browser.press("button", "Log in").await;
        browser.wait_for_text("#health", "Healthy").await;
        clock.jump_to(3_650 * 86_400);
        wait_for_readiness(&node, 503).await;
        browser
            .wait_for_text("#health", "The node accepts no events")
            .await;
        let is_gone = "return document.querySelector('#figures') === null";
        browser.wait_for(is_gone, json!([])).await;
        clock.jump_to(0);
        browser.wait_for_text("#health", "Healthy").await;
        let is_back = "return document.querySelector('#figures') !== null";
        browser.wait_for(is_back, json!([])).await;

        browser.press(".side nav a", "Events").await;
        browser
            .wait_for_text("#event-rows td", "message.created")
            .await;
        let is_stale = "return !document.querySelector('#stale').hidden";
        assert_eq!(browser.run(is_stale, json!([])).await, json!(false));
        clock.jump_to(3_650 * 86_400);
        browser.wait_for(is_stale, json!([])).await;
        // A green verdict stood in full colour below the line that the node does not answer.
        let is_grey = "return getComputedStyle(document.querySelector('[data-live]')).filter === 'grayscale(1)'";
        browser.wait_for(is_grey, json!([])).await;
        clock.jump_to(0);
        let is_fresh = "return document.querySelector('#stale').hidden";
        browser.wait_for(is_fresh, json!([])).await;
        drop(browser);
        node.stop().await;
    });
}

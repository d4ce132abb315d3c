//! The dashboard without a browser: who gets in, what a form needs, and that nothing a sender wrote
//! becomes a part of the page.

use std::time::Duration;

use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::accounts;
use crate::clock_jumps::{JumpingClock, wait_for_readiness};
use crate::dead_letters::wait_for_letters;
use crate::deliveries::{subscribe, test_env};
use crate::failures::DiskFailure;
use crate::instagram;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{START, TOKEN, TestClient, TestEnv, encode_id, expect_soon, run_async};

const WEBHOOKS: &str = "/dashboard/settings/webhooks";

/// Every page that needs no id.
pub const PAGES: [&str; 14] = [
    "/dashboard",
    "/dashboard/",
    WEBHOOKS,
    "/dashboard/settings/webhooks/new",
    "/dashboard/dead-letters",
    "/dashboard/jobs",
    "/dashboard/events",
    "/dashboard/entities",
    "/dashboard/sources",
    "/dashboard/calls",
    "/dashboard/accounts",
    "/dashboard/audit",
    "/dashboard/settings",
    "/dashboard/events/find?text=x",
];

/// Answer of the dashboard.
pub struct PageAnswer {
    pub status: StatusCode,
    headers: HeaderMap,
    pub html: String,
}

impl PageAnswer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    pub fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.html);
        self.header("location")
    }
}

/// Person at the dashboard, logged in or not. Follows no redirect.
pub struct DashboardVisitor {
    client: Client,
    base: String,
    cookie: String,
    csrf: String,
}

impl DashboardVisitor {
    pub fn stranger(node: &TestClient) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none());
        Self {
            client: client.build().expect("a client"),
            base: node.base.clone(),
            cookie: String::new(),
            csrf: String::new(),
        }
    }

    async fn logged_in(node: &TestClient) -> Self {
        Self::logged_in_by(node, TOKEN).await
    }

    pub async fn logged_in_by(node: &TestClient, token: &str) -> Self {
        let mut visitor = Self::stranger(node);
        let answer = visitor.log_in(token).await;
        assert_eq!(answer.location(), "/dashboard");
        visitor.take_cookie(&answer);
        visitor.csrf = find_csrf(&visitor.get("/dashboard").await.html);
        visitor
    }

    fn take_cookie(&mut self, answer: &PageAnswer) {
        let cookie = answer.header(SET_COOKIE.as_str()).split(';').next();
        self.cookie = cookie.expect("a cookie").to_owned();
    }

    pub async fn log_in(&self, token: &str) -> PageAnswer {
        self.send_form("/dashboard/login", &[("token", token)])
            .await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        request.header("cookie", format!("theme=dark; {}", self.cookie))
    }

    pub async fn get(&self, path: &str) -> PageAnswer {
        read(self.request(Method::GET, path)).await
    }

    /// Sends a form without the token of the session.
    async fn send_form(&self, path: &str, fields: &[(&str, &str)]) -> PageAnswer {
        read(form_request(self.request(Method::POST, path), fields)).await
    }

    /// Sends a form as a page of the session does.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> PageAnswer {
        let mut fields = fields.to_vec();
        fields.push(("csrf", &self.csrf));
        self.send_form(path, &fields).await
    }
}

fn form_request(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
}

async fn read(request: RequestBuilder) -> PageAnswer {
    let response = request.send().await.expect("answered");
    PageAnswer {
        status: response.status(),
        headers: response.headers().clone(),
        html: response.text().await.expect("a body"),
    }
}

fn find_csrf(html: &str) -> String {
    let (_, rest) = html.split_once("name=\"csrf\" value=\"").expect("a form");
    rest.split('"').next().expect("its end").to_owned()
}

#[test]
fn pages_are_shown_to_nobody_without_a_session() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let stranger = DashboardVisitor::stranger(&node);
        for path in PAGES {
            let answer = stranger.get(path).await;
            assert!(answer.location().starts_with("/dashboard/login"), "{path}");
            assert!(!answer.html.contains("Overview"), "{path}");
        }
        let answer = stranger.get("/dashboard/events?kind=ticket").await;
        let next = "/dashboard/login?next=%2Fdashboard%2Fevents%3Fkind%3Dticket";
        assert_eq!(answer.location(), next);
        let posted = stranger.send_form("/dashboard/logout", &[]).await;
        assert_eq!(posted.location(), "/dashboard/login");

        let visitor = DashboardVisitor::logged_in(&node).await;
        for path in PAGES {
            let answer = visitor.get(path).await;
            let is_search = path.contains("/find");
            let expected = if is_search { 303 } else { 200 };
            assert_eq!(answer.status.as_u16(), expected, "{path}: {}", answer.html);
        }
        let missing = visitor.get("/dashboard/settings/webhooks/99").await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        assert!(missing.html.contains("There is no such subscription."));
        node.stop().await;
    });
}

#[test]
fn a_login_takes_the_admins_token_and_gives_a_cookie_that_scripts_cannot_read() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let stranger = DashboardVisitor::stranger(&node);

        let page = stranger
            .get("/dashboard/login?next=%2F%2Fevil.example")
            .await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            page.html.contains("name=\"next\" value=\"/dashboard\""),
            "{}",
            page.html
        );
        let wrong = stranger.log_in("not the token").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert_eq!(wrong.header("set-cookie"), "");
        assert!(wrong.html.contains("not a token of this node"));
        assert_eq!(stranger.log_in("").await.status, StatusCode::UNAUTHORIZED);

        let right = stranger.log_in(TOKEN).await;
        assert_eq!(right.location(), "/dashboard");
        let cookie = right.header("set-cookie");
        for flag in [
            "HttpOnly",
            "SameSite=Strict",
            "Path=/dashboard",
            "Max-Age=43200",
        ] {
            assert!(cookie.contains(flag), "{cookie}");
        }
        assert!(
            !cookie.contains("Secure"),
            "without https the browser would drop it"
        );
        assert!(!cookie.contains(TOKEN));
        let fields = [("token", TOKEN), ("next", "/dashboard/events?kind=ticket")];
        let answer = stranger.send_form("/dashboard/login", &fields).await;
        assert_eq!(answer.location(), "/dashboard/events?kind=ticket");
        node.stop().await;
    });
}

#[test]
fn behind_https_the_cookie_is_secure() {
    run_async(async {
        let test_env = TestEnv::new(&[("server.public_url", "https://hooks.example.com")]);
        let node = test_env.start().await;
        let answer = DashboardVisitor::stranger(&node).log_in(TOKEN).await;
        assert!(answer.header("set-cookie").ends_with("; Secure"));
        node.stop().await;
    });
}

#[test]
fn one_who_guesses_tokens_is_stopped_and_may_try_again_later() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let stranger = DashboardVisitor::stranger(&node);
        for _ in 0..10 {
            let answer = stranger.log_in("a guess").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        }
        let answer = stranger.log_in(TOKEN).await;
        assert_eq!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS,
            "even the right one"
        );
        assert!(answer.html.contains("Try again in 60 s."));
        clock.advance(Duration::from_secs(61));
        assert_eq!(stranger.log_in(TOKEN).await.location(), "/dashboard");
        node.stop().await;
    });
}

#[test]
fn a_form_of_another_page_is_refused() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        let visitor = DashboardVisitor::logged_in(&node).await;

        let path = "/dashboard/settings/webhooks/1/pause";
        let without = visitor.send_form(path, &[]).await;
        assert_eq!(without.status, StatusCode::FORBIDDEN);
        let wrong = visitor.send_form(path, &[("csrf", "guessed")]).await;
        assert_eq!(wrong.status, StatusCode::FORBIDDEN);
        let other = DashboardVisitor::logged_in(&node).await;
        let of_other = visitor.send_form(path, &[("csrf", &other.csrf)]).await;
        assert_eq!(of_other.status, StatusCode::FORBIDDEN);
        let fields = [("csrf", visitor.csrf.as_str())];
        let request = form_request(visitor.request(Method::POST, path), &fields);
        let cross_site = read(request.header("sec-fetch-site", "cross-site")).await;
        assert_eq!(cross_site.status, StatusCode::FORBIDDEN);
        assert_eq!(node.get("/api/v1/webhooks/1").await.body["state"], "active");

        let request = form_request(visitor.request(Method::POST, path), &fields);
        let own = read(request.header("sec-fetch-site", "same-origin")).await;
        assert_eq!(own.location(), "/dashboard/settings/webhooks/1");
        assert_eq!(node.get("/api/v1/webhooks/1").await.body["state"], "paused");
        node.stop().await;
    });
}

#[test]
fn a_session_ends_with_the_logout_and_with_its_time() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("dashboard.session_h", "2")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;

        let visitor = DashboardVisitor::logged_in(&node).await;
        let answer = visitor.submit("/dashboard/logout", &[]).await;
        assert_eq!(answer.location(), "/dashboard/login");
        assert!(
            answer
                .header("set-cookie")
                .starts_with("hookyard_session=; ")
        );
        assert!(answer.header("set-cookie").contains("Max-Age=0"));
        let after = visitor.get("/dashboard").await;
        assert_eq!(
            after.location(),
            "/dashboard/login",
            "the cookie alone is worth nothing"
        );

        let visitor = DashboardVisitor::logged_in(&node).await;
        clock.advance(Duration::from_secs(2 * 3_600 - 1));
        assert_eq!(visitor.get("/dashboard").await.status, StatusCode::OK);
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            visitor.get("/dashboard").await.location(),
            "/dashboard/login"
        );
        node.stop().await;
    });
}

#[test]
fn pages_load_nothing_from_elsewhere_and_files_are_kept_by_the_browser() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        for path in PAGES
            .into_iter()
            .chain(["/dashboard/login", "/dashboard/dead-letters/7"])
        {
            if path.contains("/find") {
                continue;
            }
            let answer = DashboardVisitor::stranger(&node)
                .get("/dashboard/login")
                .await;
            let answer = if path.contains("login") {
                answer
            } else {
                visitor.get(path).await
            };
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            for forbidden in ["style=\"", "onclick", "<style", "src=\"http", "href=\"http"] {
                assert!(!answer.html.contains(forbidden), "{path}: {forbidden}");
            }
        }

        let page = visitor.get("/dashboard").await.html;
        let files: Vec<&str> = page
            .split('"')
            .filter(|part| part.starts_with("/dashboard/assets/"))
            .collect();
        assert!(files.len() >= 3, "{files:?}");
        let stranger = DashboardVisitor::stranger(&node);
        for path in files {
            let file = stranger.get(path).await;
            assert_eq!(file.status, StatusCode::OK, "{path}");
            assert!(file.header("cache-control").contains("immutable"));
            let tag = file.header("etag").to_owned();
            let again = stranger
                .request(Method::GET, path)
                .header("if-none-match", &tag);
            assert_eq!(read(again).await.status, StatusCode::NOT_MODIFIED, "{path}");
        }
        let other = stranger.get("/dashboard/assets/dashboard.css").await;
        assert_eq!(other.status, StatusCode::NOT_FOUND);
        node.stop().await;
    });
}

#[test]
fn a_switched_off_dashboard_is_not_there() {
    run_async(async {
        let test_env = TestEnv::new(&[("dashboard.enabled", "false")]);
        let node = test_env.start().await;
        let stranger = DashboardVisitor::stranger(&node);
        for path in ["/dashboard", "/dashboard/login"] {
            assert_eq!(stranger.get(path).await.status, StatusCode::NOT_FOUND);
        }
        node.stop().await;
    });
}

#[test]
fn what_others_wrote_is_text_on_every_page() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x>";
    run_async(async {
        let test_env = test_env(&[("delivery.retry_schedule_s", "0.01")]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| {
            ReceiverReply::Full(404, Vec::new(), format!("{{\"error\": \"{HOSTILE}\"}}"))
        })
        .await;
        let members = json!({"description": HOSTILE, "filter": "event != '<script>'"});
        subscribe(&node, receiver.url("/"), members).await;
        let data = json!({"message_id": "<script>", "text": HOSTILE, "author": HOSTILE});
        let sent = node
            .send(HOSTILE, "<script>key", "message.created", data)
            .await;
        let letters = wait_for_letters(&node, 1).await;
        let letter = letters[0]["id"].as_u64().expect("a number");

        let visitor = DashboardVisitor::logged_in(&node).await;
        let paths = [
            "/dashboard".to_owned(),
            WEBHOOKS.to_owned(),
            format!("{WEBHOOKS}/1"),
            format!("{WEBHOOKS}/1/edit"),
            "/dashboard/dead-letters?event=%3Cscript%3E".to_owned(),
            "/dashboard/dead-letters".to_owned(),
            format!("/dashboard/dead-letters/{letter}"),
            "/dashboard/events".to_owned(),
            format!("/dashboard/events/{}", sent.event_id()),
            "/dashboard/events?entity=%22%3E%3Cscript%3E".to_owned(),
            "/dashboard/entities".to_owned(),
            format!("/dashboard/entities/ticket/{}", encode_id(HOSTILE)),
            "/dashboard/calls".to_owned(),
        ];
        let mut shown = 0;
        for path in paths {
            let answer = visitor.get(&path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.html);
            assert!(!answer.html.contains("<script>"), "{path}: {}", answer.html);
            assert!(
                !answer.html.contains("<img src=x"),
                "{path}: {}",
                answer.html
            );
            shown += answer.html.matches("&lt;script&gt;").count();
        }
        assert!(shown > 10, "it is shown as text: {shown}");
        let found = visitor
            .get("/dashboard/events/find?text=%3Cscript%3Ekey")
            .await;
        assert_eq!(
            found.location(),
            format!("/dashboard/events/{}", sent.event_id())
        );
        node.stop().await;
    });
}

#[test]
fn a_webhook_is_made_shown_once_with_its_secret_and_changed() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        let visitor = DashboardVisitor::logged_in(&node).await;

        let url = receiver.url("/hook");
        let fields = [
            ("url", url.as_str()),
            ("description", "For tests"),
            ("events", "message.created"),
            ("events", "status.changed"),
            ("patterns", "lead.*"),
            ("is_active", "on"),
            ("signing", "standard"),
            ("ordering", "entity"),
        ];
        let made = visitor
            .submit("/dashboard/settings/webhooks/new", &fields)
            .await;
        assert_eq!(made.location(), "/dashboard/settings/webhooks/1");
        let first = visitor.get("/dashboard/settings/webhooks/1").await.html;
        let (_, secret) = first.split_once("id=\"new-secret\">").expect("the secret");
        assert!(secret.starts_with("whsec_"));
        let again = visitor.get("/dashboard/settings/webhooks/1").await.html;
        assert!(!again.contains("new-secret"), "it is shown once");
        let stored = node.get("/api/v1/webhooks/1").await.body;
        let events = json!(["message.created", "status.changed", "lead.*"]);
        assert_eq!(
            (&stored["events"], &stored["signing"]),
            (&events, &json!(["standard"]))
        );

        let form = visitor
            .get("/dashboard/settings/webhooks/1/edit")
            .await
            .html;
        for part in [
            "value=\"message.created\" checked",
            ">lead.*</textarea>",
            "value=\"For tests\"",
        ] {
            assert!(form.contains(part), "{part} in {form}");
        }
        let fields = [
            ("url", "http://10.0.0.1/x"),
            ("timeout_s", "soon"),
            ("description", "Mine"),
            ("filter", "1 == 1"),
        ];
        let wrong = visitor
            .submit("/dashboard/settings/webhooks/1/edit", &fields)
            .await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert!(
            wrong.html.contains("value=\"Mine\""),
            "what was typed stays"
        );
        for problem in [
            "Is refused",
            "Must have 1 to",
            "Must be a number",
            "Is no condition",
        ] {
            assert!(wrong.html.contains(problem), "{problem} in {}", wrong.html);
        }
        assert_eq!(
            node.get("/api/v1/webhooks/1").await.body["description"],
            "For tests"
        );

        let fields = [
            ("url", url.as_str()),
            ("events", "ticket:*"),
            ("description", "Mine"),
            ("signing", "crm"),
        ];
        let changed = visitor
            .submit("/dashboard/settings/webhooks/1/edit", &fields)
            .await;
        assert_eq!(changed.location(), "/dashboard/settings/webhooks/1");
        let stored = node.get("/api/v1/webhooks/1").await.body;
        assert_eq!(
            (&stored["state"], &stored["events"]),
            (&json!("paused"), &json!(["ticket:*"]))
        );
        assert_eq!(stored["description"], "Mine");

        let tested = visitor
            .submit("/dashboard/settings/webhooks/1/test", &[])
            .await;
        let shown = visitor.get(tested.location()).await.html;
        assert!(shown.contains("Test delivered."), "{shown}");
        let path = "/dashboard/settings/webhooks/1";
        let rotated = visitor
            .submit(&format!("{path}/rotate-secret"), &[("overlap_h", "1")])
            .await;
        assert_eq!(rotated.location(), path);
        // A page in another tab renewed itself meanwhile, and took the secret with it.
        let request = visitor.request(Method::GET, path).header("x-refresh", "1");
        assert!(!read(request).await.html.contains("new-secret"));
        assert!(visitor.get(path).await.html.contains("new-secret"));
        let unconfirmed = visitor
            .submit("/dashboard/settings/webhooks/1/delete", &[])
            .await;
        assert_eq!(unconfirmed.location(), "/dashboard/settings/webhooks/1");
        assert_eq!(node.get("/api/v1/webhooks/1").await.status, 200);
        let deleted = visitor
            .submit(
                "/dashboard/settings/webhooks/1/delete",
                &[("confirmed", "on")],
            )
            .await;
        assert_eq!(deleted.location(), WEBHOOKS);
        assert_eq!(node.get("/api/v1/webhooks/1").await.status, 404);
        assert!(
            visitor
                .get(WEBHOOKS)
                .await
                .html
                .contains("Webhook 1 was deleted.")
        );
        node.stop().await;
    });
}

#[test]
fn dead_letters_are_retried_and_discarded_from_their_pages() {
    run_async(async {
        let test_env = test_env(&[("delivery.retry_schedule_s", "0.01")]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(404)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        for ticket in ["A", "B", "C"] {
            node.send_message(ticket, &format!("key-{ticket}")).await;
        }
        wait_for_letters(&node, 3).await;
        let visitor = DashboardVisitor::logged_in(&node).await;

        let list = visitor.get("/dashboard/dead-letters?entity=A").await.html;
        assert!(list.contains("Retry matching 1"), "{list}");
        let unconfirmed = visitor
            .submit("/dashboard/dead-letters/discard-matching", &[])
            .await;
        assert_eq!(unconfirmed.location(), "/dashboard/dead-letters");
        wait_for_letters(&node, 3).await;
        let fields = [("entity", "A"), ("confirmed", "on")];
        visitor
            .submit("/dashboard/dead-letters/discard-matching", &fields)
            .await;
        assert!(
            visitor
                .get("/dashboard/dead-letters")
                .await
                .html
                .contains("1 dead letter was discarded.")
        );
        wait_for_letters(&node, 2).await;

        receiver.set_script(|_| ReceiverReply::Status(200));
        let fields = [("entity", "B"), ("webhook_id", "")];
        let retried = visitor
            .submit("/dashboard/dead-letters/retry-matching", &fields)
            .await;
        assert_eq!(retried.location(), "/dashboard/jobs/1");
        wait_for_letters(&node, 1).await;
        let job = visitor.get("/dashboard/jobs/1").await.html;
        assert!(
            job.contains("Job 1 delivers the dead letters again."),
            "{job}"
        );
        let too_late = visitor.submit("/dashboard/jobs/1/cancel", &[]).await;
        assert_eq!(too_late.location(), "/dashboard/jobs/1");
        let jobs = visitor.get("/dashboard/jobs").await.html;
        assert!(jobs.contains("Retry 1"), "{jobs}");
        node.stop().await;
    });
}

#[test]
fn a_login_link_works_once() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let link = node.inner.login_link().expect("the dashboard is on");
        let mut visitor = DashboardVisitor::stranger(&node);
        let answer = visitor.get(link.expose()).await;
        assert_eq!(answer.location(), "/dashboard");
        visitor.take_cookie(&answer);
        assert_eq!(visitor.get("/dashboard").await.status, StatusCode::OK);
        let again = DashboardVisitor::stranger(&node).get(link.expose()).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED);
        node.stop().await;
    });
}

#[test]
fn the_overview_names_what_is_stuck() {
    run_async(async {
        let test_env = test_env(&[("delivery.retry_schedule_s", "0.01")]);
        let node = test_env.start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let healthy = visitor.get("/dashboard").await.html;
        assert!(
            healthy.contains("Healthy") && healthy.contains("No webhook yet."),
            "{healthy}"
        );

        let receiver = TestReceiver::start(|_| ReceiverReply::Status(404)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        node.send_message("SUP-1", "key").await;
        wait_for_letters(&node, 1).await;
        visitor
            .submit("/dashboard/settings/webhooks/1/pause", &[])
            .await;
        // The notice of the pause.
        visitor.get("/dashboard").await;
        let stuck = visitor.get("/dashboard").await.html;
        for part in [
            "1 dead letter<",
            "1 webhook is paused",
            "/dashboard/dead-letters",
        ] {
            assert!(stuck.contains(part), "{part} in {stuck}");
        }
        node.stop().await;
    });
}

#[test]
fn the_overview_names_the_busiest_and_the_quarantined_entities() {
    run_async(async {
        let mut test_env =
            TestEnv::new(&[("router.restarts_max", "1"), ("router.quarantine_s", "60")]);
        test_env.with_manual_clock();
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let idle = visitor.get("/dashboard").await.html;
        assert!(idle.contains("No entity is busy."), "{idle}");

        for (ticket, count) in [("QUIET", 1), ("BUSY", 3), ("BROKEN", 1)] {
            for number in 0..count {
                let key = format!("{ticket}-{number}");
                assert_eq!(node.send_message(ticket, &key).await.status, 202);
            }
        }
        disk_failure.crash_entity("BROKEN", 2);
        for _ in 0..3 {
            assert_eq!(node.send_message("BROKEN", "again").await.status, 503);
        }

        let html = visitor.get("/dashboard").await.html;
        let (_, panel) = html.split_once("id=\"entities\"").expect("a panel");
        let (panel, _) = panel.split_once("</section>").expect("its end");
        let place = |id: &str| {
            let link = format!("href=\"/dashboard/entities/ticket/{id}\"");
            panel
                .find(&link)
                .unwrap_or_else(|| panic!("{id} in {panel}"))
        };
        assert!(place("BUSY") < place("QUIET"), "{panel}");
        let (_, broken) = panel.split_at(place("BROKEN"));
        let (row, _) = broken.split_once("</tr>").expect("a row");
        assert!(row.contains("quarantined"), "{row}");
        node.stop().await;
    });
}

/// The list had no time: an operator saw a backlog, but not if it was a second or a day old.
#[test]
fn the_list_of_webhooks_tells_the_backlog_and_its_age() {
    run_async(async {
        let mut test_env = test_env(&[("delivery.retry_schedule_s", "3600")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let broken = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&node, broken.url("/broken"), json!({})).await;
        let fine = TestReceiver::accept_all().await;
        subscribe(&node, fine.url("/fine"), json!({})).await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let sent = node.send_message("SUP-1", "first").await;
        assert_eq!(sent.status, 202);
        clock.advance(Duration::from_secs(300));
        node.send_message("SUP-1", "second").await;
        fine.wait_for_accepted(2).await;

        // The lane of the ticket is stopped, and then on the disk.
        let stats = async {
            loop {
                let stats = node.get("/api/v1/webhooks/1").await.body["stats"].take();
                if !stats["oldest_owed_at"].is_null() && stats["stopped_lanes"] == 1 {
                    return stats;
                }
            }
        };
        assert_eq!(expect_soon(stats).await["oldest_owed_at"], START);
        let listed = node.get("/api/v1/webhooks").await.body["items"].take();
        assert_eq!(listed[0]["stats"]["oldest_owed_at"], json!(null));
        assert_eq!(listed[1]["stats"]["oldest_owed_at"], START);
        assert_eq!(listed[1]["stats"]["deferred"], 2);
        let texts = ["1 lane to retry", "oldest <time", "5 min ago"];
        wait_for_page(&visitor, WEBHOOKS, &texts).await;

        // The overview had neither the lane nor what waits behind it.
        let texts = [
            "1 lane of 1 subscriber",
            "at least 2 in all",
            "Webhook 1</a>",
        ];
        wait_for_page(&visitor, "/dashboard", &texts).await;
        let failing = format!("{WEBHOOKS}?state=failing");
        let failing = wait_for_page(&visitor, &failing, &["/broken"]).await;
        assert!(!failing.contains("/fine"), "{failing}");

        // A paused webhook falls behind, and its backlog is the larger one.
        visitor
            .submit("/dashboard/settings/webhooks/2/pause", &[])
            .await;
        visitor.get("/dashboard").await;
        subscribe(&node, fine.url("/newest"), json!({})).await;
        node.send_message("SUP-2", "third").await;
        let order = |html: &str| {
            let place = |path| html.find(path).expect("listed");
            let places = ["/broken", "/fine", "/newest"].map(place);
            (places[1] < places[2], places[2] < places[0])
        };
        let newest = visitor.get(WEBHOOKS).await.html;
        assert_eq!(order(&newest), (false, true), "{newest}");
        fine.wait_for_accepted(3).await;
        let by_backlog = format!("{WEBHOOKS}?order=backlog");
        let largest = async {
            loop {
                let html = visitor.get(&by_backlog).await.html;
                // The broken webhook has the most: all events of its stopped lanes count.
                if order(&html) == (true, false) && html.find("/broken") < html.find("/fine") {
                    return;
                }
            }
        };
        expect_soon(largest).await;
        let wrong = visitor.get(&format!("{WEBHOOKS}?order=size")).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        node.stop().await;
    });
}

#[test]
fn an_account_is_changed_and_its_secrets_are_never_shown_again() {
    run_async(async {
        let test_env = instagram::test_env(&[]);
        let node = test_env.start().await;
        let account = json!({
            "account_id": "acc_1", "instagram_account_id": "111", "access_token": "given-token",
            "crm_webhook_url": "https://crm.example/hook", "webhook_secret": "given-secret",
            "auto_reply": {"text": "Thank <you>", "cooldown_s": 90.5},
        });
        let made = accounts::create(&node, &account).await;
        assert_eq!(made.status, 200, "{made:?}");
        let visitor = DashboardVisitor::logged_in(&node).await;

        let path = "/dashboard/accounts/acc_1/edit";
        let list = visitor.get("/dashboard/accounts").await.html;
        assert!(list.contains(&format!("href=\"{path}\"")), "{list}");
        let form = visitor.get(path).await.html;
        for part in [
            "value=\"111\"",
            "value=\"https://crm.example/hook\"",
            "Thank &lt;you&gt;",
            "value=\"90.5\"",
        ] {
            assert!(form.contains(part), "{part} in {form}");
        }
        assert!(!form.contains("given-"), "{form}");

        let wrong = [
            ("instagram_account_id", "222"),
            ("crm_webhook_url", "ftp://crm.example"),
            ("webhook_secret", "two words"),
            ("reply", "own"),
            ("cooldown_s", "soon"),
        ];
        let refused = visitor.submit(path, &wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        for part in [
            "Not saved.",
            "Must be an http or https URL",
            "printable ASCII",
            "Must be a number from 0",
            "value=\"222\"",
        ] {
            assert!(refused.html.contains(part), "{part} in {}", refused.html);
        }
        assert!(!refused.html.contains("two words"), "{}", refused.html);
        let foreign = visitor.send_form(path, &wrong[..1]).await;
        assert_eq!(foreign.status, StatusCode::FORBIDDEN);
        let stored = node.get("/api/v1/accounts/acc_1").await.body;
        assert_eq!(stored["instagram_account_id"], "111");

        let fields = [
            ("instagram_account_id", "222"),
            ("crm_webhook_url", ""),
            ("new_secret", "on"),
            ("forget_token", "on"),
            ("reply", "own"),
            ("reply_text", "Soon"),
            ("cooldown_s", "5"),
        ];
        let changed = visitor.submit(path, &fields).await;
        assert_eq!(changed.location(), "/dashboard/accounts");
        let shown = visitor.get("/dashboard/accounts").await.html;
        assert!(shown.contains("Secret of account acc_1"), "{shown}");
        assert!(shown.contains("id=\"new-secret\">whsec_"), "{shown}");
        let again = visitor.get("/dashboard/accounts").await.html;
        assert!(!again.contains("new-secret"), "it is shown once");
        let stored = node.get("/api/v1/accounts/acc_1").await.body;
        let expected = json!({
            "account_id": "acc_1", "instagram_account_id": "222", "crm_webhook_url": null,
            "auto_reply": {"text": "Soon", "cooldown_s": 5}, "has_access_token": false,
        });
        assert_eq!(stored, expected);
        let missing = visitor.get("/dashboard/accounts/acc_2/edit").await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        node.stop().await;
    });
}

#[test]
fn a_filter_and_a_transform_are_tried_on_the_newest_event_and_nothing_is_saved() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = "/dashboard/settings/webhooks/new";
        let fields = [
            ("try", "1"),
            ("events", "ticket:*"),
            ("url", "typed so far"),
        ];
        let nothing = visitor.submit(path, &fields).await.html;
        assert!(nothing.contains("nothing to try on"), "{nothing}");

        node.send_message("SUP-1", "key").await;
        for (filter, transform, expected) in [
            (
                "entity.id == 'SUP-1'",
                "",
                "delivered</span> The filter is true.",
            ),
            (
                "entity.id == 'SUP-2'",
                "",
                "not delivered</span> The filter is false.",
            ),
            ("data.nothing == 1", "", "filter fails</span>"),
            ("entity.", "", "filter fails</span>"),
            ("", "{'of': entity.id}", "&quot;of&quot;: &quot;SUP-1&quot;"),
            ("", "data.nothing", "transform fails</span>"),
        ] {
            let fields = [
                ("try", "1"),
                ("events", "ticket:*"),
                ("url", "typed so far"),
                ("filter", filter),
                ("transform", transform),
            ];
            let tried = visitor.submit(path, &fields).await;
            assert_eq!(tried.status, StatusCode::OK);
            assert!(
                tried.html.contains(expected),
                "{expected} in {}",
                tried.html
            );
            assert!(tried.html.contains("value=\"typed so far\""));
        }
        assert_eq!(node.get("/api/v1/webhooks").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn a_jump_of_the_clock_is_confirmed_from_the_overview() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        clock.jump_to(3_650 * 86_400);
        wait_for_readiness(&node, 503).await;

        let jumped = visitor.get("/dashboard").await.html;
        for part in [
            "accepts no events",
            "2036-02-",
            "2026-03-01",
            "The new time is right",
        ] {
            assert!(jumped.contains(part), "{part} in {jumped}");
        }
        let events = visitor.get("/dashboard/events").await;
        assert_eq!(events.status, StatusCode::SERVICE_UNAVAILABLE);
        let confirmed = visitor.submit("/dashboard/confirm-clock", &[]).await;
        assert_eq!(confirmed.location(), "/dashboard");
        wait_for_readiness(&node, 200).await;
        let page = visitor.get("/dashboard").await.html;
        assert!(
            page.contains("Healthy") && page.contains("goes on"),
            "{page}"
        );
        node.stop().await;
    });
}

/// Reads the page at `path` until it has all of `texts`.
async fn wait_for_page(visitor: &DashboardVisitor, path: &str, texts: &[&str]) -> String {
    let read = async {
        loop {
            let html = visitor.get(path).await.html;
            if texts.iter().all(|text| html.contains(text)) {
                return html;
            }
        }
    };
    expect_soon(read).await
}

#[test]
fn the_page_of_an_event_says_who_received_it_and_who_did_not() {
    run_async(async {
        let node = test_env(&[("delivery.retry_schedule_s", "3600")])
            .start()
            .await;
        let receiver = TestReceiver::start(|arrival| {
            let fails = arrival.entity() == "ticket/B";
            ReceiverReply::Status(if fails { 500 } else { 200 })
        })
        .await;
        let refusing = TestReceiver::start(|_| ReceiverReply::Status(404)).await;
        subscribe(&node, receiver.url("/takes"), json!({})).await;
        subscribe(&node, refusing.url("/refuses"), json!({})).await;
        let filter = json!({"filter": "data.text == 'never'"});
        subscribe(&node, receiver.url("/filtered"), filter).await;
        subscribe(
            &node,
            receiver.url("/others"),
            json!({"events": ["lead.*"]}),
        )
        .await;

        let first = node.send_message("B", "k-1").await.event_id();
        let behind = node.send_message("B", "k-2").await.event_id();
        let sent = node.send_message("A", "k-3").await.event_id();
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = format!("/dashboard/events/{sent}");
        let words = [">delivered<", ">dead letter<", ">filtered<"];
        let html = wait_for_page(&visitor, &path, &words).await;
        assert!(
            html.contains("/takes") && html.contains("/refuses"),
            "{html}"
        );
        assert!(!html.contains("/others"), "{html}");
        assert!(!html.contains("The call log begins after"), "{html}");

        let path = format!("/dashboard/events/{first}");
        wait_for_page(
            &visitor,
            &path,
            &[">owed<", "1 attempt failed; the next is in "],
        )
        .await;
        let path = format!("/dashboard/events/{behind}");
        wait_for_page(
            &visitor,
            &path,
            &[">owed<", "behind event number 1 of its entity"],
        )
        .await;
        let overview = visitor.get("/dashboard").await.html;
        assert!(overview.contains("Busiest entities"), "{overview}");
        assert!(
            overview.contains("/dashboard/entities/ticket/B"),
            "{overview}"
        );
        node.stop().await;
    });
}

/// The rows of the calls were the only trace of the first attempts.
#[test]
fn the_page_of_an_event_says_if_its_history_is_gone() {
    run_async(async {
        let node = test_env(&[("call_log.rows_max", "16")]).start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        let sent = node.send_message("A", "k-0").await.event_id();
        for number in 1..40 {
            node.send_message("A", &format!("k-{number}")).await;
        }
        receiver.wait_for_accepted(40).await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = format!("/dashboard/events/{sent}");
        let texts = [">settled<", "The call log begins after this event"];
        wait_for_page(&visitor, &path, &texts).await;
        node.stop().await;
    });
}

/// Request text of a signed message, as a person would copy it.
fn captured(node: &TestClient, text: &str) -> String {
    let body = json!({"event": "message.created", "support_uid": "A", "data": {"message_id": "m", "text": text}});
    let request = node.signed_request(&body.to_string(), "pasted-key").build();
    let request = request.expect("a request");
    let mut captured = format!("POST {} HTTP/1.1\r\nHost: h\r\n", request.url().path());
    for (name, value) in request.headers() {
        captured += &format!("{name}: {}\r\n", value.to_str().expect("text"));
    }
    format!("{captured}\r\n{body}")
}

#[test]
fn a_pasted_request_is_judged_and_leaves_no_trace() {
    run_async(async {
        let mut test_env = test_env(&[]);
        test_env.set("telemetry.level", "debug");
        let node = test_env.start_process().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let request = captured(&node, "only-on-the-page");
        let check = async |request: &str, at: &str| {
            let fields = [("source", "support"), ("request", request), ("at", at)];
            visitor.submit("/dashboard/sources/check", &fields).await
        };

        let good = check(&request, "").await;
        assert_eq!(good.status, StatusCode::OK);
        assert!(
            good.html.contains("A node would accept this request."),
            "{}",
            good.html
        );
        assert!(good.html.contains("message.created") && good.html.contains("pasted-key"));
        assert_eq!(good.header("cache-control"), "no-store");
        let copied = check(&format!("{request}\r\n"), "").await;
        assert!(
            copied.html.contains("without line ends at the end"),
            "{}",
            copied.html
        );
        for (request, at, found) in [
            (request.replace("only-on", "not-on"), "", "missing or wrong"),
            (request.clone(), "2020-01-01T00:00:00Z", "would refuse"),
            (
                request.clone(),
                "yesterday",
                "time of arrival must be RFC 3339",
            ),
            ("no request".to_owned(), "", "No empty line"),
        ] {
            let wrong = check(&request, at).await;
            assert!(wrong.html.contains(found), "{found}: {}", wrong.html);
            assert!(!wrong.html.contains("would accept"), "{found}");
        }
        let foreign = visitor
            .send_form(
                "/dashboard/sources/check",
                &[("source", "support"), ("request", &request)],
            )
            .await;
        assert_eq!(foreign.status, StatusCode::FORBIDDEN);
        let large = check(&"x".repeat(300 * 1024), "").await;
        assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);

        for list in ["/api/v1/events", "/api/v1/webhooks/logs"] {
            let found = node.get(list).await.body;
            assert_eq!(found["total"], 0, "{list}: {found}");
        }
        let metrics = node.get("/metrics").await.text;
        assert!(!metrics.contains("source=\"support\""), "{metrics}");
        let log = node.kill_and_read_log().join("\n");
        assert!(!log.contains("only-on-the-page"), "{log}");
    });
}

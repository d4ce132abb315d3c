//! The dashboard without a browser: who gets in, what a form needs, and that nothing a sender wrote
//! becomes a part of the page.

use std::time::Duration;

use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::accounts;
use crate::clock_jumps::{JumpingClock, wait_for_readiness};
use crate::dead_letters::{post, wait_for_letters};
use crate::deliveries::{subscribe, test_env};
use crate::failures::DiskFailure;
use crate::instagram;
use crate::logged_secrets::TestSecrets;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{START, TOKEN, TestClient, TestEnv, encode_id, expect_soon, run_async};

const WEBHOOKS: &str = "/dashboard/settings/webhooks";

/// Every page that needs no id.
pub const PAGES: [&str; 15] = [
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
    "/dashboard/tokens",
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
    secrets: TestSecrets,
}

impl DashboardVisitor {
    pub fn stranger(node: &TestClient) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none());
        Self {
            client: client.build().expect("a client"),
            base: node.base.clone(),
            cookie: String::new(),
            csrf: String::new(),
            secrets: node.secrets.clone(),
        }
    }

    pub async fn logged_in(node: &TestClient) -> Self {
        Self::logged_in_by(node, TOKEN).await
    }

    pub async fn logged_in_by(node: &TestClient, token: &str) -> Self {
        let mut visitor = Self::stranger(node);
        let answer = visitor.log_in(token).await;
        assert_eq!(answer.location(), "/dashboard");
        visitor.take_cookie(&answer);
        visitor.csrf = find_csrf(&visitor.get("/dashboard").await.html);
        visitor.secrets.note("token of a form", &visitor.csrf);
        visitor
    }

    fn take_cookie(&mut self, answer: &PageAnswer) {
        let cookie = answer.header(SET_COOKIE.as_str()).split(';').next();
        self.cookie = cookie.expect("a cookie").to_owned();
        let (_, session) = self.cookie.split_once('=').expect("a value");
        self.secrets.note("session", session);
    }

    pub async fn log_in(&self, token: &str) -> PageAnswer {
        self.send_form("/dashboard/login", &[("token", token)])
            .await
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
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

    /// Sends a form without the token of the session, as the browser does that says where its page is
    /// from.
    async fn send_form_from(&self, site: &str, path: &str, fields: &[(&str, &str)]) -> PageAnswer {
        let request = form_request(self.request(Method::POST, path), fields);
        read(request.header("sec-fetch-site", site)).await
    }

    /// Sends a form as a page of the session does.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> PageAnswer {
        read(self.form(path, fields)).await
    }

    /// Form as a page of the session sends it.
    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let mut fields = fields.to_vec();
        fields.push(("csrf", &self.csrf));
        form_request(self.request(Method::POST, path), &fields)
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

/// A browser at the root got JSON with 404.
#[test]
fn the_root_leads_a_browser_to_the_dashboard() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let stranger = DashboardVisitor::stranger(&node);
        let request = stranger.request(Method::GET, "/");
        let page = read(request.header("accept", "text/html,*/*;q=0.8")).await;
        assert_eq!(page.location(), "/dashboard");
        assert_eq!(stranger.get("/").await.status, StatusCode::NOT_FOUND);
        node.stop().await;
    });
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
    find_hidden(html, "csrf")
}

/// Value of the first hidden field called `name`.
fn find_hidden(html: &str, name: &str) -> String {
    let field = format!("name=\"{name}\" value=\"");
    let (_, rest) = html.split_once(&field).expect("a form");
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
        let cookie = answer.header("set-cookie");
        assert!(cookie.ends_with("; Secure"), "{cookie}");
        assert!(cookie.starts_with("__Host-hookyard_session"), "{cookie}");
        assert!(cookie.contains("; Path=/;"), "{cookie}");
        node.stop().await;
    });
}

/// A browser sends a cookie to all ports of its host: a login at one node ended the session at another.
#[test]
fn sessions_of_two_nodes_on_one_machine_do_not_end_each_other() {
    run_async(async {
        let (first_env, second_env) = (TestEnv::new(&[]), TestEnv::new(&[]));
        let (first, second) = (first_env.start().await, second_env.start().await);
        let mut visitors = [
            DashboardVisitor::logged_in(&first).await,
            DashboardVisitor::logged_in(&second).await,
        ];
        let cookies = visitors.each_ref().map(|visitor| visitor.cookie.clone());
        let names = cookies.each_ref().map(|cookie| cookie.split('=').next());
        assert_ne!(names[0], names[1]);
        for visitor in &mut visitors {
            visitor.cookie = cookies.join("; ");
            assert_eq!(visitor.get("/dashboard").await.status, StatusCode::OK);
        }
        first.stop().await;
        second.stop().await;
    });
}

/// A wrong filter took the list and its form away, and a refusal told nobody whom to ask.
#[test]
fn a_wrong_filter_is_shown_beside_its_field_and_a_refusal_says_who_may() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        node.send_message("SUP-1", "key").await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        for (path, parts) in [
            (
                "audit?who=ana&since=yesterday",
                ["value=\"ana\"", "This must be an RFC 3339 time"],
            ),
            (
                "events?entity=SUP-1&type=mesage.created",
                ["value=\"mesage.created\"", "did you mean message.created"],
            ),
            (
                "dead-letters?entity=A&webhook_id=x",
                ["value=\"A\"", "This must be the id of a subscription"],
            ),
            (
                "jobs?webhook_id=x",
                ["name=\"state\"", "This must be the id of"],
            ),
            (
                "calls?page=0",
                ["name=\"direction\"", "Page must be a whole number"],
            ),
        ] {
            let refused = visitor.get(&format!("/dashboard/{path}")).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}");
            for part in parts {
                assert!(
                    refused.html.contains(part),
                    "{path}: {part} in {}",
                    refused.html
                );
            }
        }
        // As a browser sends a time, without a zone.
        let events = "/dashboard/events?since=2020-01-01T10%3A30&until=2099-01-01T00%3A00%3A00";
        let found = visitor.get(events).await;
        assert_eq!(found.status, StatusCode::OK, "{}", found.html);
        assert!(found.html.contains(">message.created<"), "{}", found.html);
        assert!(
            found.html.contains("value=\"2020-01-01T10:30:00\""),
            "{}",
            found.html
        );
        let none = visitor
            .get("/dashboard/events?since=2099-01-01T00%3A00")
            .await;
        assert!(none.html.contains("No event matches the filter."));

        let token = json!({"name": "ana", "role": "read"});
        let made = post(&node, "/api/v1/tokens", token).await;
        let secret = made.body["secret"].as_str().expect("a secret").to_owned();
        let reader = DashboardVisitor::logged_in_by(&node, &secret).await;
        let refused = reader.get("/dashboard/settings/webhooks/new").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        for part in [
            "token with the role admin",
            "log in with a token of that role",
        ] {
            assert!(refused.html.contains(part), "{part} in {}", refused.html);
        }
        node.stop().await;
    });
}

/// What somebody had written for an hour was gone if the session had ended meanwhile.
#[test]
fn a_form_whose_session_has_ended_is_sent_after_a_login() {
    run_async(async {
        let mut test_env = test_env(&[("dashboard.session_h", "2")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        let mut visitor = DashboardVisitor::logged_in(&node).await;
        clock.advance(Duration::from_secs(3 * 3_600));
        let (path, url) = ("/dashboard/settings/webhooks/new", receiver.url("/hook"));
        let csrf = visitor.csrf.clone();
        let fields = [
            ("csrf", csrf.as_str()),
            ("url", url.as_str()),
            ("description", "<b>Written"),
            ("events", "lead.*"),
            ("secret", "typed-secret-long-enough-to-sign"),
            ("signing", "standard"),
        ];
        let typed = async |site: &str| visitor.send_form_from(site, path, &fields).await;
        assert_eq!(typed("cross-site").await.location(), "/dashboard/login");
        let asked = typed("same-origin").await;
        assert_eq!(asked.status, StatusCode::UNAUTHORIZED, "{}", asked.html);
        assert!(
            asked.html.contains("Your session has ended."),
            "{}",
            asked.html
        );
        let kept = find_hidden(&asked.html, "kept").replace("&amp;", "&");
        assert!(!kept.contains("csrf"), "{kept}");

        let log_in = async |token: &str| {
            let fields = [("next", path), ("kept", kept.as_str()), ("token", token)];
            let login = "/dashboard/login";
            visitor.send_form_from("same-origin", login, &fields).await
        };
        let wrong = log_in("wrong").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert_eq!(find_hidden(&wrong.html, "kept").replace("&amp;", "&"), kept);
        let answer = log_in(TOKEN).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.html);
        for part in ["&lt;b&gt;Written", "Send it now", "<dd>…</dd>"] {
            assert!(answer.html.contains(part), "{part} in {}", answer.html);
        }
        assert_eq!(node.get("/api/v1/webhooks").await.body["total"], 0);
        visitor.take_cookie(&answer);
        visitor.csrf = find_csrf(answer.html.split_once("<main").expect("a page").1);
        let fields: Vec<_> = fields[1..].to_vec();
        let made = visitor.submit(path, &fields).await;
        assert_eq!(made.location(), "/dashboard/settings/webhooks/1");
        node.stop().await;
    });
}

/// A link of any site could bring a form, which the node offered to send after the login.
#[test]
fn a_form_that_another_site_filled_in_is_not_offered_after_a_login() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let stranger = DashboardVisitor::stranger(&node);
        let (login, next) = ("/dashboard/login", "/dashboard/settings/webhooks/new");
        let kept = "url=https%3A%2F%2Fevil.example&events=*";
        let link = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("next", next), ("kept", kept)])
            .finish();
        for link in [link.clone(), format!("{link}&link=used-before")] {
            let page = stranger.get(&format!("{login}?{link}")).await.html;
            assert_eq!(find_hidden(&page, "next"), next);
            assert!(!page.contains("evil.example"), "{page}");
        }

        let fields = |token| [("next", next), ("kept", kept), ("token", token)];
        let wrong = stranger.send_form(login, &fields("wrong")).await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert!(!wrong.html.contains("evil.example"), "{}", wrong.html);
        let unknown = stranger.send_form(login, &fields(TOKEN)).await;
        assert_eq!(unknown.location(), "/dashboard");
        let typed_address = stranger.send_form_from("none", login, &fields(TOKEN)).await;
        assert_eq!(typed_address.location(), "/dashboard");
        for site in ["same-site", "cross-site"] {
            let foreign = stranger.send_form_from(site, login, &fields(TOKEN)).await;
            assert_eq!(foreign.status, StatusCode::FORBIDDEN, "{site}");
            assert!(!foreign.html.contains("evil.example"), "{}", foreign.html);
        }
        node.stop().await;
    });
}

/// A form without fields was not offered: the login led to its path, which answered 405.
#[test]
fn a_button_whose_session_has_ended_is_pressed_after_a_login() {
    run_async(async {
        let mut test_env = test_env(&[("dashboard.session_h", "2")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        let mut visitor = DashboardVisitor::logged_in(&node).await;
        clock.advance(Duration::from_secs(3 * 3_600));

        let path = "/dashboard/settings/webhooks/1/pause";
        let csrf = visitor.csrf.clone();
        let pressed = [("csrf", csrf.as_str())];
        let asked = visitor.send_form_from("same-origin", path, &pressed).await;
        assert_eq!(asked.status, StatusCode::UNAUTHORIZED, "{}", asked.html);
        let kept = find_hidden(&asked.html, "kept");
        assert_eq!(kept, "");
        let fields = [("next", path), ("kept", ""), ("token", TOKEN)];
        let login = "/dashboard/login";
        let answer = visitor.send_form_from("same-origin", login, &fields).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.html);
        assert!(answer.html.contains("Send it now"), "{}", answer.html);
        visitor.take_cookie(&answer);
        visitor.csrf = find_csrf(answer.html.split_once("<main").expect("a page").1);
        let paused = visitor.submit(path, &[]).await;
        assert_eq!(paused.location(), "/dashboard/settings/webhooks/1");
        assert_eq!(node.get("/api/v1/webhooks/1").await.body["state"], "paused");

        clock.advance(Duration::from_secs(3 * 3_600));
        let logout = "/dashboard/logout";
        let left = visitor
            .send_form_from("same-origin", logout, &pressed)
            .await;
        assert_eq!(left.location(), login);
        node.stop().await;
    });
}

/// People got JSON for an address that they mistyped, and for a login that was refused.
#[test]
fn people_get_pages_for_wrong_addresses_and_refused_logins() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let stranger = DashboardVisitor::stranger(&node);
        for (path, status, text) in [
            ("/dashboard/nonsense", 404, "Not found"),
            ("/dashboard/settings/webhooks/abc", 404, "Not found"),
            (
                "/dashboard/dead-letters/1/retry",
                405,
                "takes a form of another page",
            ),
        ] {
            let page = visitor.get(path).await;
            assert_eq!(page.status.as_u16(), status, "{path}: {}", page.html);
            assert_eq!(
                page.header("content-type"),
                "text/html; charset=utf-8",
                "{path}"
            );
            assert!(page.html.contains(text), "{path}: {}", page.html);
            assert!(
                page.html.contains("aria-label=\"Main\""),
                "the navigation is there"
            );
            let location = stranger.get(path).await;
            assert!(
                location.location().starts_with("/dashboard/login?next="),
                "{path}"
            );
        }
        let wrong_method = visitor.get("/dashboard/dead-letters/1/retry").await;
        assert_eq!(wrong_method.header("allow"), "POST");

        let login = "/dashboard/login";
        let fields = [("token", TOKEN)];
        let request = form_request(stranger.request(Method::POST, login), &fields);
        let foreign = read(request.header("sec-fetch-site", "cross-site")).await;
        let huge = "x".repeat(300 * 1024);
        let large = stranger.send_form(login, &[("token", &huge)]).await;
        for (answer, status) in [(foreign, 403), (large, 413)] {
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            assert!(answer.html.contains("id=\"problem\""), "{}", answer.html);
        }
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
        assert!(answer.header("set-cookie").starts_with(&format!(
            "{}=; ",
            visitor.cookie.split('=').next().unwrap_or_default()
        )));
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
        // A webhook is called by its number elsewhere, and a pattern said not how much it selects.
        for part in [
            "Webhook 1: http://",
            "lead.*</span><span class=\"muted small\">",
        ] {
            assert!(first.contains(part), "{part} in {first}");
        }
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
            ("retry_schedule_s", "1, soon"),
            ("description", "Mine"),
            ("filter", "1 == 1"),
            ("seen", &find_hidden(&form, "seen")),
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
            "This is refused: ",
            "This must have 1 to",
            "This must be a number",
            "This is no condition",
            "Item 2 must be a number",
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
            ("seen", &find_hidden(&form, "seen")),
        ];
        let changed = visitor
            .submit("/dashboard/settings/webhooks/1/edit", &fields)
            .await;
        assert_eq!(changed.location(), "/dashboard/settings/webhooks/1");
        let stored = node.get("/api/v1/webhooks/1").await.body;
        assert_eq!(
            (&stored["state"], &stored["events"]),
            (&json!("active"), &json!(["ticket:*"]))
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

/// A save of the description resumed what a colleague had paused, and undid the colleague's edit.
#[test]
fn a_stale_form_of_a_webhook_overwrites_nothing() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/"), json!({"description": "Old"})).await;
        let (mine, other) = (
            DashboardVisitor::logged_in(&node).await,
            DashboardVisitor::logged_in(&node).await,
        );
        let path = format!("{WEBHOOKS}/1");
        let edit = format!("{path}/edit");
        let form = mine.get(&edit).await.html;
        assert!(!form.contains("name=\"is_active\""), "{form}");
        let save = async |visitor: &DashboardVisitor, description: &str, seen: &str| {
            let url = receiver.url("/");
            let fields = [
                ("url", url.as_str()),
                ("events", "*"),
                ("is_active", "on"),
                ("signing", "crm"),
                ("signing", "standard"),
                ("ordering", "entity"),
                ("description", description),
                ("seen", seen),
            ];
            visitor.submit(&edit, &fields).await
        };

        other.submit(&format!("{path}/pause"), &[]).await;
        let seen = find_hidden(&other.get(&edit).await.html, "seen");
        let saved = save(&other, "Theirs", &seen).await;
        assert_eq!(saved.location(), path);
        let refused = save(&mine, "Mine", &find_hidden(&form, "seen")).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.html);
        for part in ["after you loaded it", ">Theirs<", ">Mine<", "is paused"] {
            assert!(refused.html.contains(part), "{part} in {}", refused.html);
        }
        let stored = node.get("/api/v1/webhooks/1").await.body;
        assert_eq!(
            (&stored["description"], &stored["state"]),
            (&json!("Theirs"), &json!("paused"))
        );
        let again = save(&mine, "Mine", &find_hidden(&refused.html, "seen")).await;
        assert_eq!(again.location(), path);
        let stored = node.get("/api/v1/webhooks/1").await.body;
        assert_eq!(
            (&stored["description"], &stored["state"]),
            (&json!("Mine"), &json!("paused"))
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
        let fields = [("entity", "A"), ("confirmed", "on"), ("before_id", "9")];
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
        let fields = [("entity", "B"), ("webhook_id", ""), ("before_id", "9")];
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

/// The form had the filter only: what failed between the page and the press was discarded too.
#[test]
fn dead_letters_that_came_after_the_page_was_loaded_are_left_alone() {
    run_async(async {
        let test_env = test_env(&[("delivery.retry_schedule_s", "0.01")]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(404)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = "/dashboard/dead-letters";
        let letters = |numbers: std::ops::Range<u32>| {
            let node = node.api.clone();
            async move {
                for number in numbers {
                    node.send_message("A", &format!("key-{number}")).await;
                }
            }
        };
        letters(0..2).await;
        wait_for_letters(&node, 2).await;
        let page = visitor.get(path).await.html;
        assert!(page.contains("Never deliver these 2"), "{page}");
        let bound = find_hidden(&page, "before_id");
        letters(2..5).await;
        wait_for_letters(&node, 5).await;

        let discard = format!("{path}/discard-matching");
        let fields = [("confirmed", "on"), ("before_id", bound.as_str())];
        visitor.submit(&discard, &fields).await;
        let page = visitor.get(path).await.html;
        for part in [
            "2 dead letters were discarded.",
            "3 dead letters came since the page was loaded, and stayed.",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        wait_for_letters(&node, 3).await;
        visitor.submit(&discard, &[("confirmed", "on")]).await;
        wait_for_letters(&node, 3).await;

        let page = visitor.get(&format!("{path}?event=message.created")).await;
        let bound = find_hidden(&page.html, "before_id");
        letters(5..6).await;
        wait_for_letters(&node, 4).await;
        let fields = [("event", "message.created"), ("before_id", bound.as_str())];
        visitor
            .submit(&format!("{path}/retry-matching"), &fields)
            .await;
        let job = node.get("/api/v1/jobs/1").await.body;
        assert_eq!(job["total"], 3, "{job}");
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

        let refuse = |_: &_| ReceiverReply::Full(404, Vec::new(), "no such shop".to_owned());
        let receiver = TestReceiver::start(refuse).await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        let pause = "/dashboard/settings/webhooks/1/pause";
        visitor.submit(pause, &[]).await;
        let noted = visitor.get("/dashboard").await.html;
        // "Nothing needs you" stood above the note.
        let verdict = "delivered, but for what is noted below.";
        assert!(
            noted.contains("Healthy") && noted.contains(verdict),
            "{noted}"
        );
        let resume = "/dashboard/settings/webhooks/1/resume";
        visitor.submit(resume, &[]).await;
        for _ in 0..5 {
            let refused = visitor.request(Method::POST, "/api/v0/crm/webhooks/support/");
            assert_eq!(read(refused).await.status, StatusCode::UNAUTHORIZED);
        }
        let refused = visitor.get("/dashboard").await.html;
        assert!(refused.contains("support: 5 calls refused ("), "{refused}");
        node.send_message("SUP-1", "key").await;
        wait_for_letters(&node, 1).await;
        let sources = visitor.get("/dashboard/sources").await.html;
        let sent = "1 event accepted, 5 calls refused.";
        assert!(sources.contains(sent), "{sources}");
        // The list said the status twice, and nothing of what the target had said.
        let letters = visitor.get("/dashboard/dead-letters").await.html;
        assert!(letters.contains("no such shop"), "{letters}");
        assert!(!letters.contains("answered 404"), "{letters}");
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

        // The lane of the ticket is stopped, and then on the disk; the other subscriber is owed nothing once
        // the node has read its last answer.
        let listed = async {
            loop {
                let listed = node.get("/api/v1/webhooks").await.body["items"].take();
                let (fine, broken) = (&listed[0]["stats"], &listed[1]["stats"]);
                let is_settled = fine["oldest_owed_at"].is_null() && fine["delivered"] == 2;
                if is_settled && broken["deferred"] == 2 && broken["stopped_lanes"] == 1 {
                    return listed;
                }
            }
        };
        let listed = expect_soon(listed).await;
        assert_eq!(listed[1]["stats"]["oldest_owed_at"], START);
        let texts = ["1 entity waits for a retry", "oldest <time", "5 min ago"];
        wait_for_page(&visitor, WEBHOOKS, &texts).await;

        // The overview had neither the lane nor what waits behind it.
        let texts = [
            "1 entity waits for a retry, or for you, at 1 subscriber",
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
            ("seen", &find_hidden(&form, "seen")),
        ];
        let refused = visitor.submit(path, &wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        for part in [
            "Not saved.",
            "This must be an http or https URL",
            "printable ASCII",
            "This must be a number from 0",
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
            ("seen", &find_hidden(&refused.html, "seen")),
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

/// A form that was opened before a colleague changed the account undid the colleague's change.
#[test]
fn a_stale_form_of_an_account_overwrites_nothing() {
    run_async(async {
        let test_env = instagram::test_env(&[]);
        let node = test_env.start().await;
        let account = json!({
            "account_id": "acc_1", "instagram_account_id": "111",
            "auto_reply": {"text": "Old"},
        });
        let made = accounts::create(&node, &account).await;
        assert_eq!(made.status, 200, "{made:?}");
        let (mine, other) = (
            DashboardVisitor::logged_in(&node).await,
            DashboardVisitor::logged_in(&node).await,
        );
        let path = "/dashboard/accounts/acc_1/edit";
        let save = async |visitor: &DashboardVisitor, text: &str, seen: &str| {
            let fields = [
                ("instagram_account_id", "111"),
                ("reply", "own"),
                ("reply_text", text),
                ("webhook_secret", "typed-secret"),
                ("seen", seen),
            ];
            visitor.submit(path, &fields).await
        };
        let reply = async || {
            let stored = node.get("/api/v1/accounts/acc_1").await.body;
            stored["auto_reply"]["text"].clone()
        };

        let seen = find_hidden(&mine.get(path).await.html, "seen");
        let saved = save(&other, "Theirs", &seen).await;
        assert_eq!(saved.location(), "/dashboard/accounts");
        let refused = save(&mine, "Mine", &seen).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.html);
        for part in ["after you loaded it", ">Theirs<", ">Mine<"] {
            assert!(refused.html.contains(part), "{part} in {}", refused.html);
        }
        assert!(!refused.html.contains("typed-secret"), "{}", refused.html);
        assert_eq!(reply().await, "Theirs");
        let without = save(&mine, "Mine", "").await;
        assert_eq!(without.status, StatusCode::CONFLICT, "{}", without.html);
        let again = save(&mine, "Mine", &find_hidden(&refused.html, "seen")).await;
        assert_eq!(again.location(), "/dashboard/accounts");
        assert_eq!(reply().await, "Mine");
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

/// The next attempt was a time in the past, and nothing said why no attempt was made.
#[test]
fn what_an_open_breaker_holds_back_is_said_to_wait_for_it() {
    run_async(async {
        let node = test_env(&[
            ("delivery.retry_schedule_s", "0.01, 0.01, 0.01"),
            ("delivery.breaker.consecutive", "2"),
        ])
        .start()
        .await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        node.send_message("A", "k-1").await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = "/dashboard/settings/webhooks/1";
        let texts = ["breaker open", "when the breaker closes", "Failing for "];
        let page = wait_for_page(&visitor, path, &texts).await;
        assert_eq!(page.matches("when the breaker closes").count(), 1, "{page}");

        let held = node.send_message("B", "k-2").await.event_id();
        let path = format!("/dashboard/events/{held}");
        let reason = "held back, the webhook's breaker is open";
        let page = wait_for_page(&visitor, &path, &[">waiting<", reason]).await;
        let received = node.get(&format!("/api/v1/events/{held}")).await.body;
        let received = received["received_at"].as_str().expect("a time");
        assert!(
            page.contains(&format!(">{received}<")),
            "{received} in {page}"
        );
        let found = visitor.get("/dashboard/events/find?text=ticket/B").await;
        assert_eq!(found.location(), "/dashboard/events?kind=ticket&entity=B");
        let calls = visitor
            .get("/dashboard/calls?direction=incoming")
            .await
            .html;
        assert!(
            calls.contains(&format!("/dashboard/events/{held}")),
            "{calls}"
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
            (request.replace("only-on", "not-on"), "", "wrong"),
            // Absent and wrong were one word.
            (request.replace("x-crm-signature", "x-other"), "", "missing"),
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

#[test]
fn tokens_are_made_shown_once_and_revoked() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = "/dashboard/tokens";
        let empty = visitor.get(path).await.html;
        assert!(empty.contains("No named token yet."), "{empty}");
        let fields = [
            ("name", "Not A Name"),
            ("role", "read"),
            ("expires_in_days", "soon"),
        ];
        let wrong = visitor.submit(path, &fields).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        for part in [
            "lower-case letters",
            "This must be a",
            "value=\"Not A Name\"",
        ] {
            assert!(wrong.html.contains(part), "{part} in {}", wrong.html);
        }

        let fields = [
            ("name", "billing"),
            ("role", "publish"),
            ("kinds", "task, ticket"),
            ("expires_in_days", "30"),
        ];
        let made = visitor.submit(path, &fields).await;
        assert_eq!(made.location(), path);
        let page = visitor.get(path).await.html;
        let (_, secret) = page.split_once("id=\"new-secret\">").expect("the secret");
        let secret = secret.split('<').next().unwrap_or_default().to_owned();
        for part in ["task, ticket", "in 29 d", "by config:admin"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(
            !visitor.get(path).await.html.contains(&secret),
            "it is shown once"
        );
        let stored = node.get("/api/v1/tokens/billing").await.body;
        assert_eq!(stored["role"], "publish", "{stored}");
        assert_eq!(stored["kinds"], json!(["task", "ticket"]));

        let reader = json!({"name": "ana", "role": "read"});
        let reader = post(&node, "/api/v1/tokens", reader).await.body;
        let reader = reader["secret"].as_str().expect("a secret");
        let reader = DashboardVisitor::logged_in_by(&node, reader).await;
        let shown = reader.get(path).await.html;
        assert!(
            shown.contains("billing") && !shown.contains("Revoke"),
            "{shown}"
        );
        let refused = reader.submit(path, &fields).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);

        let revoke = format!("{path}/revoke");
        let configured = visitor.submit(&revoke, &[("name", "config:admin")]).await;
        assert_eq!(configured.location(), path);
        let shown = visitor.get(path).await.html;
        assert!(shown.contains("in the configuration"), "{shown}");
        visitor.submit(&revoke, &[("name", "ana")]).await;
        assert!(
            visitor
                .get(path)
                .await
                .html
                .contains("Token ana was revoked.")
        );
        assert_eq!(reader.get(path).await.status, StatusCode::SEE_OTHER);
        node.stop().await;
    });
}

#[test]
fn a_delivery_that_was_given_up_is_repeated_from_the_page_of_its_event() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(404)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        let sent = node.send_message("SUP-1", "key").await.event_id();
        wait_for_letters(&node, 1).await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = format!("/dashboard/events/{sent}");
        let page = wait_for_page(&visitor, &path, &[">dead letter<"]).await;
        let (_, action) = page
            .split_once("action=\"/dashboard/dead-letters/")
            .expect("a form");
        let action = action.split('"').next().unwrap_or_default();
        receiver.set_script(|_| ReceiverReply::Status(200));
        let retried = visitor
            .submit(&format!("/dashboard/dead-letters/{action}"), &[])
            .await;
        assert_eq!(retried.location(), "/dashboard/jobs/1");
        wait_for_page(&visitor, &path, &[">delivered<"]).await;
        node.stop().await;
    });
}

#[test]
fn an_account_is_made_from_its_page() {
    run_async(async {
        let node = instagram::test_env(&[]).start().await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let (list, path) = ("/dashboard/accounts", "/dashboard/accounts/new");
        assert!(visitor.get(list).await.html.contains(path));
        assert_eq!(visitor.get(path).await.status, StatusCode::OK);
        let wrong = visitor.submit(path, &[("account_id", "two words")]).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        for part in ["value=\"two words\"", "Not saved."] {
            assert!(wrong.html.contains(part), "{part} in {}", wrong.html);
        }
        let fields = [
            ("account_id", "acc_9"),
            ("instagram_account_id", "999"),
            ("crm_webhook_url", "https://crm.example/hook"),
            ("webhook_secret", ""),
            ("access_token", "given-token"),
        ];
        let made = visitor.submit(path, &fields).await;
        assert_eq!(made.location(), list);
        let page = visitor.get(list).await.html;
        for part in [
            "acc_9",
            "Secret of account acc_9",
            "id=\"new-secret\">whsec_",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let stored = node.get("/api/v1/accounts/acc_9").await.body;
        assert_eq!(stored["has_access_token"], true, "{stored}");
        let again = visitor.submit(path, &fields).await;
        assert_eq!(again.status, StatusCode::CONFLICT);
        node.stop().await;
    });
}

#[test]
fn an_entity_is_erased_from_its_page_by_its_id() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let data = json!({"message_id": "m", "text": "about-a-person"});
        node.send("SUP-1", "key", "message.created", data).await;
        let visitor = DashboardVisitor::logged_in(&node).await;
        let path = "/dashboard/entities/ticket/SUP-1";
        let page = visitor.get(path).await.html;
        assert!(page.contains("about-a-person") && page.contains("Erase for good"));
        let erase = format!("{path}/erase");
        let unconfirmed = visitor.submit(&erase, &[("confirmed", "SUP-2")]).await;
        assert_eq!(unconfirmed.location(), path);
        assert!(visitor.get(path).await.html.contains("about-a-person"));
        let erased = visitor.submit(&erase, &[("confirmed", "SUP-1")]).await;
        assert_eq!(erased.location(), path);
        // The files are cleaned meanwhile, and the store is closed for a moment.
        let page = wait_for_page(&visitor, path, &["Story"]).await;
        assert!(!page.contains("about-a-person"), "{page}");
        let erasure = node.get("/api/v1/erasures/1").await;
        assert!(matches!(erasure.status, 200 | 503), "{erasure:?}");
        node.stop().await;
    });
}

//! Login with a token, the one-time login link, and logout.

use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use maud::{Markup, html};
use tracing::info;

use super::form::FormFields;
use super::layout::{self, render_plain_page};
use super::visit::{
    PageReply, PageVisit, current_session, html_response, is_same_site, read_form, see_other,
    set_session_cookie,
};
use crate::config::Secret;
use crate::edge::caller::CallerIdentity;
use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;
use crate::edge::{access, client_address};
use crate::token::{AccessOperation, TokenRole};

/// Path to which a login leads if no page was asked for.
const START: &str = "/dashboard";

/// Name under which the audit log knows those who came by a login link.
const LOGIN_LINK: &str = "config:login-link";

/// Handles `GET /dashboard/login`: shows the form. With `?link=` it redeems a login link.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let query = FormFields::parse(context.request.query_string().as_bytes());
    if !query.text("link").is_empty() {
        context.call.note_operation(AccessOperation::DashboardLogin);
    }
    if current_session(context).is_some() {
        return Ok(see_other(START));
    }
    let link = query.text("link");
    if link.is_empty() {
        return Ok(login_page(context, StatusCode::OK, &query, None));
    }

    if let Err(refused) = admit_login(context) {
        context.call.note_outcome("rate_limited");
        return Ok(login_page(
            context,
            StatusCode::TOO_MANY_REQUESTS,
            &query,
            Some(&refused),
        ));
    }
    let now = context.edge.clock.monotonic();
    if context.edge.dashboard.sessions.redeem_login_link(link, now) {
        let admin_token = &context.edge.config.admin.token;
        let caller = CallerIdentity::of_config(LOGIN_LINK, TokenRole::Admin, admin_token);
        Ok(begin_session(context, caller, START))
    } else {
        context.call.note_outcome(ApiError::LoginRefused.code());
        let problem = "This link was used before, or is too old. Log in with a token.";
        Ok(login_page(
            context,
            StatusCode::UNAUTHORIZED,
            &query,
            Some(problem),
        ))
    }
}

/// Handles `POST /dashboard/login`: begins a session if the token is right.
pub(super) async fn submit(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    context.call.note_operation(AccessOperation::DashboardLogin);
    let form = read_form(context).await?;
    if !is_same_site(context.request.headers()) {
        return Err(ApiError::ForeignForm);
    }
    if let Err(refused) = admit_login(context) {
        context.call.note_outcome("rate_limited");
        return Ok(login_page(
            context,
            StatusCode::TOO_MANY_REQUESTS,
            &form,
            Some(&refused),
        ));
    }

    let token = Secret::new(form.text("token"));
    match identify_person(context, &token) {
        Ok(caller) => Ok(begin_session(context, caller, safe_path(form.text("next")))),
        Err(error) => {
            let client = context.edge.client_address(&context.request);
            info!(%client, "dashboard login refused");
            let (status, problem) = match &error {
                ApiError::Unauthorized => (
                    StatusCode::UNAUTHORIZED,
                    "This is not a token of this node.".to_owned(),
                ),
                error => (error.status_code(), layout::sentence(&error.to_string())),
            };
            let outcome = match error {
                ApiError::Unauthorized => ApiError::LoginRefused.code(),
                error => error.code(),
            };
            context.call.note_outcome(outcome);
            Ok(login_page(context, status, &form, Some(&problem)))
        }
    }
}

/// Finds the person with `token`, whose role must allow the dashboard.
fn identify_person(context: &RequestContext, token: &Secret) -> Result<CallerIdentity, ApiError> {
    let caller = access::identify_token(&context.edge, token.expose().as_bytes())?;
    context.call.note_caller(caller.clone());
    caller.check_role(AccessOperation::DashboardLogin)?;
    Ok(caller)
}

/// Handles `POST /dashboard/logout`: ends the session.
pub(super) async fn log_out(
    visit: &mut PageVisit<'_>,
    _form: &FormFields,
) -> Result<PageReply, ApiError> {
    visit.edge().dashboard.sessions.end_session(&visit.session);
    let mut response = see_other("/dashboard/login");
    set_session_cookie(&mut response, visit.edge(), &Secret::default());
    Ok(PageReply::Other(response))
}

/// Counts a login against its client.
///
/// # Errors
/// The sentence for a client that has tried too often.
fn admit_login(context: &RequestContext) -> Result<(), String> {
    let edge = &context.edge;
    let network = client_address::client_network(edge.client_address(&context.request));
    let admitted = edge.dashboard.logins.admit(network, edge.clock.monotonic());
    admitted.map(|_| ()).map_err(|quota| {
        let seconds = quota.reset_seconds();
        format!("Too many logins from your network. Try again in {seconds} s.")
    })
}

fn begin_session(context: &RequestContext, caller: CallerIdentity, path: &str) -> HttpResponse {
    let edge = &context.edge;
    let client = edge.client_address(&context.request);
    info!(%client, token = &*caller.name, "dashboard session began");
    context.call.note_caller(caller.clone());
    let token = edge
        .dashboard
        .sessions
        .begin_session(caller, edge.clock.monotonic());
    let mut response = see_other(path);
    set_session_cookie(&mut response, edge, &token);
    response
}

/// Returns `path` if it leads to a page of the dashboard, otherwise the start: a link to the login
/// must not lead to another site.
fn safe_path(path: &str) -> &str {
    let is_own = path == START || path.starts_with("/dashboard/");
    let is_plain = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own && is_plain { path } else { START }
}

fn login_page(
    context: &RequestContext,
    status: StatusCode,
    fields: &FormFields,
    problem: Option<&str>,
) -> HttpResponse {
    let body = if context.edge.config.admin.token.is_empty() {
        without_token()
    } else {
        login_form(safe_path(fields.text("next")), problem)
    };
    html_response(status, render_plain_page("Log in", &body).into_string())
}

fn login_form(next: &str, problem: Option<&str>) -> Markup {
    html! {
        form.stack method="post" action="/dashboard/login" {
            h1 { "Log in" }
            @if let Some(problem) = problem { p.notice.bad role="alert" id="problem" { (problem) } }
            div.field {
                // A name, so that a password manager can tell this token from others.
                input type="text" name="username" value="admin" autocomplete="username" hidden;
                label for="token" { "Token" }
                input type="password" id="token" name="token" required autofocus
                    autocomplete="current-password" spellcheck="false"
                    aria-invalid=[problem.map(|_| "true")]
                    aria-describedby={ "token-hint" @if problem.is_some() { " problem" } };
                p.hint id="token-hint" {
                    "The value of " code { "admin.token" } " in the node's configuration, or a token "
                    "made by " code { "hookyard tokens create" } "."
                }
            }
            input type="hidden" name="next" value=(next);
            button.primary type="submit" { "Log in" }
        }
    }
}

/// Page of a node whose configuration has no admin token.
fn without_token() -> Markup {
    html! {
        h1 { "No admin token" }
        p {
            "Nobody can log in, because " code { "admin.token" } " is not set. Run "
            code { "hookyard secret new" } ", put the result into the configuration as "
            code { "[admin] token" } ", or set " code { "HOOKYARD_ADMIN__TOKEN" }
            ", and start the node again."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_pages_of_the_dashboard_only() {
        for path in ["/dashboard", "/dashboard/events?kind=ticket"] {
            assert_eq!(safe_path(path), path);
        }
        for path in [
            "",
            "//evil.example",
            "https://evil.example/dashboard/",
            "/dashboardx",
            "/dashboard/\r\nset-cookie:",
            "/dashboard/\\evil",
        ] {
            assert_eq!(safe_path(path), START, "{path}");
        }
    }
}

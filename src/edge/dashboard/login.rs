//! Login with a token, the one-time login link, and logout.

use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use maud::html;
use tracing::info;

use super::elements::csrf_field;
use super::form::FormFields;
use super::layout::{self, DashboardSection, PageContent};
use super::login_page::{LoginDestination, START, login_page};
use super::page_response::{html_response, see_other};
use super::sessions::DashboardSession;
use super::visit::{
    PageReply, PageVisit, current_session, is_same_site, read_form, set_session_cookie,
};
use crate::config::Secret;
use crate::edge::caller::CallerIdentity;
use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;
use crate::edge::{access, client_address};
use crate::token::{AccessOperation, TokenRole};

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
    let destination = LoginDestination::from_link(&query);
    if link.is_empty() {
        return Ok(login_page(context, StatusCode::OK, &destination, None));
    }

    if let Err(refused) = admit_login(context) {
        context.call.note_outcome("rate_limited");
        return Ok(login_page(
            context,
            StatusCode::TOO_MANY_REQUESTS,
            &destination,
            Some(&refused),
        ));
    }
    let now = context.edge.clock.monotonic();
    if context.edge.dashboard.sessions.redeem_login_link(link, now) {
        let admin_token = &context.edge.config.admin.token;
        let caller = CallerIdentity::of_config(LOGIN_LINK, TokenRole::Admin, admin_token);
        Ok(begin_session(context, caller, START).0)
    } else {
        context.call.note_outcome(ApiError::LoginRefused.code());
        let problem = "This link was used before, or is too old. Log in with a token.";
        Ok(login_page(
            context,
            StatusCode::UNAUTHORIZED,
            &destination,
            Some(problem),
        ))
    }
}

/// Handles `POST /dashboard/login`: begins a session if the token is right.
pub(super) async fn submit(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    context.call.note_operation(AccessOperation::DashboardLogin);
    let form = match read_form(context).await {
        Ok(form) if is_same_site(context.request.headers()) => form,
        refused => {
            let error = refused.err().unwrap_or(ApiError::ForeignForm);
            context.call.note_outcome(error.code());
            let (status, problem) = (error.status_code(), layout::sentence(&error.to_string()));
            let start = LoginDestination::default();
            return Ok(login_page(context, status, &start, Some(&problem)));
        }
    };
    let destination = LoginDestination::from_form(&form, context.request.headers());
    if let Err(refused) = admit_login(context) {
        context.call.note_outcome("rate_limited");
        return Ok(login_page(
            context,
            StatusCode::TOO_MANY_REQUESTS,
            &destination,
            Some(&refused),
        ));
    }

    let token = Secret::new(form.text("token"));
    match identify_person(context, &token) {
        Ok(caller) => {
            let path = destination.path();
            let (mut response, session) = begin_session(context, caller, path);
            if let Some((session, kept)) = session.zip(destination.kept()) {
                offer_kept_form(&mut response, &session, path, kept);
            }
            Ok(response)
        }
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
            Ok(login_page(context, status, &destination, Some(&problem)))
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
    set_session_cookie(&mut response, visit.context, &Secret::default());
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

/// Begins a session of `caller` and redirects to `path`.
fn begin_session(
    context: &RequestContext,
    caller: CallerIdentity,
    path: &str,
) -> (HttpResponse, Option<DashboardSession>) {
    let edge = &context.edge;
    let client = edge.client_address(&context.request);
    info!(%client, token = &*caller.name, "dashboard session began");
    context.call.note_caller(caller.clone());
    let (sessions, now) = (&edge.dashboard.sessions, edge.clock.monotonic());
    let token = sessions.begin_session(caller, now);
    let mut response = see_other(path);
    set_session_cookie(&mut response, context, &token);
    (response, sessions.find_session(token.expose(), now))
}

/// Puts a page into `response` that offers to send the form `kept` to `path`. It names every field: a
/// person must see what is sent.
fn offer_kept_form(
    response: &mut HttpResponse,
    session: &DashboardSession,
    path: &str,
    kept: &FormFields,
) {
    let parent = path.rsplit_once('/').map_or(START, |(parent, _)| parent);
    let body = html! {
        section.panel {
            header { h2 { "Not sent yet" } span.muted.small { code { (path) } } }
            div.inside {
                dl.facts {
                    @for (name, value) in kept.iter().filter(|(_, value)| !value.is_empty()) {
                        dt { (name) }
                        dd { @if is_secret(name) { "…" } @else { (value) } }
                    }
                }
                form.row method="post" action=(path) {
                    (csrf_field(session))
                    @for (name, value) in kept.iter() {
                        input type="hidden" name=(name) value=(value);
                    }
                    button.primary type="submit" { "Send it now" }
                    a.button href=(parent) { "Forget it" }
                }
            }
        }
    };
    let content = PageContent::new(DashboardSection::Elsewhere, "You are logged in again", body);
    let page = html_response(
        StatusCode::OK,
        layout::render_page(&content, &[], session).into_string(),
    );
    let cookie = response.headers_mut().remove(SET_COOKIE).next();
    *response = page;
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
}

fn is_secret(name: &str) -> bool {
    ["secret", "token", "headers"]
        .iter()
        .any(|word| name.contains(word))
}

//! Page with the form of the login, which can hold another form that waits for it.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use maud::{Markup, html};

use super::form::FormFields;
use super::layout::render_plain_page;
use super::page_response::html_response;
use crate::edge::answer;
use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;

/// Header by which a browser says if a request comes from a page of the same site.
pub(super) const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Path to which a login leads if no page was asked for.
pub(super) const START: &str = "/dashboard";

/// Hidden field with a form that was sent after its session had ended. It is there for a form without
/// fields too, as a button is.
const KEPT: &str = "kept";

/// Destination of a login: a page, or a form that waits to be sent.
#[derive(Default)]
pub(super) struct LoginDestination {
    path: String,
    kept: Option<FormFields>,
}

impl LoginDestination {
    /// Reads the page that the `query` of a link names. A link brings no form: any site can make one.
    pub(super) fn from_link(query: &FormFields) -> Self {
        Self {
            path: query.text("next").to_owned(),
            kept: None,
        }
    }

    /// Reads what the login's own `form` carries. The form that waits counts only if the browser says
    /// that a page of this node sent it: otherwise another site could have filled it in.
    pub(super) fn from_form(form: &FormFields, headers: &HeaderMap) -> Self {
        let link = Self::from_link(form);
        if !form.has(KEPT) {
            return link;
        }
        if !is_same_origin(headers) {
            return Self::default();
        }
        let kept = FormFields::parse(form.raw(KEPT).as_bytes());
        Self {
            kept: Some(kept),
            ..link
        }
    }

    /// Returns the path of the page or of the form.
    pub(super) fn path(&self) -> &str {
        safe_path(&self.path)
    }

    /// Returns the form that waits to be sent to the path.
    pub(super) const fn kept(&self) -> Option<&FormFields> {
        self.kept.as_ref()
    }
}

/// Returns true if the browser says that a page of this node made the request. No other site can make
/// a browser say so.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    site == Some(b"same-origin")
}

/// Shows the login to a person whose session ended while `form` was filled in, and keeps the form.
pub(super) fn page_with_form(context: &RequestContext, form: FormFields) -> HttpResponse {
    context.call.note_outcome(ApiError::LoginRefused.code());
    let destination = LoginDestination {
        path: context.request.path().to_owned(),
        kept: Some(form.without("csrf")),
    };
    let problem = "Your session has ended. Log in, and your form is there to be sent again.";
    login_page(
        context,
        StatusCode::UNAUTHORIZED,
        &destination,
        Some(problem),
    )
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

/// Renders the login that leads to `destination`, with the `problem` of the last attempt.
pub(super) fn login_page(
    context: &RequestContext,
    status: StatusCode,
    destination: &LoginDestination,
    problem: Option<&str>,
) -> HttpResponse {
    let body = if context.edge.config.admin.token.is_empty() {
        without_token()
    } else {
        login_form(destination, problem)
    };
    let mut response = html_response(status, render_plain_page("Log in", &body).into_string());
    if status != StatusCode::OK {
        // A stranger that is refused keeps no connection.
        answer::close_connection(&mut response);
    }
    response
}

fn login_form(destination: &LoginDestination, problem: Option<&str>) -> Markup {
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
            input type="hidden" name="next" value=(destination.path());
            @if let Some(kept) = destination.kept() {
                input type="hidden" name=(KEPT) value=(kept.to_query());
            }
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

//! Page with the form of the login, which can hold another form that waits for it.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{Markup, html};

use super::form::FormFields;
use super::layout::render_plain_page;
use super::page_response::html_response;
use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;

/// Path to which a login leads if no page was asked for.
pub(super) const START: &str = "/dashboard";

/// Hidden field with a form that was sent after its session had ended.
pub(super) const KEPT: &str = "kept";

/// Shows the login to a person whose session ended while `form` was filled in, and keeps the form.
pub(super) fn page_with_form(context: &RequestContext, form: &FormFields) -> HttpResponse {
    context.call.note_outcome(ApiError::LoginRefused.code());
    let kept = form.clone().without("csrf").to_query();
    let fields = FormFields::default()
        .with("next", context.request.path())
        .with(KEPT, &kept);
    let problem = "Your session has ended. Log in, and your form is there to be sent again.";
    login_page(context, StatusCode::UNAUTHORIZED, &fields, Some(problem))
}

/// Returns `path` if it leads to a page of the dashboard, otherwise the start: a link to the login
/// must not lead to another site.
pub(super) fn safe_path(path: &str) -> &str {
    let is_own = path == START || path.starts_with("/dashboard/");
    let is_plain = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own && is_plain { path } else { START }
}

/// Renders the login, with the `problem` of the last attempt; `fields` say where it leads.
pub(super) fn login_page(
    context: &RequestContext,
    status: StatusCode,
    fields: &FormFields,
    problem: Option<&str>,
) -> HttpResponse {
    let body = if context.edge.config.admin.token.is_empty() {
        without_token()
    } else {
        login_form(safe_path(fields.text("next")), fields.raw(KEPT), problem)
    };
    html_response(status, render_plain_page("Log in", &body).into_string())
}

fn login_form(next: &str, kept: &str, problem: Option<&str>) -> Markup {
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
            @if !kept.is_empty() { input type="hidden" name=(KEPT) value=(kept); }
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

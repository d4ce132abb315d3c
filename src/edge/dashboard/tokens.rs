//! Named tokens: list, creation, revocation. The secret of a new one is shown once.

use actix_web::ResponseError;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::elements::{
    StateTone, badge, csrf_field, empty_state, optional_time, select_option, time,
};
use super::form::FormFields;
use super::form_problems::FormProblems;
use super::layout::{DashboardSection, PageContent};
use super::notice::SessionNotice;
use super::visit::{PageReply, PageVisit};
use crate::edge::error::ApiError;
use crate::edge::tokens::{configured_tokens, create_from_json, revoke_token};
use crate::token::{AccessOperation, NamedToken, TokenRole};

pub(super) const PATH: &str = "/dashboard/tokens";

/// Path of the form that revokes a token.
pub(super) const REVOKE_PATH: &str = "/dashboard/tokens/revoke";

/// Handles `GET /dashboard/tokens`: lists the tokens, and offers a new one.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let nothing = FormFields::default().with("role", TokenRole::Read.as_str());
    Ok(render(visit, &nothing, None)?.into())
}

/// Handles `POST /dashboard/tokens`: creates a token, and shows its secret once.
pub(super) async fn create(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let creator = visit.session.caller.name.to_string();
    match create_from_json(visit.edge(), &creator, &request_of(form)).await {
        Ok((token, secret)) => {
            visit.context.call.note_object(&token.name);
            visit.notify(SessionNotice::NewSecret {
                owner: format!("token {}", token.name),
                purpose: "A program or a person shows it as bearer token.",
                secret,
            });
            Ok(PageReply::SeeOther(PATH.to_owned()))
        }
        Err(error) => {
            visit.context.call.note_outcome(error.code());
            let content = render(visit, form, Some(&error))?;
            Ok(PageReply::Content(error.status_code(), content))
        }
    }
}

/// Handles `POST /dashboard/tokens/revoke`: revokes the token that the form names.
pub(super) async fn revoke(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let name = form.text("name");
    visit.context.call.note_object(name);
    revoke_token(visit.edge(), name).await?;
    Ok(visit.done(format!("Token {name} was revoked."), PATH))
}

/// Builds the request of the API that has the values of `form`.
fn request_of(form: &FormFields) -> String {
    let mut members = Map::new();
    members.insert("name".to_owned(), json!(form.text("name")));
    members.insert("role".to_owned(), json!(form.text("role")));
    for name in ["sources", "kinds", "accounts"] {
        let listed = form.text(name).split([',', ' ']);
        let listed: Vec<_> = listed.filter(|item| !item.is_empty()).collect();
        if !listed.is_empty() {
            members.insert(name.to_owned(), json!(listed));
        }
    }
    let days = form.text("expires_in_days");
    if !days.is_empty() {
        // Any other text stays as it is, and the API says that it should be a number.
        let seconds = days.parse::<u64>().map(|days| days.saturating_mul(86_400));
        let life = seconds.map_or_else(|_| json!(days), Value::from);
        members.insert("expires_in_s".to_owned(), life);
    }
    Value::Object(members).to_string()
}

fn render(
    visit: &PageVisit<'_>,
    fields: &FormFields,
    error: Option<&ApiError>,
) -> Result<PageContent, ApiError> {
    let known = visit.core()?.tokens.snapshot();
    let named: Vec<_> = known.iter().collect();
    let configured = configured_tokens(visit.edge());
    let body = html! {
        div.panel {
            @if named.is_empty() {
                (empty_state("No named token yet.", html! {
                    "Give each person and each program a token of its own: the audit log tells them \
                     apart, and each can be revoked alone."
                }))
            }
            (render_table(&configured, &named, visit))
        }
        @if visit.may(AccessOperation::TokensCreate) {
            (render_form(fields, FormProblems::new(error), visit))
        }
    };
    let lead = html! {
        "Who may use the API and the dashboard, and with which role. "
        a href="/docs/guide/operate#named-tokens" { "Guide" }
    };
    Ok(PageContent::new(DashboardSection::Tokens, "Tokens", body).lead(lead))
}

fn render_table(
    configured: &[(String, TokenRole)],
    named: &[&std::sync::Arc<NamedToken>],
    visit: &PageVisit<'_>,
) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Token" }
                th scope="col" { "Role" }
                th scope="col" { "May publish" }
                th scope="col" { "Made" }
                th scope="col" { "Ends" }
                th scope="col" { span.hidden-text { "Action" } }
            } }
            tbody {
                @for (name, role) in configured {
                    tr {
                        td.first { strong { (name) } span.sub { "of the configuration" } }
                        td data-label="Role" { (role.as_str()) }
                        td data-label="May publish" { "–" }
                        td data-label="Made" { "–" }
                        td data-label="Ends" { span.muted { "never" } }
                        td.shrink {}
                    }
                }
                @for token in named { (render_row(token, visit)) }
            }
        }
    }
}

fn render_row(token: &NamedToken, visit: &PageVisit<'_>) -> Markup {
    let scope = &token.scope;
    let scope = [&scope.sources[..], &scope.kinds[..], &scope.accounts[..]].concat();
    let question = format!(
        "Revoke the token {}? Who uses it is refused at once.",
        token.name
    );
    html! {
        tr {
            td.first {
                strong { (token.name) } " "
                @if token.is_expired(visit.now) { (badge(StateTone::Bad, "expired")) }
            }
            td data-label="Role" { (token.role.as_str()) }
            td data-label="May publish" {
                @if token.role != TokenRole::Publish { "–" }
                @else if scope.is_empty() { "everything" }
                @else { (scope.join(", ")) }
            }
            td data-label="Made" {
                span { (time(token.created_at, visit.now)) span.sub { "by " (token.created_by) } }
            }
            td data-label="Ends" { (optional_time(token.expires_at, visit.now)) }
            td.shrink {
                @if visit.may(AccessOperation::TokensRevoke) {
                    form.inline method="post" action=(REVOKE_PATH) data-confirm=(question) {
                        (csrf_field(&visit.session))
                        input type="hidden" name="name" value=(token.name);
                        button.danger.small type="submit" { "Revoke" }
                    }
                }
            }
        }
    }
}

fn render_form(fields: &FormFields, problems: FormProblems<'_>, visit: &PageVisit<'_>) -> Markup {
    let text = |name: &str, label: &str, hint: &str, of_api: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input type="text" id=(name) name=(name) value=(fields.text(name))
                    spellcheck="false" aria-invalid=[problems.invalid(of_api)];
                p.hint { (hint) }
                (problems.render(of_api))
            }
        }
    };
    html! {
        (problems.notice())
        form.stack.panel method="post" action=(PATH) {
            header { h2 { "New token" } }
            div.inside {
                (csrf_field(&visit.session))
                div.two {
                    (text("name", "Name", "As events and the audit log show it, such as ana or billing.", "name"))
                    div.field {
                        label for="role" { "Role" }
                        select id="role" name="role" {
                            @for role in TokenRole::ALL {
                                (select_option(role.as_str(), role.as_str(), fields.text("role")))
                            }
                        }
                        p.hint { "What it may do; the guide has the table." }
                        (problems.render("role"))
                    }
                    (text("sources", "Sources", "Of a publisher only. Empty: all.", "sources"))
                    (text("kinds", "Kinds of entities", "Of a publisher only. Empty: all.", "kinds"))
                    (text("accounts", "Accounts of Instagram", "Of a publisher only. Empty: all.", "accounts"))
                    (text("expires_in_days", "Ends after days", "Empty: never.", "expires_in_s"))
                }
                div.row { button.primary type="submit" { "Create token" } }
            }
        }
    }
}

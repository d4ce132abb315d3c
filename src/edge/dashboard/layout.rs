//! Frame around the content of a page: head, navigation, notices, footer.

use actix_web::ResponseError;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::elements::{copy_button, csrf_field, empty_state};
use super::notice::SessionNotice;
use super::sessions::DashboardSession;
use crate::edge::error::ApiError;

/// Path of the form that ends the session.
pub(super) const LOGOUT_PATH: &str = "/dashboard/logout";

/// Section of the dashboard, an entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DashboardSection {
    Overview,
    Webhooks,
    DeadLetters,
    Jobs,
    Events,
    Entities,
    Sources,
    CallLog,
    Accounts,
    Tokens,
    Settings,
    Audit,
    /// Page without an entry, such as one about an error.
    Elsewhere,
}

/// Entry of the navigation: its section, name and path.
type NavigationEntry = (DashboardSection, &'static str, &'static str);

/// Groups of the navigation, each with its title and entries.
const NAVIGATION: [(&str, &[NavigationEntry]); 4] = [
    (
        "Node",
        &[
            (DashboardSection::Overview, "Overview", "/dashboard"),
            (DashboardSection::Audit, "Audit log", "/dashboard/audit"),
        ],
    ),
    (
        "Deliver",
        &[
            (
                DashboardSection::Webhooks,
                "Webhooks",
                "/dashboard/settings/webhooks",
            ),
            (
                DashboardSection::DeadLetters,
                "Dead letters",
                "/dashboard/dead-letters",
            ),
            (DashboardSection::Jobs, "Jobs", "/dashboard/jobs"),
        ],
    ),
    (
        "Receive",
        &[
            (DashboardSection::Events, "Events", "/dashboard/events"),
            (
                DashboardSection::Entities,
                "Entities",
                "/dashboard/entities",
            ),
            (DashboardSection::Sources, "Sources", "/dashboard/sources"),
            (DashboardSection::CallLog, "Call log", "/dashboard/calls"),
        ],
    ),
    (
        "Configure",
        &[
            (
                DashboardSection::Accounts,
                "Accounts",
                "/dashboard/accounts",
            ),
            (DashboardSection::Tokens, "Tokens", "/dashboard/tokens"),
            (
                DashboardSection::Settings,
                "Settings",
                "/dashboard/settings",
            ),
        ],
    ),
];

/// Content of a page within the frame.
pub(super) struct PageContent {
    pub(super) title: String,
    pub(super) section: DashboardSection,
    /// One line below the title that says what the page is for.
    pub(super) lead: Option<Markup>,
    /// Links and buttons beside the title.
    pub(super) actions: Markup,
    /// Pages above this one, with their paths.
    pub(super) parents: Vec<(String, String)>,
    pub(super) body: Markup,
    /// Seconds after which the script fetches the live parts of the page again.
    pub(super) refresh_s: Option<u32>,
}

impl PageContent {
    pub(super) fn new(section: DashboardSection, title: impl Into<String>, body: Markup) -> Self {
        Self {
            title: title.into(),
            section,
            lead: None,
            actions: html! {},
            parents: Vec::new(),
            body,
            refresh_s: None,
        }
    }

    pub(super) fn lead(self, lead: Markup) -> Self {
        Self {
            lead: Some(lead),
            ..self
        }
    }

    pub(super) fn actions(self, actions: Markup) -> Self {
        Self { actions, ..self }
    }

    /// Adds the page above this one, below those added before.
    pub(super) fn under(mut self, title: impl Into<String>, path: impl Into<String>) -> Self {
        self.parents.push((title.into(), path.into()));
        self
    }

    pub(super) fn refreshed_every(self, seconds: u32) -> Self {
        Self {
            refresh_s: Some(seconds),
            ..self
        }
    }
}

/// Renders the whole page for `session`, with the `notices` left for it.
pub(super) fn render_page(
    content: &PageContent,
    notices: &[SessionNotice],
    session: &DashboardSession,
) -> Markup {
    let body = html! {
        body.app data-refresh=[content.refresh_s] {
            a.skip href="#main" { "Skip to the content" }
            header.side {
                a.brand href="/dashboard" { (brand_mark()) "Hookyard" }
                nav aria-label="Main" {
                    @for (group, entries) in NAVIGATION {
                        div.group {
                            p.group-title { (group) }
                            ul {
                                @for (section, name, path) in entries {
                                    li {
                                        a href=(path)
                                            aria-current=[(*section == content.section).then_some("page")]
                                            {
                                            (name)
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                form.logout method="post" action=(LOGOUT_PATH) {
                    (csrf_field(session))
                    p.muted.small {
                        (session.caller.name) " (" (session.caller.role.as_str()) ")"
                    }
                    button.quiet type="submit" { "Log out" }
                }
            }
            div.column {
                main id="main" tabindex="-1" {
                    @if !content.parents.is_empty() {
                        nav.crumbs aria-label="Breadcrumb" {
                            ol {
                                @for (title, path) in &content.parents {
                                    li { a href=(path) { (title) } }
                                }
                            }
                        }
                    }
                    div.title-row {
                        h1 { (content.title) }
                        div.actions { (content.actions) }
                    }
                    @if let Some(lead) = &content.lead { p.lead { (lead) } }
                    @if content.refresh_s.is_some() {
                        div.notice.bad id="stale" role="status" hidden {
                            p { "The node does not answer. What you see here may be old." }
                        }
                    }
                    @for notice in notices { (render_notice(notice)) }
                    (content.body)
                }
                (footer())
            }
        }
    };
    document(&content.title, &body)
}

/// Renders a page outside the frame, such as the login, with `body` as its whole content.
pub(super) fn render_plain_page(title: &str, body: &Markup) -> Markup {
    let body = html! {
        body.plain {
            main.card id="main" {
                p.brand { (brand_mark()) "Hookyard" }
                (body)
            }
            (footer())
        }
    };
    document(title, &body)
}

/// Content of the page about `error`.
pub(super) fn error_content(error: &ApiError) -> PageContent {
    let status = error.status_code().as_u16();
    let title = match status {
        403 => "Not allowed",
        404 => "Not found",
        405 => "No page",
        410 => "Removed",
        503 => "Not ready",
        400..500 => "This did not work",
        _ => "Something failed",
    };
    let hint = match status {
        403 if matches!(error, ApiError::RoleMissing { .. }) => {
            "Log out, and log in with a token of that role, or ask somebody who has one."
        }
        403 => "Go back, load the page again, and send the form from there.",
        405 => "This address takes a form of another page.",
        404 => "It may have been deleted, or the address may be mistyped.",
        503 => {
            "The node is opening its store, or it is overloaded. Load the page again in a moment; \
             the overview says why."
        }
        400..500 => "Go back, mend that, and try again.",
        _ => "Go back and try again. The log of the node has a line about each defect.",
    };
    PageContent::new(
        DashboardSection::Elsewhere,
        title,
        empty_state(
            &sentence(&error.to_string()),
            html! {
                (hint) " " a href="/dashboard" { "To the overview" }
            },
        ),
    )
}

/// Writes `text`, which an error begins in lower case, as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase());
    let mut sentence: String = first.into_iter().flatten().chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Hookyard" }
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path());
                link rel="stylesheet" href=(assets::STYLES.path());
                script src=(assets::SCRIPT.path()) defer {}
            }
            (body)
        }
    }
}

fn brand_mark() -> Markup {
    html! { img.mark src=(assets::ICON.path()) alt="" width="22" height="22"; }
}

fn footer() -> Markup {
    html! {
        footer {
            p {
                "Hookyard " (env!("CARGO_PKG_VERSION"))
                " · " a href="/docs/guide/" { "Guides" }
                " · " a href="/docs/" { "API" }
                " · " a href="/metrics" { "Metrics" }
            }
        }
    }
}

fn render_notice(notice: &SessionNotice) -> Markup {
    match notice {
        SessionNotice::Success(text) => html! { div.notice.good role="status" { p { (text) } } },
        SessionNotice::Failure(text) => html! { div.notice.bad role="alert" { p { (text) } } },
        SessionNotice::NewSecret {
            owner,
            purpose,
            secret,
        } => html! {
            div.notice.good role="status" {
                p {
                    strong { "Secret of " (owner) ". " }
                    "Copy it now: it is not shown again. " (purpose)
                }
                div.secret {
                    code id="new-secret" { (secret.expose()) }
                    (copy_button("new-secret", "Copy secret"))
                }
            }
        },
        SessionNotice::Ping {
            is_successful,
            summary,
            answer,
        } => html! {
            div class={ "notice " (if *is_successful { "good" } else { "bad" }) } role="status" {
                p {
                    strong { (if *is_successful { "Test delivered. " } else { "Test failed. " }) }
                    (summary)
                }
                @if let Some(answer) = answer {
                    p.muted { "The target answered:" }
                    pre { (answer) }
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_sentence() {
        assert_eq!(
            sentence("there is no such event"),
            "There is no such event."
        );
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence(""), ".");
    }
}

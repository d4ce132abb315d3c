//! Form to create or change an account. Wrong fields come back with what is wrong beside each.

use actix_web::ResponseError;
use maud::{Markup, html};

use super::account_fields::{OWN_REPLY, change_request, creation_request, differences, fields_of};
use super::accounts::{LIST_PATH, NEW_PATH, edit_path};
use super::elements::{csrf_field, select_option};
use super::form::FormFields;
use super::form_problems::FormProblems;
use super::layout::{DashboardSection, PageContent};
use super::notice::{SessionNotice, VERIFIES};
use super::stale_form::{SEEN, render_comparison, seen_change};
use super::visit::{PageReply, PageVisit};
use crate::account::Account;
use crate::edge::accounts;
use crate::edge::error::{ApiError, CHANGED_SINCE};

/// Handles `GET /dashboard/accounts/new`: shows the form of a new account.
pub(super) async fn show_new(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    Ok(render(visit, None, &FormFields::default(), None, None).into())
}

/// Handles `POST /dashboard/accounts/new`: creates an account, and shows its secret once.
pub(super) async fn create(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    match accounts::create_from_json(visit.edge(), &creation_request(form)).await {
        Ok(account) => {
            visit.context.call.note_object(&account.id);
            visit.notify(SessionNotice::NewSecret {
                owner: format!("account {}", account.id),
                purpose: VERIFIES,
                secret: account.webhook_secret.clone(),
            });
            Ok(visit.done(format!("Account {} was created.", account.id), LIST_PATH))
        }
        Err(error) => {
            visit.context.call.note_outcome(error.code());
            let content = render(visit, None, form, Some(&error), None);
            Ok(PageReply::Content(error.status_code(), content))
        }
    }
}

/// Handles `GET /dashboard/accounts/{account_id}/edit`: shows the form of an account.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let account = accounts::find_account(&*visit.core()?, &id)?;
    Ok(render(visit, Some(&id), &fields_of(&account), None, None).into())
}

/// Handles `POST /dashboard/accounts/{account_id}/edit`: changes an account. A new secret is shown
/// once.
pub(super) async fn change(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    accounts::find_account(&*visit.core()?, &id)?;
    let (request, seen) = (change_request(form), seen_change(form));
    match accounts::change_from_json(visit.edge(), &id, &request, Some(seen)).await {
        Ok(changed) => {
            if changed.has_new_secret {
                visit.notify(SessionNotice::NewSecret {
                    owner: format!("account {id}"),
                    purpose: VERIFIES,
                    secret: changed.account.webhook_secret.clone(),
                });
            }
            Ok(visit.done(format!("Account {id} was changed."), LIST_PATH))
        }
        Err(error) if error.code() == CHANGED_SINCE => {
            let account = accounts::find_account(&*visit.core()?, &id)?;
            Ok(overtaken(visit, &account, form, &error))
        }
        Err(error) => {
            visit.context.call.note_outcome(error.code());
            let content = render(visit, Some(&id), form, Some(&error), None);
            Ok(PageReply::Content(error.status_code(), content))
        }
    }
}

/// Shows the form again as it was sent, beside what another person stored meanwhile. Saved once more,
/// it replaces that. Secrets are not compared, since no page shows them.
fn overtaken(
    visit: &PageVisit<'_>,
    account: &Account,
    form: &FormFields,
    error: &ApiError,
) -> PageReply {
    visit.context.call.note_outcome(error.code());
    let stored = fields_of(account);
    let form = form.clone().with(SEEN, stored.text(SEEN));
    let note = html! { "secrets are not compared" };
    let comparison = render_comparison(&note, &differences(&stored, &form));
    let id = Some(account.id.as_str());
    let content = render(visit, id, &form, Some(error), Some(&comparison));
    PageReply::Content(error.status_code(), content)
}

fn render(
    visit: &PageVisit<'_>,
    id: Option<&str>,
    fields: &FormFields,
    error: Option<&ApiError>,
    outcome: Option<&Markup>,
) -> PageContent {
    let form = AccountForm {
        visit,
        id,
        fields,
        problems: FormProblems::new(error),
        outcome,
    };
    let title = id.map_or_else(
        || "New account".to_owned(),
        |id| format!("Edit account {id}"),
    );
    PageContent::new(DashboardSection::Accounts, title, form.render()).under("Accounts", LIST_PATH)
}

/// Form with its values, and the problems of the last attempt.
struct AccountForm<'a> {
    visit: &'a PageVisit<'a>,
    /// Id of a stored account; `None` for a new one.
    id: Option<&'a str>,
    fields: &'a FormFields,
    problems: FormProblems<'a>,
    /// Comparison with what is stored, if that was changed meanwhile.
    outcome: Option<&'a Markup>,
}

impl AccountForm<'_> {
    fn render(&self) -> Markup {
        let path = self.id.map_or_else(|| NEW_PATH.to_owned(), edit_path);
        html! {
            (self.problems.notice())
            @if let Some(outcome) = self.outcome { (outcome) }
            form.stack.panel method="post" action=(path) {
                div.inside {
                    (csrf_field(&self.visit.session))
                    @if self.id.is_some() {
                        input type="hidden" name=(SEEN) value=(self.fields.text(SEEN));
                    }
                    (self.target())
                    (self.secrets())
                    (self.reply())
                    div.row {
                        button.primary type="submit" {
                            @if self.id.is_some() { "Save" } @else { "Create account" }
                        }
                        a.button href=(LIST_PATH) { "Cancel" }
                    }
                }
            }
        }
    }

    fn target(&self) -> Markup {
        let default = &self.visit.edge().config.sources.instagram.crm_webhook_url;
        html! {
            @if self.id.is_none() { div.field {
                label for="account_id" { "Account" }
                input type="text" id="account_id" name="account_id" required
                    value=(self.fields.text("account_id"))
                    aria-invalid=[self.problems.invalid("account_id")];
                p.hint { "Id of your choice, such as acc_1. It cannot be changed." }
                (self.problems.render("account_id"))
            } }
            div.field {
                label for="instagram_account_id" { "Instagram account" }
                input type="text" id="instagram_account_id" name="instagram_account_id" required
                    value=(self.fields.text("instagram_account_id"))
                    aria-invalid=[self.problems.invalid("instagram_account_id")];
                p.hint {
                    "Id of the business account. With another id, the messages received from now on \
                     count."
                }
                (self.problems.render("instagram_account_id"))
            }
            div.field {
                label for="crm_webhook_url" { "Messages go to" }
                input type="url" id="crm_webhook_url" name="crm_webhook_url"
                    value=(self.fields.text("crm_webhook_url"))
                    placeholder="https://crm.example.com/instagram"
                    aria-invalid=[self.problems.invalid("crm_webhook_url")];
                p.hint {
                    "Empty: as configured, "
                    @match default { Some(url) => code { (url) }, None => "which is nowhere" }
                    "."
                }
                (self.problems.render("crm_webhook_url"))
            }
        }
    }

    /// Field for one secret, with the effect of leaving it empty in a new account, and a choice that
    /// replaces a kept one.
    fn secret_field(
        &self,
        (name, label): (&'static str, &str),
        hint_of_new: &str,
        (choice, choice_label): (&'static str, &str),
    ) -> Markup {
        html! {
            div.field {
                label for=(name) { (label) }
                input type="password" id=(name) name=(name)
                    autocomplete="new-password" spellcheck="false"
                    aria-invalid=[self.problems.invalid(name)];
                @if self.id.is_none() {
                    p.hint { (hint_of_new) }
                } @else {
                    p.hint { "Empty: as it is." }
                    label.check {
                        input type="checkbox" name=(choice)
                            checked[self.fields.has(choice)];
                        span { (choice_label) }
                    }
                }
                (self.problems.render(name))
            }
        }
    }

    /// Fields for secrets. A kept value is never shown, nor one that was just sent.
    fn secrets(&self) -> Markup {
        html! {
            div.two {
                (self.secret_field(
                    ("webhook_secret", "Secret of the deliveries"),
                    "Empty: a strong one is made. It is shown once.",
                    ("new_secret", "Make a new one, and show it once"),
                ))
                (self.secret_field(
                    ("access_token", "Access token for replies"),
                    "Empty: the configured one.",
                    ("forget_token", "Forget it, and use the configured one"),
                ))
            }
        }
    }

    fn reply(&self) -> Markup {
        html! {
            fieldset {
                legend { "Automatic reply" }
                div.field {
                    label for="reply" { "Reply" }
                    select id="reply" name="reply" {
                        (select_option("", "As configured", self.fields.text("reply")))
                        (select_option(OWN_REPLY, "The text below", self.fields.text("reply")))
                    }
                }
                div.field {
                    label for="reply_text" { "Text" }
                    textarea id="reply_text" name="reply_text" rows="3"
                        aria-invalid=[self.problems.invalid("auto_reply.text")] {
                        (self.fields.text("reply_text"))
                    }
                    p.hint { "Without a text this account sends no automatic reply." }
                    (self.problems.render("auto_reply.text"))
                }
                div.field {
                    label for="cooldown_s" { "Pause in seconds" }
                    input type="text" inputmode="decimal" id="cooldown_s" name="cooldown_s"
                        value=(self.fields.text("cooldown_s"))
                        aria-invalid=[self.problems.invalid("auto_reply.cooldown_s")];
                    p.hint { "One person gets at most one reply in this time. Empty: as configured." }
                    (self.problems.render("auto_reply.cooldown_s"))
                }
            }
        }
    }
}

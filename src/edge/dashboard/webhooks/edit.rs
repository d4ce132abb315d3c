//! Form to create or edit a webhook. Wrong fields come back with what is wrong beside each.

use actix_web::ResponseError;
use maud::{Markup, html};

use super::super::elements::{csrf_field, duration, select_option};
use super::super::form::FormFields;
use super::super::form_problems::FormProblems;
use super::super::layout::{DashboardSection, PageContent};
use super::super::notice::{SessionNotice, VERIFIES};
use super::super::stale_form::{SEEN, render_comparison, seen_change};
use super::super::visit::{PageReply, PageVisit};
use super::event_picker::EventPicker;
use super::fields::{change_request, creation_request, differences, fields_of, fields_of_new};
use super::state::{LIST_PATH, state_name, webhook_path};
use super::trial::try_expressions;
use crate::edge::error::{ApiError, CHANGED_SINCE};
use crate::edge::webhooks;
use crate::subscription::{SigningStyle, Subscription, SubscriptionId};

/// Name of the button that tries the expressions instead of saving them.
const TRY: &str = "try";

/// Handles `GET /dashboard/settings/webhooks/new`: shows the form of a new webhook.
pub(in crate::edge::dashboard) async fn show_new(
    visit: &mut PageVisit<'_>,
) -> Result<PageReply, ApiError> {
    Ok(render(visit, None, &fields_of_new(), None, None).into())
}

/// Handles `POST /dashboard/settings/webhooks/new`: creates a webhook, and shows its secret once.
pub(in crate::edge::dashboard) async fn create(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    if form.has(TRY) {
        return tried(visit, None, form).await;
    }
    match webhooks::create_from_json(visit.edge(), &creation_request(form)).await {
        Ok(created) => {
            visit.context.call.note_object(created.id);
            visit.notify(SessionNotice::Success("The webhook was created.".into()));
            visit.notify(SessionNotice::NewSecret {
                owner: format!("webhook {}", created.id),
                purpose: VERIFIES,
                secret: created.secrets.current.clone(),
            });
            Ok(PageReply::SeeOther(webhook_path(created.id)))
        }
        Err(error) => Ok(refused(visit, None, form, &error)),
    }
}

/// Handles `GET /dashboard/settings/webhooks/{id}/edit`: shows the form of a webhook.
pub(in crate::edge::dashboard) async fn show_edit(
    visit: &mut PageVisit<'_>,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let known = webhooks::find_subscription(&*visit.core()?, &id)?;
    let fields = fields_of(&known, &EventPicker::new(visit.edge()));
    Ok(render(visit, Some(known.id), &fields, None, None).into())
}

/// Handles `POST /dashboard/settings/webhooks/{id}/edit`: changes a webhook.
pub(in crate::edge::dashboard) async fn change(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let known = webhooks::find_subscription(&*visit.core()?, &id)?.id;
    if form.has(TRY) {
        return tried(visit, Some(known), form).await;
    }
    let (request, seen) = (change_request(form), seen_change(form));
    match webhooks::change_from_json(visit.edge(), &id, &request, Some(seen)).await {
        Ok(_) => Ok(visit.done("The webhook was changed.", webhook_path(known))),
        Err(error) if error.code() == CHANGED_SINCE => {
            let known = webhooks::find_subscription(&*visit.core()?, &id)?;
            Ok(overtaken(visit, &known, form, &error))
        }
        Err(error) => Ok(refused(visit, Some(known), form, &error)),
    }
}

/// Shows the form again, with the result of its filter and transform on an event.
async fn tried(
    visit: &PageVisit<'_>,
    id: Option<SubscriptionId>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    // Nothing is changed by a trial.
    visit.context.call.note_outcome("tried");
    let trial = try_expressions(visit, form).await?;
    Ok(render(visit, id, form, None, Some(&trial)).into())
}

/// Shows the form again as it was sent, beside what another person stored meanwhile. Saved once more,
/// it replaces that.
fn overtaken(
    visit: &PageVisit<'_>,
    known: &Subscription,
    form: &FormFields,
    error: &ApiError,
) -> PageReply {
    visit.context.call.note_outcome(error.code());
    let stored = fields_of(known, &EventPicker::new(visit.edge()));
    let form = form.clone().with(SEEN, stored.text(SEEN));
    let differences = differences(&stored, &form);
    let note = html! { "the webhook is " (state_name(&known.state)) };
    let comparison = render_comparison(&note, &differences);
    let content = render(visit, Some(known.id), &form, Some(error), Some(&comparison));
    PageReply::Content(error.status_code(), content)
}

/// Shows the form again, with the fields as they were sent and the problem of each.
fn refused(
    visit: &PageVisit<'_>,
    id: Option<SubscriptionId>,
    form: &FormFields,
    error: &ApiError,
) -> PageReply {
    visit.context.call.note_outcome(error.code());
    PageReply::Content(
        error.status_code(),
        render(visit, id, form, Some(error), None),
    )
}

fn render(
    visit: &PageVisit<'_>,
    id: Option<SubscriptionId>,
    fields: &FormFields,
    error: Option<&ApiError>,
    outcome: Option<&Markup>,
) -> PageContent {
    let form = WebhookForm {
        visit,
        id,
        fields,
        problems: FormProblems::new(error),
        outcome,
    };
    let title = id.map_or_else(
        || "New webhook".to_owned(),
        |id| format!("Edit webhook {id}"),
    );
    let content = PageContent::new(DashboardSection::Webhooks, title, form.render());
    let content = content.under("Webhooks", LIST_PATH);
    match id {
        Some(id) => content.under(format!("Webhook {id}"), webhook_path(id)),
        None => content,
    }
}

/// Form with its values, and the problems or the outcome of the last attempt.
struct WebhookForm<'a> {
    visit: &'a PageVisit<'a>,
    id: Option<SubscriptionId>,
    fields: &'a FormFields,
    problems: FormProblems<'a>,
    outcome: Option<&'a Markup>,
}

impl WebhookForm<'_> {
    fn render(&self) -> Markup {
        let path = self.id.map_or_else(
            || format!("{LIST_PATH}/new"),
            |id| format!("{}/edit", webhook_path(id)),
        );
        let cancel = self.id.map_or_else(|| LIST_PATH.to_owned(), webhook_path);
        html! {
            (self.problems.notice())
            @if let Some(outcome) = self.outcome { (outcome) }
            form.stack.panel method="post" action=(path) data-events {
                div.inside {
                    (csrf_field(&self.visit.session))
                    @if self.id.is_some() {
                        input type="hidden" name=(SEEN) value=(self.fields.text(SEEN));
                    }
                    // The first button is the one that the key Enter presses.
                    button type="submit" tabindex="-1" hidden { "Save" }
                    (self.target())
                    (EventPicker::new(self.visit.edge()).render(
                        self.fields,
                        &self.problems.render("events"),
                    ))
                    (self.more())
                    div.row {
                        button.primary type="submit" {
                            @if self.id.is_some() { "Save" } @else { "Create webhook" }
                        }
                        a.button href=(cancel) { "Cancel" }
                    }
                }
            }
        }
    }

    fn target(&self) -> Markup {
        let is_new = self.id.is_none();
        html! {
            @if self.fields.text("delivery") == "pull" {
                input type="hidden" name="delivery" value="pull";
                p.hint { "The subscriber reads its events itself; there is no URL." }
            } @else { div.field {
                label for="url" { "URL" }
                input type="url" id="url" name="url" required maxlength="500" value=(self.fields.text("url"))
                    placeholder="https://integration.example.com/hooks" aria-invalid=[self.problems.invalid("url")]
                    aria-describedby="url-hint";
                p.hint id="url-hint" {
                    "Events are posted here. It must be https, unless "
                    code { "delivery.allow_targets" } " allows the address."
                }
                (self.problems.render("url"))
            } }
            div.field {
                label for="description" { "Description" }
                input type="text" id="description" name="description"
                    value=(self.fields.text("description"))
                    aria-invalid=[self.problems.invalid("description")];
                p.hint { "A note for you and your colleagues." }
                (self.problems.render("description"))
            }
            @if is_new {
                label.check {
                    input type="checkbox" name="is_active" checked[self.fields.has("is_active")];
                    span {
                        strong { "Active" } br;
                        span.hint { "Otherwise events are kept until you resume the webhook." }
                    }
                }
                div.field {
                    label for="secret" { "Secret" }
                    input type="text" id="secret" name="secret" autocomplete="off"
                        spellcheck="false" aria-invalid=[self.problems.invalid("secret")];
                    p.hint { "Signs the deliveries. Empty: a strong one is made and shown once." }
                    (self.problems.render("secret"))
                }
            }
        }
    }

    /// Settings that most webhooks leave at their defaults.
    fn more(&self) -> Markup {
        let delivery = &self.visit.edge().config.delivery;
        let names = [
            "filter",
            "transform",
            "signing",
            "headers",
            "concurrency",
            "rate_limit",
            "timeout_s",
            "retry_schedule_s",
            "on_exhausted",
            "ordering",
        ];
        let is_open = self.outcome.is_some()
            || names
                .iter()
                .any(|name| self.problems.invalid(name).is_some());
        html! {
            details.group-box open[is_open] {
                summary { "Filter, transform, order, signatures, retries" }
                div.inside.stack {
                    (self.expression(
                        "filter",
                        "Filter",
                        "A CEL expression. Only events for which it is true are delivered, such \
                         as: data.status == \"open\"",
                    ))
                    (self.expression(
                        "transform",
                        "Transform",
                        "A CEL expression that makes the body, such as: {\"text\": event + \" \" \
                         + entity.id}. Empty: the standard body.",
                    ))
                    div {
                        button.small type="submit" name=(TRY) value="1" formnovalidate {
                            "Try on the newest event"
                        }
                    }
                    fieldset {
                        legend { "Signatures" }
                        @for (name, style) in SigningStyle::NAMED {
                            label.check {
                                input type="checkbox" name="signing" value=(name)
                                    checked[self.fields.all("signing").any(|chosen| chosen == name)];
                                span { code { (name) } " " span.hint { (style_hint(style)) } }
                            }
                        }
                        (self.problems.render("signing"))
                    }
                    div.two {
                        div.field {
                            label for="ordering" { "Order" }
                            select id="ordering" name="ordering" {
                                (select_option(
                                    "entity",
                                    "Strict for each entity",
                                    self.fields.text("ordering"),
                                ))
                                (select_option(
                                    "subscription",
                                    "Strict for everything",
                                    self.fields.text("ordering"),
                                ))
                                (select_option(
                                    "none",
                                    "As soon as possible",
                                    self.fields.text("ordering"),
                                ))
                            }
                            (self.problems.render("ordering"))
                        }
                        div.field {
                            label for="on_exhausted" { "After the last retry" }
                            select id="on_exhausted" name="on_exhausted" {
                                (select_option(
                                    "",
                                    "As configured",
                                    self.fields.text("on_exhausted"),
                                ))
                                (select_option(
                                    "skip",
                                    "Go on with the entity's next event",
                                    self.fields.text("on_exhausted"),
                                ))
                                (select_option(
                                    "halt",
                                    "Halt the entity until I act",
                                    self.fields.text("on_exhausted"),
                                ))
                            }
                            (self.problems.render("on_exhausted"))
                        }
                        (self.number(
                            "concurrency",
                            "Attempts at once",
                            &format!("Default: {}.", delivery.concurrency),
                        ))
                        (self.number("rate_limit", "Attempts per second", "Default: no limit."))
                        (self.number(
                            "timeout_s",
                            "Timeout in seconds",
                            &format!("Default: {}.", duration(delivery.timeout)),
                        ))
                        (self.number(
                            "retry_schedule_s",
                            "Pauses between retries, in seconds",
                            "Such as: 5, 30, 300. Default: as configured.",
                        ))
                    }
                    div.field {
                        label for="headers" { "Headers" }
                        textarea id="headers" name="headers" rows="2" spellcheck="false"
                            aria-invalid=[self.problems.invalid("headers")] {
                            (self.fields.text("headers"))
                        }
                        p.hint {
                            "One on each line, such as " code { "Authorization: Bearer …" }
                            ". A value shown as … stays as it is."
                        }
                        (self.problems.render("headers"))
                    }
                }
            }
        }
    }

    fn expression(&self, name: &'static str, label: &str, hint: &str) -> Markup {
        html! {
            div.field {
                label for=(name) { (label) }
                textarea id=(name) name=(name) rows="2" spellcheck="false"
                    aria-invalid=[self.problems.invalid(name)] {
                    (self.fields.text(name))
                }
                p.hint { (hint) }
                (self.problems.render(name))
            }
        }
    }

    fn number(&self, name: &'static str, label: &str, hint: &str) -> Markup {
        html! {
            div.field {
                label for=(name) { (label) }
                input type="text" inputmode="decimal" id=(name) name=(name)
                    value=(self.fields.text(name)) aria-invalid=[self.problems.invalid(name)];
                p.hint { (hint) }
                (self.problems.render(name))
            }
        }
    }
}

const fn style_hint(style: SigningStyle) -> &'static str {
    match style {
        SigningStyle::Crm => "X-Webhook-Signature, hex HMAC-SHA256 of the body",
        SigningStyle::Standard => "webhook-signature, as Standard Webhooks says",
        SigningStyle::Hub => "X-Hub-Signature-256, as GitHub and Meta sign",
        SigningStyle::V1a => "webhook-signature with a public key (ed25519)",
    }
}

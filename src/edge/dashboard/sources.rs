//! Sources: the address of each, how a call proves itself, a ready command, and recent refusals.

use maud::{Markup, html};

use super::calls::render_calls;
use super::elements::{StateTone, badge, copy_button, counted, empty_state};
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent};
use super::pasted_request::{PastedRequest, render_paste_box};
use super::visit::{PageReply, PageVisit};
use crate::call_log::{CallDirection, CallFilter};
use crate::edge::error::ApiError;
use crate::edge::reads::logs::list_calls;
use crate::edge::state::Edge;
use crate::metrics::{HISTORY_LENGTH, MetricTotals};
use crate::projection::PageRequest;

/// Refused calls that the page shows.
const REFUSALS_SHOWN: u64 = 10;

/// Command that sends a support event, with `%BASE%` for the node's address.
const SUPPORT_COMMAND: &str = r#"API_KEY='one of sources.support.api_keys'
SECRET='one of sources.support.secrets'
BODY='{"event": "priority.changed", "support_uid": "SUP-7", "data": {"priority": "high"}}'
TIME=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
SIGNATURE=$(printf '%s%s' "$BODY" "$TIME" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.* //')
curl %BASE%/api/v0/crm/webhooks/support/ -H 'Content-Type: application/json' \
  -H "X-CRM-API-Key: $API_KEY" -H "X-CRM-Timestamp: $TIME" -H "X-CRM-Signature: $SIGNATURE" \
  -H "Idempotency-Key: $(date +%s%N)" --data-binary "$BODY""#;

const UNSIGNED_LEADS_COMMAND: &str = r#"curl %BASE%/api/v1/webhooks/incoming/lead/create -H 'Content-Type: application/json' \
  -H "Idempotency-Key: $(date +%s%N)" \
  -d '{"event": "new_lead", "source": "shop", "data": {"first_name": "Ada", "email": "ada@example.com"}}'"#;

const SIGNED_LEADS_COMMAND: &str = r#"SECRET='one of sources.leads.secrets'
BODY='{"event": "new_lead", "source": "shop", "data": {"first_name": "Ada", "email": "ada@example.com"}}'
SIGNATURE=$(printf '%s' "$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.* //')
curl %BASE%/api/v1/webhooks/incoming/lead/create -H 'Content-Type: application/json' \
  -H "X-Webhook-Signature: $SIGNATURE" -H "Idempotency-Key: $(date +%s%N)" --data-binary "$BODY""#;

const C2S_COMMAND: &str = r#"TOKEN='one of sources.c2s.tokens'
curl %BASE%/api/v1/webhooks/c2s -H "X-Webhook-Token: $TOKEN" -H 'Content-Type: application/json' \
  -d "{\"lead_id\": \"7f3a\", \"updated_at\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"}""#;

const INSTAGRAM_COMMAND: &str = r#"SECRET='one of sources.instagram.app_secrets'
BODY='{"object": "instagram", "entry": [{"id": "17841400000000001", "time": 1765000000000, "messaging": [{"sender": {"id": "42"}, "recipient": {"id": "17841400000000001"}, "timestamp": 1765000000000, "message": {"mid": "m1", "text": "Hello"}}]}]}'
SIGNATURE=$(printf '%s' "$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.* //')
curl %BASE%/webhooks/instagram -H "X-Hub-Signature-256: sha256=$SIGNATURE" \
  -H 'Content-Type: application/json' --data-binary "$BODY""#;

const CRM_COMMAND: &str = r#"TOKEN='one of sources.crm.tokens, or admin.token'
curl %BASE%/api/v1/events -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"event": "organisation.created", "data": {"organisation_id": 51, "name": "ACME Capital"}}'"#;

/// Source as the page describes it.
struct SourceGuide {
    name: String,
    is_enabled: bool,
    path: String,
    /// Proof that a call needs, as half a sentence.
    proof: String,
    command: Option<&'static str>,
    /// Section of the guide about receiving.
    section: &'static str,
}

/// Handles `GET /dashboard/sources`: shows all sources.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    // A page with a finding would lose it if it renewed itself.
    let content = render_sources(visit, None).await?;
    Ok(content.refreshed_every(10).into())
}

/// Handles `POST /dashboard/sources/check`: shows what the node would make of a pasted request.
pub(super) async fn check(
    visit: &mut PageVisit<'_>,
    form: &FormFields,
) -> Result<PageReply, ApiError> {
    let pasted = PastedRequest::check(form, &visit.edge().config, visit.now);
    Ok(render_sources(visit, Some(&pasted)).await?.into())
}

async fn render_sources(
    visit: &PageVisit<'_>,
    pasted: Option<&PastedRequest>,
) -> Result<PageContent, ApiError> {
    let page = PageRequest {
        page: 1,
        page_size: REFUSALS_SHOWN,
    };
    let filter = CallFilter {
        direction: Some(CallDirection::Incoming),
        is_successful: Some(false),
    };
    let refused = list_calls(&*visit.core()?, filter, page).await?;

    let base = base_url(visit);
    let guides = list_guides(visit);
    let activity = SourceActivity::load(visit.edge());
    let enabled: Vec<_> = guides.iter().filter(|guide| guide.is_enabled).collect();
    let disabled: Vec<_> = guides.iter().filter(|guide| !guide.is_enabled).collect();
    let body = html! {
        @if enabled.is_empty() {
            (empty_state("No source is enabled.", html! {
                "Every webhook gets 404. Switch one on in the configuration, such as "
                code { "sources.support.enabled = true" }
                ", or try all of them with " code { "hookyard serve --dev" } "."
            }))
        }
        @for (index, guide) in enabled.iter().enumerate() {
            @let pasted = pasted.filter(|pasted| pasted.is_of(&guide.name));
            @let paste_box = render_paste_box(&guide.name, index, pasted, &visit.session);
            (render_guide(guide, &base, index, &activity.render(&guide.name), &paste_box))
        }
        @if !disabled.is_empty() {
            p.muted {
                "Not enabled: "
                @for (index, guide) in disabled.iter().enumerate() {
                    @if index > 0 { ", " } (guide.name)
                }
                ". "
                "Their paths answer 404 until the configuration enables them."
            }
        }
        section.panel id="refusals" data-live {
            header {
                h2 { "Recent refusals" }
                a href="/dashboard/calls?direction=incoming&is_successful=false" {
                    "All refused calls"
                }
            }
            @if refused.items.is_empty() {
                (empty_state(
                    "No call was refused.",
                    html! { "A refused call appears here with the reason, and its headers with the secrets masked." },
                ))
            } @else { (render_calls(&refused.items, visit)) }
        }
    };
    let lead = html! { "Systems that send events to this node, and how each of them calls it." };
    Ok(PageContent::new(DashboardSection::Sources, "Sources", body).lead(lead))
}

/// Address by which senders reach the node: the configured one, or that of this request.
fn base_url(visit: &PageVisit<'_>) -> String {
    let server = &visit.edge().config.server;
    let configured = server.public_url.clone();
    let has_own_listener = visit.edge().config.admin.bind.is_some();
    configured.unwrap_or_else(|| {
        let connection = visit.context.request.connection_info();
        let scheme = if server.tls.is_some() {
            "https"
        } else {
            connection.scheme()
        };
        // This request came by the listener of operators.
        let host = match has_own_listener {
            true => server.bind.as_str(),
            false => connection.host(),
        };
        format!("{scheme}://{host}")
    })
}

fn list_guides(visit: &PageVisit<'_>) -> Vec<SourceGuide> {
    let sources = &visit.edge().config.sources;
    let built_in =
        |name: &str, is_enabled, path: &str, proof: &str, command, section| SourceGuide {
            name: name.to_owned(),
            is_enabled,
            path: path.to_owned(),
            proof: proof.to_owned(),
            command: Some(command),
            section,
        };
    let leads_are_signed = !sources.leads.secrets.is_empty();
    let mut guides = vec![
        built_in(
            "support",
            sources.support.enabled,
            "/api/v0/crm/webhooks/support/",
            "an API key, and an HMAC of body and timestamp",
            SUPPORT_COMMAND,
            "support-tickets",
        ),
        built_in(
            "leads",
            sources.leads.enabled,
            "/api/v1/webhooks/incoming…",
            if leads_are_signed {
                "an HMAC of the body"
            } else {
                "nothing, as no secret is configured"
            },
            if leads_are_signed {
                SIGNED_LEADS_COMMAND
            } else {
                UNSIGNED_LEADS_COMMAND
            },
            "leads",
        ),
        built_in(
            "c2s",
            sources.c2s.enabled,
            "/api/v1/webhooks/c2s",
            "a token",
            C2S_COMMAND,
            "contact2sale",
        ),
        built_in(
            "instagram",
            sources.instagram.enabled,
            "/webhooks/instagram",
            "an HMAC of the body",
            INSTAGRAM_COMMAND,
            "instagram",
        ),
        built_in(
            "crm",
            sources.crm.enabled,
            "/api/v1/events",
            "the bearer token of a publisher",
            CRM_COMMAND,
            "the-crms-event-bus",
        ),
    ];
    guides.extend(sources.custom.iter().map(|custom| SourceGuide {
        name: custom.name.to_string(),
        is_enabled: custom.enabled,
        path: format!("/in/{}", custom.name),
        proof: "what its preset or scheme asks for".to_owned(),
        command: None,
        section: "any-other-sender",
    }));
    guides
}

/// Counts of all sources now and at the begin of the last hour, or at the start if that is later.
struct SourceActivity {
    now: MetricTotals,
    earlier: MetricTotals,
}

impl SourceActivity {
    fn load(edge: &Edge) -> Self {
        let earlier = edge
            .dashboard
            .rates
            .totals_before(edge.clock.monotonic(), HISTORY_LENGTH);
        let now = edge.metrics.totals();
        Self { now, earlier }
    }

    /// Renders what the source `name` sent in that time.
    fn render(&self, name: &str) -> Markup {
        let accepted =
            |totals: &MetricTotals| totals.accepted_by_source.get(name).copied().unwrap_or(0);
        let refused = |totals: &MetricTotals| {
            let codes = totals.refused_by_source.get(name);
            codes.map_or(0, |codes| codes.values().sum::<u64>())
        };
        let since = |count: &dyn Fn(&MetricTotals) -> u64| {
            count(&self.now).saturating_sub(count(&self.earlier))
        };
        let query = FormFields::default().with("source", name).to_query();
        html! {
            (counted(since(&accepted), "event", "events")) " accepted, "
            (counted(since(&refused), "call", "calls")) " refused. "
            a href={ "/dashboard/events?" (query) } { "Newest events" }
        }
    }
}

fn render_guide(
    guide: &SourceGuide,
    base: &str,
    index: usize,
    activity: &Markup,
    paste_box: &Markup,
) -> Markup {
    let id = format!("command-{index}");
    html! {
        section.panel {
            header {
                h2 { (guide.name) " " (badge(StateTone::Good, "enabled")) }
                a href={ "/docs/guide/receive#" (guide.section) } { "Guide" }
            }
            div.inside {
                dl.facts {
                    dt { "Address" } dd { code { (base) (guide.path) } }
                    dt { "Proof" } dd { "A call carries " (guide.proof) "." }
                    dt { "Last hour" }
                    dd id={ "activity-" (index) } data-live { (activity) }
                }
                @if let Some(command) = guide.command {
                    details {
                        summary { "Send an event with curl" }
                        pre id=(id) { (command.replace("%BASE%", base)) }
                        p { (copy_button(&id, "Copy command")) }
                    }
                } @else {
                    p.muted { "Point the sender at this address." }
                }
                (paste_box)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_calls_this_node() {
        for command in [
            SUPPORT_COMMAND,
            UNSIGNED_LEADS_COMMAND,
            SIGNED_LEADS_COMMAND,
            C2S_COMMAND,
            INSTAGRAM_COMMAND,
            CRM_COMMAND,
        ] {
            assert_eq!(command.matches("%BASE%/").count(), 1, "{command}");
        }
    }
}

//! Settings in force: each key with its value and the place that set it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::layout::{DashboardSection, PageContent};
use super::visit::{PageReply, PageVisit};
use crate::config::EffectiveSetting;
use crate::edge::error::ApiError;

/// Handles `GET /dashboard/settings`: shows the settings in force.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let config = &visit.edge().config;
    let mut sections = BTreeMap::<&str, Vec<&EffectiveSetting>>::new();
    for setting in &config.settings {
        let section = setting.key.rsplit_once('.');
        let (section, _) = section.unwrap_or_default();
        sections.entry(section).or_default().push(setting);
    }

    let body = html! {
        @if !config.warnings.is_empty() {
            div.notice.bad role="status" {
                ul { @for warning in &config.warnings { li { (warning.to_string()) } } }
            }
        }
        @for (section, settings) in &sections { (render_section(section, settings)) }
    };
    let lead = html! {
        "The configuration in force, secrets masked. To change it, edit the file and run "
        code { "hookyard reload" } ". Keys marked with * need a restart. "
        "Webhooks have a " a href="/dashboard/settings/webhooks" { "page of their own" } "."
    };
    Ok(
        PageContent::new(DashboardSection::Settings, "Settings", body)
            .lead(lead)
            .into(),
    )
}

fn render_section(section: &str, settings: &[&EffectiveSetting]) -> Markup {
    let changed = settings
        .iter()
        .filter(|setting| !setting.is_default)
        .count();
    html! {
        section.panel {
            details open[changed > 0] {
                summary.section-title {
                    code { "[" (section) "]" } " "
                    span.muted.small {
                        @if changed == 0 { "all defaults" } @else { (changed) " set" }
                    }
                }
                table.cards {
                    thead {
                        tr {
                            th scope="col" { "Key" }
                            th scope="col" { "Value" }
                            th scope="col" { "Set by" }
                        }
                    }
                    tbody {
                        @for setting in settings {
                            tr {
                                td.first {
                                    code { (setting.key.rsplit('.').next().unwrap_or_default()) }
                                    @if setting.needs_restart { span.muted { "*" } }
                                }
                                td data-label="Value" {
                                    @if setting.value.is_empty() { span.muted { "not set" } }
                                    @else { code { (setting.value) } }
                                }
                                td data-label="Set by" {
                                    @if setting.is_default { span.muted { "default" } }
                                    @else { span.tag { (setting.origin) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

//! `hookyard check`: reports problems of a configuration or sums it up, and tells if a node would
//! accept a captured request.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::config_args::ConfigArgs;
use super::error::CliError;
use super::plural::format_count;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigPurpose};
use crate::edge::request_trial::RequestTrial;
use crate::event::Timestamp;
use crate::provider::{FieldAlternatives, UNMATCHED, WebhookSource, parse_moment};

mod error;

pub(super) use error::RequestTrialError;

/// Check a configuration, or a captured request
///
/// Without a request, the command reports every problem of the configuration, or sums it up without
/// secrets. With a source and a request, it reports the verification of the sender and the fields
/// that would be read. No node is needed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard check --config hookyard.toml\n  \
    hookyard check --config hookyard.toml --source billing --request captured.http --at 2025-12-04T10:30:00Z\n  \
    hookyard check --config hookyard.toml --source leads --request captured.http")]
pub(super) struct CheckCommand {
    #[command(flatten)]
    config: ConfigArgs,
    /// Source to check the request against: support, leads, c2s, instagram, crm or one of
    /// sources.custom
    #[arg(long, value_name = "NAME", requires = "request")]
    source: Option<String>,
    /// File with the request: request line, headers, an empty line, and the exact body
    #[arg(long, value_name = "FILE", requires = "source")]
    request: Option<PathBuf>,
    /// URL that the sender called [default: server.public_url, or else http:// and Host, with the
    /// path of the request line]
    #[arg(long, requires = "request")]
    url: Option<String>,
    /// Arrival time: RFC 3339, Unix seconds or Unix milliseconds [default: now]
    #[arg(long, value_name = "TIME", requires = "request", value_parser = parse_arrival_time)]
    at: Option<Timestamp>,
}

fn parse_arrival_time(text: &str) -> Result<Timestamp, &'static str> {
    parse_moment(text).ok_or("expected RFC 3339, Unix seconds or Unix milliseconds")
}

impl CheckCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        if let (Some(source), Some(request)) = (&self.source, &self.request) {
            let config = self.config.load(ConfigPurpose::Judgement)?.config;
            write!(out, "{}", describe_weaknesses(&config, Some(source)))?;
            return self.try_request(&config, source, request, out);
        }
        let config = self.config.load(ConfigPurpose::Node)?.config;
        write!(
            out,
            "configuration is valid\n{}\n{}{}{}",
            summarize_config(&config),
            describe_fields(&config),
            describe_warning(&config),
            describe_weaknesses(&config, None)
        )?;
        let expiry = config
            .server
            .tls
            .as_ref()
            .and_then(|tls| tls.describe_expiry(now()));
        if let Some(expiry) = expiry {
            writeln!(out, "warning: {expiry}")?;
        }
        Ok(())
    }

    /// Writes a report on the request in the file `request`.
    fn try_request(
        &self,
        config: &Config,
        source: &str,
        request: &Path,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let file = fs::read(request)
            .map_err(|error| RequestTrialError::Unreadable(request.to_owned(), error))?;
        let trial = RequestTrial {
            source,
            request: &file,
            url: self.url.as_deref(),
            at: self.at.unwrap_or_else(now),
        };
        let report = trial
            .run(config)
            .map_err(|error| RequestTrialError::from_trial(error, request.to_owned()))?;

        write!(out, "{report}")?;
        if report.is_accepted() {
            Ok(())
        } else {
            Err(RequestTrialError::Refused.into())
        }
    }
}

fn now() -> Timestamp {
    SystemClock::default().wall()
}

/// Returns a line about a valid configuration that is probably a mistake, or an empty text.
pub(super) fn describe_warning(config: &Config) -> &'static str {
    match list_sources(config).is_empty() {
        false => "",
        true => {
            "warning: no source is enabled, so every webhook gets 404; set \
             sources.support.enabled = true\n"
        }
    }
}

/// Returns a line for each weakness of a valid configuration, or of the source `name` in it.
fn describe_weaknesses(config: &Config, name: Option<&str>) -> String {
    let sections = name.map(|name| {
        let label = name.replace('-', "_");
        [
            format!("sources.{name}."),
            format!("sources.custom.{label}."),
        ]
    });
    let is_shown = |key: &str| {
        sections.as_ref().is_none_or(|sections| {
            let mut sections = sections.iter();
            sections.any(|section| key.starts_with(section))
        })
    };
    let warnings = config.warnings.iter();
    warnings
        .filter(|warning| warning.key().is_none_or(is_shown))
        .map(|warning| format!("warning: {warning}\n"))
        .collect()
}

fn summarize_config(config: &Config) -> String {
    let sources = list_sources(config);
    let sources = if sources.is_empty() {
        "none enabled".to_owned()
    } else {
        sources.join(", ")
    };
    let admin = config.admin.bind.as_ref();
    let admin = admin.map_or_else(String::new, |bind| format!(", admin on {bind}"));
    format!(
        "  listens on  {}{admin}\n  stores in   {} (sync = {})\n  sources     {sources}\n  logs        {}",
        config.server.bind,
        config.store.path.display(),
        format!("{:?}", config.store.sync).to_lowercase(),
        config.telemetry.level,
    )
}

/// Describes where each enabled configured source finds the fields of its events.
fn describe_fields(config: &Config) -> String {
    let enabled = config.sources.custom.iter().filter(|custom| custom.enabled);
    enabled
        .map(|custom| {
            let fields = &custom.source.fields;
            let places = |places: &FieldAlternatives, without: &str| match places.is_empty() {
                true => without.to_owned(),
                false => places.to_string(),
            };
            format!(
                "  {}\n    entity           {}, else {UNMATCHED}\n    event            {}, else {UNMATCHED}\n    \
                 idempotency_key  {}\n    occurred_at      {}\n    not signed       {}\n",
                custom.name,
                fields.entity,
                fields.event,
                places(&fields.idempotency_key, describe_missing_key(&custom.source)),
                places(&fields.occurred_at, "none: the time of arrival counts"),
                custom.source.describe_unsigned().as_deref().unwrap_or("none of these"),
            )
        })
        .collect()
}

/// Describes what makes an event of `source` a duplicate if it has no key.
fn describe_missing_key(source: &WebhookSource) -> &'static str {
    match source.signing.signs_time() {
        true => "none: the signature counts, which covers a time",
        false => "none: no event is a duplicate",
    }
}

/// Lists the enabled sources, each with its number of secrets.
fn list_sources(config: &Config) -> Vec<String> {
    let support = &config.sources.support;
    let support = support.enabled.then(|| {
        let (keys, secrets) = (support.api_keys.len(), support.secrets.len());
        format!(
            "support ({}, {})",
            format_count(keys, "API key", "API keys"),
            format_count(secrets, "secret", "secrets")
        )
    });
    let leads = &config.sources.leads;
    let leads = leads.enabled.then(|| match leads.secrets.len() {
        0 => "leads (no secret: anyone can write)".to_owned(),
        secrets => format!("leads ({})", format_count(secrets, "secret", "secrets")),
    });
    let c2s = &config.sources.c2s;
    let c2s = c2s.enabled.then(|| {
        let enriched = if c2s.is_enrichment_enabled() {
            ", enriched"
        } else {
            ""
        };
        format!(
            "c2s ({}{enriched})",
            format_count(c2s.tokens.len(), "token", "tokens")
        )
    });
    let instagram = &config.sources.instagram;
    let secrets = format_count(instagram.app_secrets.len(), "app secret", "app secrets");
    let instagram = instagram.enabled.then(|| format!("instagram ({secrets})"));
    let crm = &config.sources.crm;
    let crm = crm.enabled.then(|| {
        format!(
            "crm ({})",
            format_count(crm.tokens.len(), "token", "tokens")
        )
    });
    let custom = config
        .sources
        .custom
        .iter()
        .filter(|custom| custom.enabled)
        .map(|custom| {
            format!(
                "{} ({}, {})",
                custom.name,
                custom.source.signing,
                format_count(custom.source.keys.len(), "secret", "secrets")
            )
        });
    [support, leads, c2s, instagram, crm]
        .into_iter()
        .flatten()
        .chain(custom)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_no_secret() {
        let env = [
            ("HOOKYARD_ADMIN__TOKEN", "hunter22"),
            ("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true"),
            ("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "hunter22"),
            ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "hunter22,hunter22"),
        ];
        let config = crate::config::load_config(None, env).expect("valid");
        let summary = summarize_config(&config);
        assert!(!summary.contains("hunter2"), "{summary}");
        assert!(
            summary.contains("support (1 API key, 2 secrets)"),
            "{summary}"
        );
        assert!(
            summary.contains("hookyard-data (sync = commit)"),
            "{summary}"
        );
        assert_eq!(describe_warning(&config), "");
    }

    #[test]
    fn the_places_of_a_configured_sources_fields_are_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("h.toml");
        let text = "admin.token = \"0123456789abcdef0123456789abcdef\"\n[[sources.custom]]\n\
                    name = \"shop\"\npreset = \"stripe\"\nsecrets = [\"whsec_0123456789abcdef01234567\"]\n\
                    entity = [\"/a\", \"order:{X-Id}\"]\n";
        std::fs::write(&path, text).expect("the folder is writable");
        let config = crate::config::load_config(Some(&path), Vec::<(String, String)>::new());
        let expected = "  shop\n    entity           at /a, else as order:{X-Id}, else unmatched\n    \
                        event            at /type, else unmatched\n    idempotency_key  at /id\n    \
                        occurred_at      at /created\n    not signed       entity (x-id)\n";
        assert_eq!(describe_fields(&config.expect("valid")), expected);
    }

    #[test]
    fn a_node_that_takes_no_webhooks_is_warned_of() {
        let config = crate::config::load_config(None, [("HOOKYARD_ADMIN__TOKEN", "test-token")])
            .expect("valid");
        assert!(summarize_config(&config).contains("none enabled"));
        assert!(describe_warning(&config).contains("set sources.support.enabled = true"));
        for (key, variable) in [("LEADS", ""), ("CRM", "TOKENS"), ("C2S", "TOKENS")] {
            let (enabled, secret) = (
                format!("HOOKYARD_SOURCES__{key}__ENABLED"),
                format!("HOOKYARD_SOURCES__{key}__{variable}"),
            );
            let mut env = vec![
                ("HOOKYARD_ADMIN__TOKEN", "test-token"),
                (&enabled, "true"),
                (&secret, "hunter22"),
            ];
            env.retain(|(name, _)| !name.ends_with("__"));
            let config = crate::config::load_config(None, env).expect("valid");
            assert_eq!(describe_warning(&config), "", "{key}");
            assert!(
                summarize_config(&config)
                    .contains(&format!("  sources     {} (", key.to_lowercase())),
                "{key}"
            );
        }
    }
}

//! Checks a captured request against a source without a node: its verification, and separately the
//! fields that would be read. One file for each source.

use std::fs;
use std::io::Write;
use std::path::Path;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::captured::CapturedRequest;
use crate::cli::error::CliError;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, CustomSourceConfig};
use crate::edge::{self, body};
use crate::entity::c2s_lead;
use crate::event::Timestamp;
use crate::provider::RequestView;
use finding::TrialFinding;
use handshake::check_subscription;

mod c2s;
mod crm;
mod custom;
mod error;
mod finding;
mod handshake;
mod instagram;
mod leads;
mod support;

pub(in crate::cli) use error::RequestTrialError;

/// Captured request and the source to check it against.
#[derive(Debug)]
pub(super) struct RequestTrial<'a> {
    pub(super) source: &'a str,
    pub(super) request: &'a Path,
    pub(super) url: Option<&'a str>,
    /// Arrival time; `None` means now.
    pub(super) at: Option<Timestamp>,
}

impl RequestTrial<'_> {
    /// Writes a report on the request.
    ///
    /// # Errors
    /// Fails if the request cannot be read, or if a node would refuse it.
    pub(super) fn run(&self, config: &Config, out: &mut impl Write) -> Result<(), CliError> {
        let file = fs::read(self.request)
            .map_err(|error| RequestTrialError::Unreadable(self.request.to_owned(), error))?;
        let raw = CapturedRequest::parse(&file)
            .map_err(|wrong| RequestTrialError::Malformed(self.request.to_owned(), wrong))?;
        let url = self
            .url
            .map_or_else(|| called_url(config, &raw), str::to_owned);
        let request = raw.to_view(&url);
        let now = self.at.unwrap_or_else(|| SystemClock::default().wall());
        let target = self.find_target(config)?;
        let [verification, decoding] = target.check_request(config, &request, now);
        writeln!(
            out,
            "source        {} ({})",
            self.source,
            target.contract_name()
        )?;
        writeln!(
            out,
            "request       {} {url}, {} bytes",
            raw.method,
            raw.body.len()
        )?;
        for (name, finding) in [("verification", &verification), ("decoding", &decoding)] {
            let result = if finding.is_good { "ok" } else { "failed" };
            write!(out, "{name:<13} {result}\n{}", finding.text)?;
        }
        if verification.is_good && decoding.is_good {
            Ok(())
        } else {
            Err(RequestTrialError::Refused.into())
        }
    }

    fn find_target<'c>(&self, config: &'c Config) -> Result<TrialTarget<'c>, RequestTrialError> {
        let custom = &config.sources.custom;
        let built_in = BUILT_IN
            .into_iter()
            .find(|(name, _)| *name == self.source)
            .map(|(_, target)| target);
        let found = built_in.or_else(|| {
            custom
                .iter()
                .find(|custom| *custom.name == *self.source)
                .map(TrialTarget::Custom)
        });
        found.ok_or_else(|| {
            let known = BUILT_IN
                .into_iter()
                .map(|(name, _)| name)
                .chain(custom.iter().map(|custom| custom.name.as_str()));
            RequestTrialError::NoSource {
                name: self.source.to_owned(),
                known: known.map(str::to_owned).collect(),
            }
        })
    }
}

/// Source that a request is checked against.
#[derive(Clone, Copy)]
enum TrialTarget<'c> {
    Support,
    Leads,
    C2s,
    Instagram,
    Crm,
    Custom(&'c CustomSourceConfig),
}

const BUILT_IN: [(&str, TrialTarget<'static>); 5] = [
    (edge::support::SOURCE.as_str(), TrialTarget::Support),
    (edge::leads::SOURCE.as_str(), TrialTarget::Leads),
    (c2s_lead::SOURCE.as_str(), TrialTarget::C2s),
    (edge::instagram::SOURCE.as_str(), TrialTarget::Instagram),
    (edge::crm::SOURCE.as_str(), TrialTarget::Crm),
];

impl TrialTarget<'_> {
    fn contract_name(self) -> String {
        match self {
            Self::Support => "the support contract".to_owned(),
            Self::Leads => "the leads contract".to_owned(),
            Self::C2s => "Contact2Sale's contract".to_owned(),
            Self::Instagram => "Instagram's contract".to_owned(),
            Self::Crm => "the CRM's event bus".to_owned(),
            Self::Custom(custom) => custom.source.signing.to_string(),
        }
    }

    fn check_request(
        self,
        config: &Config,
        request: &RequestView<'_>,
        now: Timestamp,
    ) -> [TrialFinding; 2] {
        let sources = &config.sources;
        let [verification, decoding] = match self {
            Self::Support => support::check_support(&sources.support, request, now),
            Self::Leads => leads::check_leads(&sources.leads, request),
            Self::C2s => c2s::check_c2s(&sources.c2s, request),
            Self::Instagram if request.method == "GET" => {
                return check_subscription(request, &sources.instagram.verify_token);
            }
            Self::Instagram => instagram::check_instagram(&sources.instagram, request),
            Self::Crm => crm::check_crm(&sources.crm, &config.admin.token, request),
            Self::Custom(custom) => {
                let limit = config.server.body_limit_bytes;
                return custom::check_custom(custom, request, now, limit);
            }
        };
        [verification, find_unreadable(request).unwrap_or(decoding)]
    }
}

/// Returns the reason for which a contract that takes JSON by POST refuses the method or content
/// type of `request`.
fn find_unreadable(request: &RequestView<'_>) -> Option<TrialFinding> {
    if request.method != "POST" {
        return Some(TrialFinding::failed("the method is not POST"));
    }
    let mut headers = HeaderMap::new();
    let content_type = request
        .headers
        .iter()
        .find(|(name, _)| *name == "content-type");
    if let Some(Ok(value)) = content_type.map(|(_, value)| HeaderValue::from_bytes(value)) {
        headers.insert(CONTENT_TYPE, value);
    }
    body::check_json_content_type(&headers)
        .err()
        .map(TrialFinding::from)
}

/// Returns the URL that the sender called, found in the same way as by a node.
fn called_url(config: &Config, raw: &CapturedRequest<'_>) -> String {
    if raw.target.contains("://") {
        return raw.target.to_owned();
    }
    let base = config.server.public_url.clone();
    base.unwrap_or_else(|| format!("http://{}", raw.header("host").unwrap_or_default()))
        + raw.target
}

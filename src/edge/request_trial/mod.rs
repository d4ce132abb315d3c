//! Trial of a captured request against a source: its verification, and separately the fields that
//! would be read. No event is made of it. One file for each source.

use std::fmt;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::body;
use crate::config::{Config, CustomSourceConfig};
use crate::edge;
use crate::entity::c2s_lead;
use crate::event::Timestamp;
use crate::provider::RequestView;
use captured::CapturedRequest;
use finding::{TrialFinding, format_line};
use handshake::check_subscription;

mod c2s;
mod captured;
mod crm;
mod custom;
mod finding;
mod handshake;
mod instagram;
mod leads;
mod support;

pub use captured::CapturedRequestError;

/// Captured request and the source to check it against.
#[derive(Clone, Copy, Debug)]
pub struct RequestTrial<'a> {
    /// Name of the source that the request is for.
    pub source: &'a str,
    /// Request line, headers, an empty line, and the body.
    pub request: &'a [u8],
    /// URL that the sender called, if the request does not say it.
    pub url: Option<&'a str>,
    /// Time at which the request arrived.
    pub at: Timestamp,
}

/// Reasons for which a request cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum TrialRequestError {
    /// The text is no HTTP request.
    #[error(transparent)]
    Malformed(#[from] CapturedRequestError),
    /// The configuration has no source of this name.
    #[error("unknown source {name:?}; the sources are {}", .known.join(", "))]
    NoSource {
        /// Name that was asked for.
        name: String,
        /// Names of all sources that there are.
        known: Vec<String>,
    },
}

/// Findings of a trial, which are shown as lines.
#[derive(Debug)]
pub struct TrialReport {
    source: String,
    contract: String,
    /// Method, URL and size of the request.
    request: String,
    /// Proof of the sender, as a node would judge it.
    pub verification: TrialFinding,
    /// Fields that a node would read.
    pub decoding: TrialFinding,
}

impl TrialReport {
    /// True if a node would accept the request.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.verification.is_good && self.decoding.is_good
    }
}

impl fmt::Display for TrialReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            contract,
            request,
            verification,
            decoding,
        } = self;
        writeln!(f, "source        {source} ({contract})")?;
        writeln!(f, "request       {request}")?;
        for (name, finding) in [("verification", verification), ("decoding", decoding)] {
            let result = if finding.is_good { "ok" } else { "failed" };
            write!(f, "{name:<13} {result}\n{}", finding.text)?;
        }
        Ok(())
    }
}

impl RequestTrial<'_> {
    /// Checks the request as a node with `config` would.
    ///
    /// # Errors
    /// [`TrialRequestError`] if it is no request, or the source is unknown.
    pub fn run(&self, config: &Config) -> Result<TrialReport, TrialRequestError> {
        let raw = CapturedRequest::parse(self.request)?;
        let target = self.find_target(config)?;
        let url = self
            .url
            .map_or_else(|| called_url(config, &raw), str::to_owned);

        let view = raw.to_view(&url);
        let [mut verification, mut decoding] = target.check_request(config, &view, self.at);
        let limit = match target {
            TrialTarget::Custom(custom) => config.body_limit_of(custom),
            _ => config.server.body_limit_bytes,
        };
        if raw.body.len() > limit {
            let reason = format!("body is larger than {limit} bytes; a node answers 413");
            decoding = TrialFinding::failed(reason);
        }
        verification.text += &describe_length(&raw);
        Ok(TrialReport {
            source: self.source.to_owned(),
            contract: target.contract_name(),
            request: format!("{} {url}, {} bytes", raw.method, raw.body.len()),
            verification,
            decoding,
        })
    }

    fn find_target<'c>(&self, config: &'c Config) -> Result<TrialTarget<'c>, TrialRequestError> {
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
            TrialRequestError::NoSource {
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
                let limit = config.body_limit_of(custom);
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

/// Describes a length in the head that is not that of the file's body: an end that was cut off, or
/// added.
fn describe_length(raw: &CapturedRequest<'_>) -> String {
    let length = raw.header("content-length");
    let length = length.and_then(|text| text.parse::<usize>().ok());
    let found = raw.body.len();
    match length.filter(|length| *length != found) {
        Some(length) => format_line(
            "hint",
            format!("Content-Length is {length}, but the body in the file has {found} bytes"),
        ),
        None => String::new(),
    }
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

//! Prepares what all attempts to one subscriber share: its URL, fixed headers and signing keys.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Uri};
use parking_lot::Mutex;
use url::{Position, Url};

use super::super::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use super::super::{OutboundRecord, SubscriberId};
use super::access_tokens::AccessToken;
use super::classify::{AttemptError, BAD_URL, TOO_MANY_HOPS, TRANSFORM_FAILED};
use super::context::AttemptContext;
use super::delivery_origin::DeliveryOrigin;
use super::signing::{self, DeliverySigner, SigningInput};
use super::{forward, graph_api, headers};
use crate::call_log::REDACTED;
use crate::event::HOPS_MAX;
use crate::provider::HmacKey;
use crate::subscription::envelope;
use crate::subscription::expression::EvaluationError;

/// A target with parsed URL and derived keys.
pub(super) struct PreparedTarget {
    policy: Arc<DeliveryPolicy>,
    origin: Arc<DeliveryOrigin>,
    /// Path and query of the URL.
    uri: Uri,
    /// URL as the call log shows it.
    logged_url: String,
    headers: HeaderMap,
    signer: TargetSigner,
}

/// Request of one attempt. It is signed each time that it is built, which is once for nearly all
/// attempts; the same values give the same signatures.
pub(super) struct DeliveryRequest<'a> {
    pub(super) target: &'a PreparedTarget,
    pub(super) context: &'a AttemptContext<'a>,
    pub(super) body: Bytes,
}

impl DeliveryRequest<'_> {
    pub(super) fn origin(&self) -> &Arc<DeliveryOrigin> {
        &self.target.origin
    }

    pub(super) fn build_headers(&self) -> HeaderMap {
        self.target.build_headers(self.context, &self.body)
    }

    /// True if the subscription has an `Authorization` header of its own.
    pub(super) fn has_authorization(&self) -> bool {
        self.target.headers.contains_key(AUTHORIZATION)
    }

    /// Builds the request, with `token` if this node has to show one.
    pub(super) fn to_http_request(&self, token: Option<&AccessToken>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = self.build_headers();
        if let Some(token) = token {
            let value = token.to_header_value();
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    }
}

enum TargetSigner {
    /// Signs in the styles that the subscription chose.
    Styles(Box<DeliverySigner>),
    /// Signs as Instagram's own webhooks do.
    Hub(HmacKey),
    /// Signs nothing: a token in the headers authenticates the call.
    Unsigned,
}

impl PreparedTarget {
    fn try_new(policy: &Arc<DeliveryPolicy>) -> Result<Self, AttemptError> {
        let target = &policy.target;
        let (url, is_checked, mut headers, signer) = match target {
            DeliveryTarget::Webhook(subscription) => {
                let custom = headers::build_custom_headers(&subscription.headers);
                let signer = DeliverySigner::new(
                    subscription.id,
                    &subscription.secrets,
                    &subscription.signing,
                )
                .with_signature_header(subscription.signature_header.as_deref());
                (
                    subscription.url.as_str(),
                    true,
                    custom,
                    TargetSigner::Styles(Box::new(signer)),
                )
            }
            DeliveryTarget::Forward {
                account,
                url,
                is_checked,
            } => {
                let key = HmacKey::new(account.webhook_secret.expose().as_bytes());
                (
                    url.as_str(),
                    *is_checked,
                    HeaderMap::new(),
                    TargetSigner::Hub(key),
                )
            }
            DeliveryTarget::Reply { url, token, .. } => (
                url.as_str(),
                false,
                graph_api::build_auth_headers(token.as_ref()),
                TargetSigner::Unsigned,
            ),
            DeliveryTarget::AutoReply => {
                return Err(bad_url_error("an automatic reply is not called"));
            }
        };
        let parsed = Url::parse(url).ok().and_then(|url| {
            let origin = DeliveryOrigin::from_url(&url, is_checked)?;
            let uri = url[Position::BeforePath..Position::AfterQuery]
                .parse()
                .ok()?;
            let host = &url[Position::BeforeHost..Position::AfterPort];
            let host = HeaderValue::from_str(host).ok()?;
            Some((origin, uri, host, redact_url(&url, target)))
        });
        let (origin, uri, host, logged_url) = parsed
            .ok_or_else(|| bad_url_error("invalid URL: expected http or https and a host"))?;
        headers.insert(HOST, host);
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("Hookyard/", env!("CARGO_PKG_VERSION"))),
        );
        Ok(Self {
            policy: Arc::clone(policy),
            origin: Arc::new(origin),
            uri,
            logged_url,
            headers,
            signer,
        })
    }

    /// URL as the call log shows it, without what may be a secret.
    pub(super) fn logged_url(&self) -> &str {
        &self.logged_url
    }

    /// Builds the body of a delivery of `item`. For a subscription with a transform it is
    /// `transformed`.
    ///
    /// # Errors
    /// The event has come by too many deliveries, the transform failed, or the record has no message
    /// for this target.
    pub(super) fn build_body(
        &self,
        item: &OutboundRecord,
        transformed: Option<Result<Bytes, AttemptError>>,
    ) -> Result<Bytes, AttemptError> {
        if item.record.hops >= HOPS_MAX {
            return Err(AttemptError::new(
                TOO_MANY_HOPS,
                format!(
                    "the event came by {} deliveries; a subscription leads back to a source",
                    item.record.hops
                ),
            ));
        }
        match &self.policy.target {
            DeliveryTarget::Webhook(_) => {
                transformed.unwrap_or_else(|| Ok(envelope::encode_envelope(&item.record).into()))
            }
            DeliveryTarget::Forward { account, .. } => {
                forward::build_forward_body(account, &item.record)
            }
            DeliveryTarget::Reply { token, .. } => {
                graph_api::build_reply_body(&item.record, token.as_ref())
            }
            DeliveryTarget::AutoReply => Err(bad_url_error("an automatic reply is not called")),
        }
    }

    /// Builds the headers of a request with `body`, signatures included.
    fn build_headers(&self, context: &AttemptContext<'_>, body: &[u8]) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.reserve(12);
        headers.insert(headers::WEBHOOK_ID, signing::to_header_value(&context.id));
        headers.insert(headers::SEQUENCE_HEADER, context.sequence.into());
        if let Some(trace) = context.trace {
            let value = signing::to_header_value(&trace.to_string());
            headers.insert(headers::TRACEPARENT, value);
        }
        headers.insert(headers::HOPS, u64::from(context.hops + 1).into());
        if context.number.is_replay {
            headers.insert(headers::REPLAY_MARK, HeaderValue::from_static("true"));
        }
        match &self.signer {
            TargetSigner::Styles(signer) => signer.sign(
                &SigningInput {
                    id: &context.id,
                    event: context.event,
                    event_at: context.event_at,
                    attempt_at: context.at,
                    body,
                },
                &mut headers,
            ),
            TargetSigner::Hub(key) => signing::insert_hub_signature(key, body, &mut headers),
            TargetSigner::Unsigned => {}
        }
        headers
    }
}

/// Returns the part of `url` that is no secret: of a subscriber the server only, because the address
/// of a chat has its secret in the path; of the Graph API the path, too.
fn redact_url(url: &Url, target: &DeliveryTarget) -> String {
    match target {
        DeliveryTarget::Reply { .. } => url.path().to_owned(),
        DeliveryTarget::Webhook(_) | DeliveryTarget::Forward { .. } | DeliveryTarget::AutoReply => {
            format!("{}/{REDACTED}", &url[..Position::BeforePath])
        }
    }
}

pub(super) fn transform_error(error: &EvaluationError) -> AttemptError {
    AttemptError {
        code: TRANSFORM_FAILED,
        detail: format!("transform failed: {error}"),
    }
}

fn bad_url_error(detail: &str) -> AttemptError {
    AttemptError {
        code: BAD_URL,
        detail: detail.into(),
    }
}

/// Prepared targets by subscriber. A target whose definition has changed is prepared again.
pub(super) struct TargetCache {
    prepared: Mutex<HashMap<SubscriberId, Arc<PreparedTarget>>>,
    /// Number of targets beyond which another one is dropped; it is cheap to prepare again.
    max: usize,
}

impl TargetCache {
    pub(super) fn new(max: usize) -> Self {
        Self {
            prepared: Mutex::default(),
            max,
        }
    }

    pub(super) fn get_or_prepare(
        &self,
        policy: &Arc<DeliveryPolicy>,
    ) -> Result<Arc<PreparedTarget>, AttemptError> {
        let is_current = |target: &&Arc<PreparedTarget>| Arc::ptr_eq(&target.policy, policy);
        if let Some(target) = self.prepared.lock().get(&policy.id).filter(is_current) {
            return Ok(Arc::clone(target));
        }

        // Prepared without the lock: deriving keys takes a while.
        let target = Arc::new(PreparedTarget::try_new(policy)?);
        let mut prepared = self.prepared.lock();
        prepared.insert(policy.id.clone(), Arc::clone(&target));
        if prepared.len() > self.max {
            let other = prepared.keys().find(|id| **id != policy.id).cloned();
            other.map(|id| prepared.remove(&id));
        }
        Ok(target)
    }

    pub(super) fn forget(&self, id: &SubscriberId) {
        self.prepared.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_config;
    use crate::subscription::sample_subscription;

    /// A full cache had dropped all targets when one of them was changed.
    #[test]
    fn a_full_cache_keeps_the_others_when_one_changes() {
        let keys = [("HOOKYARD_ADMIN__TOKEN", "t")];
        let config = load_config(None, keys).expect("a configuration").delivery;
        let policy = |id| {
            let subscription = Arc::new(sample_subscription(id, &["*"]));
            Arc::new(DeliveryPolicy::from_subscription(&subscription, &config))
        };
        let prepare = |cache: &TargetCache, policy: &Arc<DeliveryPolicy>| {
            cache.get_or_prepare(policy).expect("a URL")
        };
        let (cache, one) = (TargetCache::new(2), policy(1));
        let prepared = prepare(&cache, &one);
        prepare(&cache, &policy(2));
        prepare(&cache, &policy(2));
        assert!(Arc::ptr_eq(&prepare(&cache, &one), &prepared));
        prepare(&cache, &policy(3));
        assert_eq!(cache.prepared.lock().len(), 2);
    }
}

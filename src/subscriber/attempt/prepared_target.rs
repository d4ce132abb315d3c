//! What every attempt at one subscriber has in common, made once: its URL, its fixed headers, its
//! keys.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use super::super::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use super::super::{OutboundRecord, SubscriberId};
use super::classify::{AttemptError, BAD_URL, TRANSFORM_FAILED};
use super::client::DeliveryRequest;
use super::signing::{self, DeliverySigner, SigningInput};
use super::{forward, graph_api, headers};
use crate::event::Timestamp;
use crate::provider::HmacKey;
use crate::subscription::envelope;
use crate::subscription::expression::EvaluationError;

/// What one attempt adds.
pub(super) struct AttemptHeaderValues<'a> {
    /// The value of `webhook-id`.
    pub(super) id: &'a str,
    /// The event's name.
    pub(super) event: &'a str,
    /// The event's own time.
    pub(super) event_at: Timestamp,
    /// When it is made.
    pub(super) at: Timestamp,
    /// The record's number among its entity's.
    pub(super) sequence: u64,
    /// Whether a job brings it again.
    pub(super) is_replay: bool,
    /// W3C trace context.
    pub(super) trace: &'a str,
}

/// A target, ready to be called.
pub(super) struct PreparedTarget {
    target: DeliveryTarget,
    url: Url,
    is_checked: bool,
    headers: HeaderMap,
    signer: TargetSigner,
}

enum TargetSigner {
    /// In the styles of a subscription.
    Styles(Box<DeliverySigner>),
    /// As Instagram does.
    Hub(HmacKey),
    /// Nothing: the other side knows us by a token.
    Unsigned,
}

impl PreparedTarget {
    fn try_new(target: &DeliveryTarget) -> Result<Self, AttemptError> {
        let (url, is_checked, mut headers, signs) = match target {
            DeliveryTarget::Webhook(subscription) => {
                let custom = headers::build_custom_headers(&subscription.headers);
                let signer = DeliverySigner::new(
                    subscription.id,
                    &subscription.secrets,
                    &subscription.signing,
                );
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
                must_be_public: is_checked,
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
        let url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| bad_url_error("the URL cannot be called"))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("Hookyard/", env!("CARGO_PKG_VERSION"))),
        );
        Ok(Self {
            target: target.clone(),
            url,
            is_checked,
            headers,
            signer: signs,
        })
    }

    /// The path of its URL.
    pub(super) fn url_path(&self) -> &str {
        self.url.path()
    }

    /// The body of a delivery of `item`.
    pub(super) fn build_body(&self, item: &OutboundRecord) -> Result<Bytes, AttemptError> {
        match &self.target {
            DeliveryTarget::Webhook(subscription) => match &subscription.transform {
                Some(transform) => transform
                    .render_body(&item.record)
                    .map(Bytes::from)
                    .map_err(|failed| transform_error(&failed)),
                None => Ok(envelope::encode_envelope(&item.record).into()),
            },
            DeliveryTarget::Forward { account, .. } => {
                forward::build_forward_body(account, &item.record)
            }
            DeliveryTarget::Reply { token, .. } => {
                graph_api::build_reply_body(&item.record, token.as_ref())
            }
            DeliveryTarget::AutoReply => Err(bad_url_error("an automatic reply is not called")),
        }
    }

    /// The request that brings `body`.
    pub(super) fn build_request(
        &self,
        attempt: &AttemptHeaderValues<'_>,
        body: Bytes,
    ) -> DeliveryRequest {
        let mut headers = self.headers.clone();
        headers.reserve(11);
        headers.insert(headers::WEBHOOK_ID, signing::to_header_value(attempt.id));
        headers.insert(headers::SEQUENCE_HEADER, attempt.sequence.into());
        headers.insert(
            headers::TRACEPARENT,
            signing::to_header_value(attempt.trace),
        );
        if attempt.is_replay {
            headers.insert(headers::REPLAY_MARK, HeaderValue::from_static("true"));
        }
        match &self.signer {
            TargetSigner::Styles(signer) => {
                let AttemptHeaderValues {
                    id,
                    event,
                    event_at,
                    at,
                    ..
                } = *attempt;
                signer.sign(
                    &SigningInput {
                        id,
                        event,
                        event_at,
                        attempt_at: at,
                        body: &body,
                    },
                    &mut headers,
                );
            }
            TargetSigner::Hub(key) => signing::insert_hub_signature(key, &body, &mut headers),
            TargetSigner::Unsigned => {}
        }
        DeliveryRequest {
            url: self.url.clone(),
            is_checked: self.is_checked,
            headers,
            body,
        }
    }

    /// Whether it was made of this very definition.
    fn is_made_from(&self, target: &DeliveryTarget) -> bool {
        match (&self.target, target) {
            (DeliveryTarget::Webhook(own), DeliveryTarget::Webhook(other)) => {
                Arc::ptr_eq(own, other)
            }
            (
                DeliveryTarget::Forward {
                    account,
                    url,
                    must_be_public: is_checked,
                },
                DeliveryTarget::Forward {
                    account: other,
                    url: other_url,
                    must_be_public: other_is_checked,
                },
            ) => Arc::ptr_eq(account, other) && url == other_url && is_checked == other_is_checked,
            (
                DeliveryTarget::Reply { account, .. },
                DeliveryTarget::Reply { account: other, .. },
            ) => Arc::ptr_eq(account, other),
            (DeliveryTarget::AutoReply, DeliveryTarget::AutoReply) => true,
            (
                DeliveryTarget::Webhook(_)
                | DeliveryTarget::Forward { .. }
                | DeliveryTarget::Reply { .. }
                | DeliveryTarget::AutoReply,
                _,
            ) => false,
        }
    }
}

fn transform_error(error: &EvaluationError) -> AttemptError {
    AttemptError {
        code: TRANSFORM_FAILED,
        detail: format!("the transform made no body: {error}"),
    }
}

fn bad_url_error(detail: &str) -> AttemptError {
    AttemptError {
        code: BAD_URL,
        detail: detail.into(),
    }
}

/// What is prepared, by subscriber. What is there of a definition that has changed since is made
/// anew.
pub(super) struct TargetCache {
    prepared: Mutex<HashMap<SubscriberId, Arc<PreparedTarget>>>,
    /// When there are as many, all are dropped: they are soon made again.
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
        profile: &DeliveryPolicy,
    ) -> Result<Arc<PreparedTarget>, AttemptError> {
        let known = || self.prepared.lock();
        if let Some(found) = known()
            .get(&profile.id)
            .filter(|found| found.is_made_from(&profile.target))
        {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(PreparedTarget::try_new(&profile.target)?);
        let mut known = known();
        if known.len() >= self.max {
            known.clear();
        }
        known.insert(profile.id.clone(), Arc::clone(&made));
        Ok(made)
    }

    pub(super) fn forget(&self, id: &SubscriberId) {
        self.prepared.lock().remove(id);
    }
}

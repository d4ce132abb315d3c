//! What every attempt at one subscriber has in common, made once: its URL, its fixed headers, its keys.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use super::super::profile::{Profile, Target};
use super::super::{Item, SubscriberId};
use super::client::Outgoing;
use super::judge::{BAD_URL, Broken, TRANSFORM_FAILED};
use super::signing::{self, Message, Signer};
use super::{forward, graph, headers};
use crate::event::Timestamp;
use crate::provider::HmacKey;
use crate::subscription::envelope;
use crate::subscription::expression::Failed;

/// What one attempt adds.
pub(super) struct Attempt<'a> {
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
pub(super) struct Prepared {
    target: Target,
    url: Url,
    is_checked: bool,
    headers: HeaderMap,
    signs: Signs,
}

enum Signs {
    /// In the styles of a subscription.
    Styles(Box<Signer>),
    /// As Instagram does.
    Hub(HmacKey),
    /// Nothing: the other side knows us by a token.
    Nothing,
}

impl Prepared {
    fn try_new(target: &Target) -> Result<Self, Broken> {
        let (url, is_checked, mut headers, signs) = match target {
            Target::Webhook(subscription) => {
                let custom = headers::custom(&subscription.headers);
                let signer = Signer::new(subscription.id, &subscription.secrets, &subscription.signing);
                (subscription.url.as_str(), true, custom, Signs::Styles(Box::new(signer)))
            }
            Target::Forward { account, url, is_checked } => {
                let key = HmacKey::new(account.webhook_secret.expose().as_bytes());
                (url.as_str(), *is_checked, HeaderMap::new(), Signs::Hub(key))
            }
            Target::Reply { url, token, .. } => (url.as_str(), false, graph::headers(token.as_ref()), Signs::Nothing),
            Target::AutoReply => return Err(bad_url("an automatic reply is not called")),
        };
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| bad_url("the URL cannot be called"))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Hookyard/", env!("CARGO_PKG_VERSION"))));
        Ok(Self { target: target.clone(), url, is_checked, headers, signs })
    }

    /// The path of its URL.
    pub(super) fn path(&self) -> &str {
        self.url.path()
    }

    /// The body of a delivery of `item`.
    pub(super) fn body(&self, item: &Item) -> Result<Bytes, Broken> {
        match &self.target {
            Target::Webhook(subscription) => match &subscription.transform {
                Some(transform) => transform.body(&item.record).map(Bytes::from).map_err(|failed| no_body(&failed)),
                None => Ok(envelope::body(&item.record).into()),
            },
            Target::Forward { account, .. } => forward::body(account, &item.record),
            Target::Reply { token, .. } => graph::body(&item.record, token.as_ref()),
            Target::AutoReply => Err(bad_url("an automatic reply is not called")),
        }
    }

    /// The request that brings `body`.
    pub(super) fn request(&self, attempt: &Attempt<'_>, body: Bytes) -> Outgoing {
        let mut headers = self.headers.clone();
        headers.reserve(11);
        headers.insert(headers::ID, signing::text(attempt.id));
        headers.insert(headers::SEQUENCE, attempt.sequence.into());
        headers.insert(headers::TRACE, signing::text(attempt.trace));
        if attempt.is_replay {
            headers.insert(headers::REPLAY, HeaderValue::from_static("true"));
        }
        match &self.signs {
            Signs::Styles(signer) => {
                let Attempt { id, event, event_at, at, .. } = *attempt;
                signer.sign(&Message { id, event, event_at, attempt_at: at, body: &body }, &mut headers);
            }
            Signs::Hub(key) => signing::sign_hub(key, &body, &mut headers),
            Signs::Nothing => {}
        }
        Outgoing { url: self.url.clone(), is_checked: self.is_checked, headers, body }
    }

    /// Whether it was made of this very definition.
    fn is_of(&self, target: &Target) -> bool {
        match (&self.target, target) {
            (Target::Webhook(own), Target::Webhook(other)) => Arc::ptr_eq(own, other),
            (
                Target::Forward { account, url, is_checked },
                Target::Forward { account: other, url: other_url, is_checked: other_is_checked },
            ) => Arc::ptr_eq(account, other) && url == other_url && is_checked == other_is_checked,
            (Target::Reply { account, .. }, Target::Reply { account: other, .. }) => Arc::ptr_eq(account, other),
            (Target::AutoReply, Target::AutoReply) => true,
            (Target::Webhook(_) | Target::Forward { .. } | Target::Reply { .. } | Target::AutoReply, _) => false,
        }
    }
}

fn no_body(error: &Failed) -> Broken {
    Broken { code: TRANSFORM_FAILED, detail: format!("the transform made no body: {error}") }
}

fn bad_url(detail: &str) -> Broken {
    Broken { code: BAD_URL, detail: detail.into() }
}

/// What is prepared, by subscriber. What is there of a definition that has changed since is made anew.
pub(super) struct Cache {
    known: Mutex<HashMap<SubscriberId, Arc<Prepared>>>,
    /// When there are as many, all are dropped: they are soon made again.
    max: usize,
}

impl Cache {
    pub(super) fn new(max: usize) -> Self {
        Self { known: Mutex::default(), max }
    }

    pub(super) fn of(&self, profile: &Profile) -> Result<Arc<Prepared>, Broken> {
        let known = || self.known.lock();
        if let Some(found) = known().get(&profile.id).filter(|found| found.is_of(&profile.target)) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(Prepared::try_new(&profile.target)?);
        let mut known = known();
        if known.len() >= self.max {
            known.clear();
        }
        known.insert(profile.id.clone(), Arc::clone(&made));
        Ok(made)
    }

    pub(super) fn forget(&self, id: &SubscriberId) {
        self.known.lock().remove(id);
    }
}

//! Signs a delivery in the styles that its subscription chose.
//!
//! | style | headers |
//! |---|---|
//! | `crm` | `X-Webhook-Id`, `X-Webhook-Event`, `X-Webhook-Timestamp` (the event's), `X-Webhook-Signature`: hex HMAC-SHA256 of the body |
//! | `standard` | `webhook-timestamp` (the attempt's), `webhook-signature`: `v1,` and base64 HMAC-SHA256 of `id.timestamp.body`; two for a secret that is base64 without `whsec_` |
//! | `hub` | `X-Hub-Signature-256`: `sha256=` and hex HMAC-SHA256 of the body |
//! | `v1a` | as `standard`, with `v1a,` and base64 Ed25519 of the same |
//!
//! A subscription may give a name of its own to the header of `hub` or, without it, of `crm`.
//!
//! For some time after a rotation `webhook-signature` also carries a signature with the previous
//! secret. The other styles have room for one signature, made with the current secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::event::Timestamp;
use crate::provider::{HmacKey, SignatureEncoding};
use crate::subscription::{self, SigningSecrets, SigningStyle};

const CRM_ID: HeaderName = HeaderName::from_static("x-webhook-id");
const CRM_EVENT: HeaderName = HeaderName::from_static("x-webhook-event");
const CRM_TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");
const CRM_SIGNATURE: HeaderName = HeaderName::from_static("x-webhook-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const HUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// Values that go into the signatures of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct SigningInput<'a> {
    /// Value of the header `webhook-id`.
    pub id: &'a str,
    /// Name of the event type.
    pub event: &'a str,
    /// Time at which the event happened.
    pub event_at: Timestamp,
    /// Time at which the attempt begins.
    pub attempt_at: Timestamp,
    /// The complete body, byte by byte as it is sent.
    pub body: &'a [u8],
}

/// Signing keys of one subscription. `Debug` shows nothing of them.
pub struct DeliverySigner {
    crm: Option<(HeaderValue, HmacKey)>,
    crm_header: HeaderName,
    hub: Option<HmacKey>,
    hub_header: HeaderName,
    /// Keys of the current secret, then keys of the previous secret with the end of its validity.
    standard: Vec<(HmacKey, Option<Timestamp>)>,
    v1a: Option<SigningKey>,
}

impl fmt::Debug for DeliverySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl DeliverySigner {
    /// Derives from `secrets` the keys for `styles` of the subscription `id`.
    #[must_use]
    pub fn new(
        id: subscription::SubscriptionId,
        secrets: &SigningSecrets,
        styles: &[SigningStyle],
    ) -> Self {
        let has = |style| styles.contains(&style);
        let current = || <HmacKey>::new(secrets.current.expose().as_bytes());
        let previous = secrets.previous.iter();
        let previous = previous.map(|(secret, until)| (secret, Some(*until)));
        let standard = || {
            std::iter::once((&secrets.current, None))
                .chain(previous)
                .flat_map(|(secret, until)| {
                    let keys = standard_keys(secret).into_iter();
                    keys.map(move |key| (key, until))
                })
                .collect()
        };
        Self {
            crm: has(SigningStyle::Crm).then(|| (id.into(), current())),
            crm_header: CRM_SIGNATURE,
            hub: has(SigningStyle::Hub).then(current),
            hub_header: HUB_SIGNATURE,
            standard: if has(SigningStyle::Standard) {
                standard()
            } else {
                Vec::new()
            },
            v1a: if has(SigningStyle::V1a) {
                secrets.signing_key_pair()
            } else {
                None
            },
        }
    }

    /// Sends the signature of the body in the header `name`, in the form of `hub` if that is one of
    /// the styles, else of `crm`.
    #[must_use]
    pub fn with_signature_header(mut self, name: Option<&str>) -> Self {
        // The name was checked when it was given.
        let name = name.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        match (name, &self.hub) {
            (Some(name), Some(_)) => self.hub_header = name,
            (Some(name), None) => self.crm_header = name,
            (None, _) => {}
        }
        self
    }

    /// Adds the signatures of `input` to `headers`.
    pub fn sign(&self, input: &SigningInput<'_>, headers: &mut HeaderMap) {
        if let Some((id, key)) = &self.crm {
            headers.insert(CRM_ID, id.clone());
            headers.insert(CRM_EVENT, to_header_value(input.event));
            headers.insert(CRM_TIMESTAMP, to_header_value(&input.event_at.to_string()));
            headers.insert(
                &self.crm_header,
                to_header_value(&hex::encode(key.tag(&[input.body]))),
            );
        }
        if let Some(key) = &self.hub {
            headers.insert(&self.hub_header, hub_signature(key, input.body));
        }
        if self.standard.is_empty() && self.v1a.is_none() {
            return;
        }

        let timestamp = input
            .attempt_at
            .as_micros()
            .div_euclid(1_000_000)
            .to_string();
        let signed = [
            input.id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            input.body,
        ];
        headers.insert(TIMESTAMP, to_header_value(&timestamp));
        headers.insert(
            SIGNATURE,
            to_header_value(&self.standard_signatures(input.attempt_at, &signed)),
        );
    }

    /// Returns the value of `webhook-signature`: signatures separated by spaces.
    fn standard_signatures(&self, now: Timestamp, signed: &[&[u8]]) -> String {
        let valid = self
            .standard
            .iter()
            .filter(|(_, until)| until.is_none_or(|until| now < until));
        let hmac = valid.map(|(key, _)| format!("v1,{}", STANDARD.encode(key.tag(signed))));
        let ed25519 = self.v1a.iter().map(|key| {
            format!(
                "v1a,{}",
                STANDARD.encode(key.sign(&signed.concat()).to_bytes())
            )
        });
        hmac.chain(ed25519).collect::<Vec<_>>().join(" ")
    }
}

/// Adds the signature of `body` in the header that Instagram's own webhooks use.
pub(super) fn insert_hub_signature(key: &HmacKey, body: &[u8], headers: &mut HeaderMap) {
    headers.insert(HUB_SIGNATURE, hub_signature(key, body));
}

fn hub_signature(key: &HmacKey, body: &[u8]) -> HeaderValue {
    to_header_value(&format!("sha256={}", hex::encode(key.tag(&[body]))))
}

/// Derives the keys of a secret for the style `standard`. The libraries of Standard Webhooks decode
/// the base64 after `whsec_`, or all of a secret without that prefix. A secret without the prefix
/// is also used as it is, because a receiver that calculates for itself may know no base64.
fn standard_keys(secret: &Secret) -> Vec<HmacKey> {
    let text = secret.expose();
    let decode = |encoded| {
        SignatureEncoding::Base64
            .decode(encoded)
            .map(Zeroizing::new)
    };
    let plain = || HmacKey::new(text.as_bytes());
    match text.strip_prefix("whsec_").map(decode) {
        Some(Some(decoded)) => vec![HmacKey::new(&decoded)],
        Some(None) => vec![plain()],
        None => decode(text)
            .map(|decoded| HmacKey::new(&decoded))
            .into_iter()
            .chain([plain()])
            .collect(),
    }
}

/// Converts `text` to a header value. Characters that a header cannot hold become question marks.
pub(super) fn to_header_value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or_else(|_| {
        let printable: String = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        HeaderValue::from_bytes(printable.as_bytes())
            .unwrap_or_else(|_| HeaderValue::from_static("?"))
    })
}

#[cfg(test)]
mod tests;

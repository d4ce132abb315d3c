//! The signatures of a delivery, in the styles that its subscriber chose.
//!
//! | style | headers |
//! |---|---|
//! | `crm` | `X-Webhook-Id`, `X-Webhook-Event`, `X-Webhook-Timestamp` (the event's), `X-Webhook-Signature`: hex HMAC-SHA256 of the body |
//! | `standard` | `webhook-timestamp` (the attempt's), `webhook-signature`: `v1,` and base64 HMAC-SHA256 of `id.timestamp.body` |
//! | `hub` | `X-Hub-Signature-256`: `sha256=` and hex HMAC-SHA256 of the body |
//! | `v1a` | as `standard`, with `v1a,` and base64 Ed25519 of the same |
//!
//! For some time after a rotation `webhook-signature` carries a signature of the previous secret
//! too; the other styles have room for one, that of the present secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
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

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct SigningInput<'a> {
    /// The value of `webhook-id`.
    pub id: &'a str,
    /// The event's name.
    pub event: &'a str,
    /// The event's own time.
    pub event_at: Timestamp,
    /// When the attempt is made.
    pub attempt_at: Timestamp,
    /// The body, to the last byte.
    pub body: &'a [u8],
}

/// The keys of one subscription, ready to sign with. Never shown.
pub struct DeliverySigner {
    crm: Option<(HeaderValue, HmacKey)>,
    hub: Option<HmacKey>,
    /// The present secret's key, then the previous one's and until when that counts.
    standard: Vec<(HmacKey, Option<Timestamp>)>,
    v1a: Option<SigningKey>,
}

impl fmt::Debug for DeliverySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl DeliverySigner {
    /// Makes of `secrets` the keys for `styles`, for the subscription `id`.
    #[must_use]
    pub fn new(
        id: subscription::SubscriptionId,
        secrets: &SigningSecrets,
        styles: &[SigningStyle],
    ) -> Self {
        let has = |style| styles.contains(&style);
        let whole = || <HmacKey>::new(secrets.current.expose().as_bytes());
        let previous = secrets
            .previous
            .iter()
            .map(|(secret, until)| (standard_key(secret), Some(*until)));
        let standard = || {
            std::iter::once((standard_key(&secrets.current), None))
                .chain(previous)
                .collect()
        };
        Self {
            crm: has(SigningStyle::Crm).then(|| (id.into(), whole())),
            hub: has(SigningStyle::Hub).then(whole),
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

    /// Adds the signatures of `message` to `headers`.
    pub fn sign(&self, message: &SigningInput<'_>, headers: &mut HeaderMap) {
        if let Some((id, key)) = &self.crm {
            headers.insert(CRM_ID, id.clone());
            headers.insert(CRM_EVENT, to_header_value(message.event));
            headers.insert(
                CRM_TIMESTAMP,
                to_header_value(&message.event_at.to_string()),
            );
            headers.insert(
                CRM_SIGNATURE,
                to_header_value(&hex::encode(key.tag(&[message.body]))),
            );
        }
        if let Some(key) = &self.hub {
            headers.insert(HUB_SIGNATURE, hub_signature(key, message.body));
        }
        if self.standard.is_empty() && self.v1a.is_none() {
            return;
        }
        let timestamp = message
            .attempt_at
            .as_micros()
            .div_euclid(1_000_000)
            .to_string();
        let signed = [
            message.id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            message.body,
        ];
        headers.insert(TIMESTAMP, to_header_value(&timestamp));
        headers.insert(
            SIGNATURE,
            to_header_value(&self.standard_signatures(message.attempt_at, &signed)),
        );
    }

    /// What `webhook-signature` holds: signatures with spaces between.
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

/// Adds the signature that Instagram's own webhooks carry, of `body`.
pub(super) fn insert_hub_signature(key: &HmacKey, body: &[u8], headers: &mut HeaderMap) {
    headers.insert(HUB_SIGNATURE, hub_signature(key, body));
}

fn hub_signature(key: &HmacKey, body: &[u8]) -> HeaderValue {
    to_header_value(&format!("sha256={}", hex::encode(key.tag(&[body]))))
}

/// The key that Standard Webhooks make of a secret: what `whsec_` stands before in base64, or the
/// secret as it is.
fn standard_key(secret: &Secret) -> HmacKey {
    let text = secret.expose();
    let decoded = text
        .strip_prefix("whsec_")
        .and_then(|encoded| SignatureEncoding::Base64.decode(encoded))
        .map(Zeroizing::new);
    HmacKey::new(
        decoded
            .as_ref()
            .map_or(text.as_bytes(), |decoded| decoded.as_slice()),
    )
}

/// `text` as a header's value; what a header cannot hold becomes a question mark.
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

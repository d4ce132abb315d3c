//! The senders that are known by name, one file each. A new one is its file and a line in [`ALL`].
//!
//! | preset | header | signature | covers |
//! |---|---|---|---|
//! | `github`, `meta` | `X-Hub-Signature-256` | HMAC-SHA256, hex | the body |
//! | `stripe` | `Stripe-Signature` | HMAC-SHA256, hex | time, body |
//! | `shopify` | `X-Shopify-Hmac-SHA256` | HMAC-SHA256, base64 | the body |
//! | `slack` | `X-Slack-Signature` | HMAC-SHA256, hex | time, body |
//! | `hubspot` | `X-HubSpot-Signature-v3` or `X-HubSpot-Signature` | HMAC-SHA256, base64; SHA-256, hex | method, URL, body, time |
//! | `zendesk` | `X-Zendesk-Webhook-Signature` | HMAC-SHA256, base64 | time, body |
//! | `intercom` | `X-Hub-Signature` | HMAC-SHA1, hex | the body |
//! | `pipedrive` | `Authorization` | – | – |
//! | `twilio` | `X-Twilio-Signature` | HMAC-SHA1, base64 | URL, form or the body's hash |
//! | `standard`, `svix` | `webhook-signature`, `svix-signature` | HMAC-SHA256 or Ed25519, base64 | id, time, body |

use std::time::Duration;

use super::claim::Claim;
use super::handshake::Handshake;
use super::key::{BadKey, Key};
use super::locator::Locator;
use super::no_claim::NoClaim;
use super::request::Request;
use super::scheme::Scheme;

mod github;
mod hubspot;
mod intercom;
mod meta;
mod pipedrive;
mod shopify;
mod slack;
mod standard;
mod stripe;
mod svix;
mod twilio;
mod zendesk;

/// Every preset there is.
pub static ALL: [&Preset; 12] = [
    &github::PRESET,
    &hubspot::PRESET,
    &intercom::PRESET,
    &meta::PRESET,
    &pipedrive::PRESET,
    &shopify::PRESET,
    &slack::PRESET,
    &standard::PRESET,
    &stripe::PRESET,
    &svix::PRESET,
    &twilio::PRESET,
    &zendesk::PRESET,
];

/// How long most providers that sign a time let a request be under way, and how far most clocks are apart at worst.
const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// A sender that is known by name.
#[derive(Debug)]
pub struct Preset {
    /// Its name in a configuration.
    pub name: &'static str,
    /// How it signs.
    signing: Signing,
    /// How far its signed time may be from the clock; `None` if it signs no time.
    pub tolerance: Option<Duration>,
    /// Where its fields stand, as far as that is the same for all of its events.
    pub defaults: Defaults,
    /// How it shakes hands.
    pub handshake: Handshake,
}

/// How a preset signs.
#[derive(Debug)]
enum Signing {
    /// As a table can describe.
    Scheme(Scheme),
    /// In its own way.
    Own { key: fn(&str) -> Result<Key, BadKey>, claim: for<'r> fn(&Request<'r>) -> Result<Claim<'r>, NoClaim> },
}

/// Where a preset's fields stand.
#[derive(Debug)]
pub struct Defaults {
    /// The id of the entity.
    pub entity: Option<Locator>,
    /// The event's name.
    pub event: Option<Locator>,
    /// The idempotency key.
    pub idempotency_key: Option<Locator>,
    /// When it happened, for those events that say it there.
    pub occurred_at: Option<Locator>,
}

impl Defaults {
    const NONE: Self = Self { entity: None, event: None, idempotency_key: None, occurred_at: None };
}

impl Preset {
    /// Reads one of its secrets.
    ///
    /// # Errors
    /// [`BadKey`] if it is not what the provider hands out.
    pub fn key(&self, text: &str) -> Result<Key, BadKey> {
        match &self.signing {
            Signing::Scheme(scheme) => scheme.key(text),
            Signing::Own { key, .. } => key(text),
        }
    }

    /// What `request` claims.
    ///
    /// # Errors
    /// [`NoClaim`] if there is no signature, or what it covers is not there.
    pub fn claim<'r>(&'static self, request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
        match &self.signing {
            Signing::Scheme(scheme) => scheme.claim(request),
            Signing::Own { claim, .. } => claim(request),
        }
    }
}

/// The preset of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.into_iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests;

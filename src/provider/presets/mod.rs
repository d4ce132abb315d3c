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

use super::handshake::ProviderHandshake;
use super::key::{VerificationKey, VerificationKeyError};
use super::locator::FieldLocator;
use super::no_claim::ClaimError;
use super::request::RequestView;
use super::scheme::SignatureScheme;
use super::signature_claim::SignatureClaim;

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
pub static ALL: [&ProviderPreset; 12] = [
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

/// How long most providers that sign a time let a request be under way, and how far most clocks are
/// apart at worst.
const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// A sender that is known by name.
#[derive(Debug)]
pub struct ProviderPreset {
    /// Its name in a configuration.
    pub name: &'static str,
    /// How it signs.
    signing: PresetSigning,
    /// How far its signed time may be from the clock; `None` if it signs no time.
    pub tolerance: Option<Duration>,
    /// Where its fields stand, as far as that is the same for all of its events.
    pub defaults: PresetFields,
    /// How it shakes hands.
    pub handshake: ProviderHandshake,
}

/// How a preset signs.
#[derive(Debug)]
enum PresetSigning {
    /// As a table can describe.
    Scheme(SignatureScheme),
    /// In its own way.
    Own {
        key: fn(&str) -> Result<VerificationKey, VerificationKeyError>,
        claim: for<'r> fn(&RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError>,
    },
}

/// Where a preset's fields stand.
#[derive(Debug)]
pub struct PresetFields {
    /// The id of the entity.
    pub entity: Option<FieldLocator>,
    /// The event's name.
    pub event: Option<FieldLocator>,
    /// The idempotency key.
    pub idempotency_key: Option<FieldLocator>,
    /// When it happened, for those events that say it there.
    pub occurred_at: Option<FieldLocator>,
}

impl PresetFields {
    const NONE: Self = Self {
        entity: None,
        event: None,
        idempotency_key: None,
        occurred_at: None,
    };
}

impl ProviderPreset {
    /// Reads one of its secrets.
    ///
    /// # Errors
    /// [`BadKey`] if it is not what the provider hands out.
    pub fn key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match &self.signing {
            PresetSigning::Scheme(scheme) => scheme.key(text),
            PresetSigning::Own { key, .. } => key(text),
        }
    }

    /// What `request` claims.
    ///
    /// # Errors
    /// [`NoClaim`] if there is no signature, or what it covers is not there.
    pub fn read_claim<'r>(
        &'static self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        match &self.signing {
            PresetSigning::Scheme(scheme) => scheme.read_claim(request),
            PresetSigning::Own { claim, .. } => claim(request),
        }
    }
}

/// The preset of that name.
#[must_use]
pub fn find_preset(name: &str) -> Option<&'static ProviderPreset> {
    ALL.into_iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests;

//! Presets of known providers, one file each. A new preset is one file and one line in [`ALL`].
//!
//! | preset | header | signature | covers |
//! |---|---|---|---|
//! | `github`, `meta` | `X-Hub-Signature-256` | HMAC-SHA256, hex | body |
//! | `stripe` | `Stripe-Signature` | HMAC-SHA256, hex | time, body |
//! | `shopify` | `X-Shopify-Hmac-SHA256` | HMAC-SHA256, base64 | body |
//! | `slack` | `X-Slack-Signature` | HMAC-SHA256, hex | time, body |
//! | `hubspot` | `X-HubSpot-Signature-v3` | HMAC-SHA256, base64 | method, URL, body, time |
//! | `hubspot` | `X-HubSpot-Signature` | SHA-256, hex | secret, method, URL, body |
//! | `zendesk` | `X-Zendesk-Webhook-Signature` | HMAC-SHA256, base64 | time, body |
//! | `intercom` | `X-Hub-Signature` | HMAC-SHA1, hex | body |
//! | `pipedrive` | `Authorization` | – | – |
//! | `twilio` | `X-Twilio-Signature` | HMAC-SHA1, base64 | URL, form or hash of the body |
//! | `standard` | `webhook-signature` | HMAC-SHA256 or Ed25519, base64 | id, time, body |
//! | `svix` | `svix-signature` | HMAC-SHA256 or Ed25519, base64 | id, time, body |

mod github;
mod hubspot;
mod intercom;
mod meta;
mod pipedrive;
mod preset;
mod shopify;
mod slack;
mod standard;
mod stripe;
mod svix;
mod twilio;
mod zendesk;

pub use preset::{PresetFields, ProviderPreset};

/// All presets, sorted by name.
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

/// Returns the preset `name`, if there is one.
#[must_use]
pub fn find_preset(name: &str) -> Option<&'static ProviderPreset> {
    ALL.into_iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests;

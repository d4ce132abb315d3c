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
//! | `gitlab` | `X-Gitlab-Token`, or as `standard` | –, or as `standard` | –, or id, time, body |
//! | `gitea` | `X-Gitea-Signature` | HMAC-SHA256, hex | body |
//! | `linear` | `Linear-Signature` | HMAC-SHA256, hex | body, with the time in it |
//! | `trello` | `X-Trello-Webhook` | HMAC-SHA1, base64 | body, URL |
//! | `discord` | `X-Signature-Ed25519` | Ed25519, hex | time, body |
//! | `calendly` | `Calendly-Webhook-Signature` | HMAC-SHA256, hex | time, body |
//! | `paddle` | `Paddle-Signature` | HMAC-SHA256, hex | time, body |
//! | `woocommerce` | `X-WC-Webhook-Signature` | HMAC-SHA256, base64 | body |
//! | `xero` | `x-xero-signature` | HMAC-SHA256, base64 | body |
//! | `sendgrid` | `X-Twilio-Email-Event-Webhook-Signature` | ECDSA P-256, base64 | time, body |
//! | `svix` | `svix-signature` | HMAC-SHA256 or Ed25519, base64 | id, time, body |

mod calendly;
mod discord;
mod gitea;
mod github;
mod gitlab;
mod hubspot;
mod intercom;
mod linear;
mod meta;
mod paddle;
mod pipedrive;
mod preset;
mod sendgrid;
mod shopify;
mod slack;
mod standard;
mod stripe;
mod svix;
mod trello;
mod twilio;
mod woocommerce;
mod xero;
mod zendesk;

pub use preset::{PresetAnswer, PresetFacts, PresetFields, ProviderPreset};

/// All presets, sorted by name.
pub static ALL: [&ProviderPreset; 22] = [
    &calendly::PRESET,
    &discord::PRESET,
    &gitea::PRESET,
    &github::PRESET,
    &gitlab::PRESET,
    &hubspot::PRESET,
    &intercom::PRESET,
    &linear::PRESET,
    &meta::PRESET,
    &paddle::PRESET,
    &pipedrive::PRESET,
    &sendgrid::PRESET,
    &shopify::PRESET,
    &slack::PRESET,
    &standard::PRESET,
    &stripe::PRESET,
    &svix::PRESET,
    &trello::PRESET,
    &twilio::PRESET,
    &woocommerce::PRESET,
    &xero::PRESET,
    &zendesk::PRESET,
];

/// Names of the presets with rules of their own whose providers sign the URL that they call.
pub(super) const URL_SIGNERS: [&str; 2] = ["hubspot", "twilio"];

/// Returns the preset `name`, if there is one.
#[must_use]
pub fn find_preset(name: &str) -> Option<&'static ProviderPreset> {
    ALL.into_iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod tests;

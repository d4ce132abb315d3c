//! Senders for configured sources, each of which signs as its provider documents: independent of
//! the verifying code, on the bare algorithms.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use hookyard::event::Timestamp;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// Every preset, with a secret in its format.
pub const PRESETS: [(&str, &str); 12] = [
    ("github", "hush-hush-hush"),
    ("hubspot", "hush-hush-hush"),
    ("intercom", "hush-hush-hush"),
    ("meta", "hush-hush-hush"),
    ("pipedrive", "user:hush-hush-hush"),
    ("shopify", "hush-hush-hush"),
    ("slack", "hush-hush-hush"),
    ("standard", "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2g="),
    ("stripe", "whsec_hush-hush-hush"),
    ("svix", "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2g="),
    ("twilio", "hush-hush-hush"),
    ("zendesk", "hush-hush-hush"),
];

/// Configured source in the description of the API.
pub const DESCRIBED: &str = "[[sources.custom]]\nname = \"billing\"\npreset = \"meta\"\nsecrets = [\"test-secret-long-enough-for-any-node\"]\n\
                          verify_token = \"my-verify-token\"\nentity = \"/customer\"\nevent = \"/type\"\nidempotency_key = \"/id\"\n";

pub type SenderHeaders = Vec<(&'static str, String)>;

pub fn sha1(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha1>::new_from_slice(key)
        .expect("any length")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}

pub fn sha256(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("any length")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}

pub fn sha512(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha512>::new_from_slice(key)
        .expect("any length")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}

/// Key of Ed25519 senders, and its public half as in a configuration.
pub fn ed25519() -> (SigningKey, String) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = format!("whpk_{}", STANDARD.encode(key.verifying_key().as_bytes()));
    (key, public)
}

pub fn ed25519_signature(text: &str) -> String {
    STANDARD.encode(ed25519().0.sign(text.as_bytes()).to_bytes())
}

/// Headers with which the provider of `preset` sends `body` (a form for Twilio) to `url` at `at`,
/// as message `id`.
pub fn signed(
    preset: &str,
    secret: &str,
    url: &str,
    body: &str,
    id: &str,
    at: Timestamp,
) -> SenderHeaders {
    let seconds = at.as_micros() / 1_000_000;
    let key = secret.as_bytes();
    let mut headers: SenderHeaders = match preset {
        "github" => vec![
            (
                "X-Hub-Signature-256",
                format!("sha256={}", hex::encode(sha256(key, body))),
            ),
            ("X-GitHub-Event", "issues".into()),
            ("X-GitHub-Delivery", id.into()),
        ],
        "meta" => vec![(
            "X-Hub-Signature-256",
            format!("sha256={}", hex::encode(sha256(key, body))),
        )],
        "intercom" => vec![(
            "X-Hub-Signature",
            format!("sha1={}", hex::encode(sha1(key, body))),
        )],
        "shopify" => vec![("X-Shopify-Hmac-SHA256", STANDARD.encode(sha256(key, body)))],
        "pipedrive" => vec![(
            "Authorization",
            format!("Basic {}", STANDARD.encode(secret)),
        )],
        "slack" => vec![
            (
                "X-Slack-Signature",
                format!(
                    "v0={}",
                    hex::encode(sha256(key, &format!("v0:{seconds}:{body}")))
                ),
            ),
            ("X-Slack-Request-Timestamp", seconds.to_string()),
        ],
        "stripe" => {
            let signature = hex::encode(sha256(key, &format!("{seconds}.{body}")));
            vec![("Stripe-Signature", format!("t={seconds},v1={signature}"))]
        }
        "zendesk" => vec![
            (
                "X-Zendesk-Webhook-Signature",
                STANDARD.encode(sha256(key, &format!("{at}{body}"))),
            ),
            ("X-Zendesk-Webhook-Signature-Timestamp", at.to_string()),
        ],
        "hubspot" => {
            let time = (seconds * 1_000).to_string();
            let signature = STANDARD.encode(sha256(key, &format!("POST{url}{body}{time}")));
            vec![
                ("X-HubSpot-Signature-v3", signature),
                ("X-HubSpot-Request-Timestamp", time),
            ]
        }
        "twilio" => {
            let mut fields: Vec<(&str, &str)> = body
                .split('&')
                .filter_map(|field| field.split_once('='))
                .collect();
            fields.sort_unstable();
            let text = fields
                .iter()
                .fold(url.to_owned(), |text, (name, value)| text + name + value);
            vec![("X-Twilio-Signature", STANDARD.encode(sha1(key, &text)))]
        }
        "standard" | "svix" => {
            let key = STANDARD
                .decode(secret.trim_start_matches("whsec_"))
                .expect("base64");
            let signature = format!(
                "v1,{}",
                STANDARD.encode(sha256(&key, &format!("{id}.{seconds}.{body}")))
            );
            match preset {
                "svix" => {
                    vec![
                        ("svix-id", id.into()),
                        ("svix-timestamp", seconds.to_string()),
                        ("svix-signature", signature),
                    ]
                }
                _ => vec![
                    ("webhook-id", id.into()),
                    ("webhook-timestamp", seconds.to_string()),
                    ("webhook-signature", signature),
                ],
            }
        }
        other => panic!("no sender of {other}"),
    };
    let content_type = if preset == "twilio" {
        "application/x-www-form-urlencoded"
    } else {
        "application/json"
    };
    headers.push(("Content-Type", content_type.into()));
    headers
}

/// SHA-256 of `text` in hex.
pub fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

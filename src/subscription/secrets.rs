//! What deliveries are signed with: made, replaced, and in force for a while after they were.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::event::Timestamp;

/// What a generated secret begins with, as Standard Webhooks has it.
const SECRET_PREFIX: &str = "whsec_";
/// What a public key begins with there.
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// The longest that a replaced secret stays in force.
pub const OVERLAP_MAX: Duration = Duration::from_secs(168 * 3_600);
/// How long it does unless somebody says otherwise: a day to bring the new one to wherever signatures are checked.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// What deliveries are signed with.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The present secret.
    pub current: Secret,
    /// The one before, and until when deliveries carry its signature too.
    pub previous: Option<(Secret, Timestamp)>,
    /// The seed (32 bytes) of the ed25519 key pair, once `v1a` was chosen, in base64.
    pub signing_key: Option<Secret>,
}

impl Secrets {
    /// Those of a new subscription: `given`, or a secret made now.
    #[must_use]
    pub fn new(given: Option<Secret>) -> Self {
        Self { current: given.unwrap_or_else(generate), previous: None, signing_key: None }
    }

    /// Puts `given`, or a secret made now, in the place of the present one, which stays in force for `overlap` from `now`.
    /// What was replaced before that is in force no more: there are never more than two.
    pub fn rotate(&mut self, given: Option<Secret>, now: Timestamp, overlap: Duration) {
        let replaced = std::mem::replace(&mut self.current, given.unwrap_or_else(generate));
        self.previous = (!overlap.is_zero()).then(|| (replaced, now.saturating_add(overlap)));
    }

    /// The secrets in force at `now`, the present one first.
    pub fn active(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let previous = self.previous.as_ref().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        std::iter::once(&self.current).chain(previous)
    }

    /// Makes the key pair of `v1a`, unless there is one: it stays the same for as long as the subscription exists.
    pub fn ensure_signing_key(&mut self) {
        if self.signing_key.is_none() {
            self.signing_key = Some(Secret::new(STANDARD.encode(random())));
        }
    }

    /// The key pair of `v1a`, if one was made.
    #[must_use]
    pub fn signing_pair(&self) -> Option<SigningKey> {
        let seed = Zeroizing::new(STANDARD.decode(self.signing_key.as_ref()?.expose()).ok()?);
        Some(SigningKey::from_bytes(seed.as_slice().try_into().ok()?))
    }

    /// What receivers check `v1a` signatures with: `whpk_` and the public key in base64.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        let pair = self.signing_pair()?;
        Some(format!("{PUBLIC_KEY_PREFIX}{}", STANDARD.encode(pair.verifying_key().as_bytes())))
    }
}

/// A new secret: `whsec_` and 32 random bytes in base64.
#[must_use]
pub fn generate() -> Secret {
    Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(random())))
}

/// What is shown of `secret` once it was shown in full: enough to tell it from another.
#[must_use]
pub fn masked(secret: &Secret) -> String {
    let _ = secret;
    "…".to_owned()
}

fn random() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).expect("the system has random numbers");
    bytes
}

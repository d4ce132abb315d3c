//! Secrets that sign deliveries: generation, rotation with an overlap, and redacted display.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::event::Timestamp;

/// Prefix of a generated secret, from the Standard Webhooks specification.
const SECRET_PREFIX: &str = "whsec_";
/// Prefix of a public key, from the Standard Webhooks specification.
const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// Bytes at the end of a long secret that are shown.
const SHOWN_BYTES: usize = 4;

/// Least number of hidden bytes; a secret too short for that is hidden entirely.
const HIDDEN_MIN_BYTES: usize = 20;

/// Longest time that a replaced secret stays in force: a week.
pub const ROTATION_OVERLAP_MAX: Duration = Duration::from_secs(168 * 3_600);
/// Default time that a replaced secret stays in force: a day to deploy the new secret wherever
/// signatures are checked.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// Secrets that sign the deliveries of one subscription.
#[derive(Clone, Debug)]
pub struct SigningSecrets {
    /// Secret that signs all deliveries.
    pub current: Secret,
    /// Replaced secret, and the time until which deliveries carry its signature too.
    pub previous: Option<(Secret, Timestamp)>,
    /// Seed of the ed25519 key pair, 32 bytes in base64, once `v1a` was chosen.
    pub signing_key: Option<Secret>,
}

impl SigningSecrets {
    /// Returns the secrets of a new subscription: `chosen`, or a generated secret.
    #[must_use]
    pub fn new(chosen: Option<Secret>) -> Self {
        Self {
            current: chosen.unwrap_or_else(generate_secret),
            previous: None,
            signing_key: None,
        }
    }

    /// Replaces the current secret by `chosen`, or by a generated secret. The current secret stays
    /// in force for `overlap` from `now`. Secrets that were replaced earlier end at once: at most
    /// two secrets are in force.
    pub fn rotate(&mut self, chosen: Option<Secret>, now: Timestamp, overlap: Duration) {
        let new = chosen.unwrap_or_else(generate_secret);
        let replaced = std::mem::replace(&mut self.current, new);
        self.previous = (!overlap.is_zero()).then(|| (replaced, now.saturating_add(overlap)));
    }

    /// Returns the secrets in force at `now`, the current secret first.
    pub fn active_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let previous = self
            .previous
            .as_ref()
            .filter(|(_, until)| now < *until)
            .map(|(secret, _)| secret);
        std::iter::once(&self.current).chain(previous)
    }

    /// Generates the key pair of `v1a` if there is none. The pair stays the same as long as the
    /// subscription exists.
    pub fn ensure_signing_key(&mut self) {
        if self.signing_key.is_none() {
            self.signing_key = Some(Secret::new(STANDARD.encode(random_bytes())));
        }
    }

    /// Returns the key pair of `v1a`, if it was generated.
    #[must_use]
    pub fn signing_key_pair(&self) -> Option<SigningKey> {
        let seed = Zeroizing::new(STANDARD.decode(self.signing_key.as_ref()?.expose()).ok()?);
        Some(SigningKey::from_bytes(seed.as_slice().try_into().ok()?))
    }

    /// Returns the key for checking `v1a` signatures: `whpk_` and the public key in base64.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        let pair = self.signing_key_pair()?;
        Some(format!(
            "{PUBLIC_KEY_PREFIX}{}",
            STANDARD.encode(pair.verifying_key().as_bytes())
        ))
    }
}

/// Generates a secret: `whsec_` and 32 random bytes in base64.
#[must_use]
pub fn generate_secret() -> Secret {
    Secret::new(format!(
        "{SECRET_PREFIX}{}",
        STANDARD.encode(random_bytes())
    ))
}

/// Returns the part of `secret` that may be shown later: enough to tell it from another secret.
#[must_use]
pub fn redact_secret(secret: &Secret) -> String {
    let text = secret.expose();
    let Some(end) = text
        .len()
        .checked_sub(SHOWN_BYTES)
        .filter(|hidden| *hidden >= HIDDEN_MIN_BYTES)
    else {
        return "…".to_owned();
    };
    let prefix = if text.starts_with(SECRET_PREFIX) {
        SECRET_PREFIX
    } else {
        ""
    };
    // `get` is `None` if the cut would split a character.
    text.get(end..)
        .map_or_else(|| "…".to_owned(), |end| format!("{prefix}…{end}"))
}

fn random_bytes() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).expect("the operating system provides random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, Verifier, VerifyingKey};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.saturating_add(Duration::from_secs(seconds))
    }

    fn active(secrets: &SigningSecrets, at: Timestamp) -> Vec<&str> {
        secrets.active_secrets(at).map(Secret::expose).collect()
    }

    #[test]
    fn a_generated_secret_is_32_random_bytes_as_standard_webhooks_writes_them() {
        let secret = generate_secret();
        let bytes = secret
            .expose()
            .strip_prefix("whsec_")
            .and_then(|text| STANDARD.decode(text).ok());
        assert_eq!(bytes.expect("base64").len(), 32);
        assert!(super::super::limits::is_valid_secret(secret.expose()));
        assert_ne!(secret.expose(), generate_secret().expose());
    }

    #[test]
    fn a_replaced_secret_stays_in_force_for_its_overlap_and_never_three_are() {
        let mut secrets = SigningSecrets::new(Some(Secret::new("a")));
        assert_eq!(active(&secrets, NOW), ["a"]);
        secrets.rotate(Some(Secret::new("b")), NOW, Duration::from_secs(60));
        assert_eq!(active(&secrets, after(59)), ["b", "a"]);
        assert_eq!(active(&secrets, after(60)), ["b"]);
        secrets.rotate(Some(Secret::new("c")), after(1), Duration::from_secs(60));
        assert_eq!(active(&secrets, after(2)), ["c", "b"]);
        secrets.rotate(None, after(3), Duration::ZERO);
        assert_eq!(active(&secrets, after(3)).len(), 1, "at once");
    }

    #[test]
    fn the_key_pair_is_made_once_and_its_public_key_checks_what_it_signs() {
        let mut secrets = SigningSecrets::new(None);
        assert!(secrets.public_key().is_none() && secrets.signing_key_pair().is_none());
        secrets.ensure_signing_key();
        let public = secrets.public_key().expect("made");
        secrets.ensure_signing_key();
        secrets.rotate(None, NOW, ROTATION_OVERLAP);
        assert_eq!(secrets.public_key().as_ref(), Some(&public));
        let bytes = STANDARD
            .decode(public.strip_prefix("whpk_").expect("the prefix"))
            .expect("base64");
        let key = VerifyingKey::from_bytes(&bytes.try_into().expect("32 bytes")).expect("a key");
        let signature = secrets.signing_key_pair().expect("made").sign(b"body");
        key.verify(b"body", &signature).expect("its own");
    }

    #[test]
    fn a_masked_secret_shows_its_end_if_it_is_long_and_nothing_if_it_is_short() {
        let masked = |text: &str| redact_secret(&Secret::new(text));
        assert_eq!(
            masked("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
            "whsec_…MDE="
        );
        assert_eq!(masked("0123456789012345678901234567"), "…4567");
        for short in ["", "hush", "whsec_0123456789abcdef", "01234567890123456ä…"] {
            assert_eq!(masked(short), "…", "{short}");
        }
    }
}

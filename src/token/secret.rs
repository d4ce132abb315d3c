//! Secrets of named tokens: `hyt_` and 256 random bits in base64url. The prefix lets scanners of source
//! code recognise a token that was committed by mistake.
//!
//! The store keeps the SHA-256 of a secret only. A slow hash such as Argon2 protects secrets that
//! people choose, because those can be guessed; nobody guesses 256 random bits, and a slow hash would
//! let strangers burn the processor with wrong tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Beginning of every secret of a named token.
pub const TOKEN_PREFIX: &str = "hyt_";

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// SHA-256 of a token's secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl TokenHash {
    /// Hashes the secret that a caller presents.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Restores a hash from its stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares both hashes in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Generates the secret of a new token.
///
/// # Errors
/// The operating system provides no random bytes.
pub fn generate_token_secret() -> Result<Secret, getrandom::Error> {
    let mut bytes = zeroize::Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(&mut *bytes)?;
    let text = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    Ok(Secret::new(format!("{TOKEN_PREFIX}{}", &*text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_recognisable_and_differ() {
        let [one, other] = [(); 2].map(|()| generate_token_secret().expect("random bytes"));
        assert_ne!(one.expose(), other.expose());
        assert!(one.expose().starts_with(TOKEN_PREFIX));
        assert_eq!(one.expose().len(), 4 + 43);
    }

    #[test]
    fn a_hash_matches_its_own_secret_only() {
        let hash = TokenHash::from_secret(b"hyt_a");
        assert!(hash.matches(&TokenHash::from_secret(b"hyt_a")));
        assert!(!hash.matches(&TokenHash::from_secret(b"hyt_b")));
        assert_eq!(format!("{hash:?}"), "…");
    }
}

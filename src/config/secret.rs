//! Secrets that appear neither in logs nor in debug output, and leave memory when dropped.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Secret text from the configuration; zeroed when dropped, shown as `…`.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text, which is zeroed when dropped.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the plain text, for signing and for the data folder's own file.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares `candidate` with the secret, in time that depends only on the two lengths.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }

    /// Tells if the secret is empty, which counts as missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Encryption key of 32 bytes; zeroed when dropped, shown as `…`.
#[derive(Clone)]
pub struct EncryptionKey(Zeroizing<[u8; 32]>);

impl EncryptionKey {
    /// Parses 32 bytes in base64; `None` for any other text.
    #[must_use]
    pub fn parse(text: &Secret) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.expose().trim()).ok()?);
        bytes
            .as_slice()
            .try_into()
            .ok()
            .map(|key| Self(Zeroizing::new(key)))
    }

    /// Returns the 32 bytes, for the cipher.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

//! Encryption of values that contain secrets, before they reach the disk. Each encrypted value is
//! bound to its tree and key: copied to another place it does not decrypt.
//!
//! ```text
//! 0xFF | random nonce, 24 bytes | XChaCha20-Poly1305 of the value, 16 bytes longer than the value
//!        associated data: tree 0x00 key
//! ```
//!
//! A plain value begins with its format byte, which is never 0xFF, so plain and encrypted values
//! can coexist in one tree.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::config::EncryptionKey;

const SEALED: u8 = 0xff;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Number of bytes by which encryption makes a value longer.
pub(super) const OVERHEAD_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;

/// Error for an encrypted value that cannot be decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No encryption key is configured.
    #[error(
        "{tree} are encrypted, and store.encryption_key is not set; \
         set the key that they were encrypted with"
    )]
    NoKey {
        /// Name of the value's tree.
        tree: String,
    },
    /// The configured key does not decrypt the value.
    #[error(
        "{key:?} of {tree} cannot be decrypted with store.encryption_key; \
         set the key that it was encrypted with, \
         or restore the data folder from a backup if the key never changed"
    )]
    WrongKey {
        /// Name of the value's tree.
        tree: String,
        /// Key of the value in its tree.
        key: String,
    },
}

/// Encrypts and decrypts the values of one tree.
pub(super) struct TreeCipher {
    tree: String,
    cipher: Option<XChaCha20Poly1305>,
}

impl TreeCipher {
    /// Creates the cipher of the tree named `tree`. Without a `key` it leaves values plain.
    pub(super) fn new(tree: &str, key: Option<&EncryptionKey>) -> Self {
        let cipher = key.map(|key| XChaCha20Poly1305::new(key.expose().into()));
        Self {
            tree: tree.to_owned(),
            cipher,
        }
    }

    /// Returns `true` if `stored` is a plain value although there is a key.
    pub(super) fn needs_sealing(&self, stored: &[u8]) -> bool {
        self.cipher.is_some() && stored.first() != Some(&SEALED)
    }

    /// Returns the bytes to store for `value` under `key`.
    pub(super) fn seal(&self, key: &str, value: &[u8]) -> Vec<u8> {
        let Some(cipher) = &self.cipher else {
            return value.to_vec();
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the operating system has randomness");
        let aad = self.associated_data(key);
        let sealed = cipher.encrypt(
            XNonce::from_slice(&nonce),
            Payload {
                msg: value,
                aad: &aad,
            },
        );
        let sealed =
            sealed.expect("a value is far smaller than what one key and nonce can encrypt");
        [&[SEALED][..], &nonce, &sealed].concat()
    }

    /// Returns the plain value of the bytes `stored` under `key`.
    pub(super) fn open(&self, key: &str, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let Some((&SEALED, sealed)) = stored.split_first() else {
            return Ok(Zeroizing::new(stored.to_vec()));
        };
        let cipher = self.cipher.as_ref().ok_or_else(|| SealError::NoKey {
            tree: self.tree.clone(),
        })?;
        let wrong_key = || SealError::WrongKey {
            tree: self.tree.clone(),
            key: key.to_owned(),
        };
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(wrong_key)?;
        let aad = self.associated_data(key);
        let value = cipher.decrypt(
            XNonce::from_slice(nonce),
            Payload {
                msg: sealed,
                aad: &aad,
            },
        );
        value.map(Zeroizing::new).map_err(|_| wrong_key())
    }

    /// Returns the associated data, which binds a value to its tree and key.
    fn associated_data(&self, key: &str) -> Vec<u8> {
        [self.tree.as_bytes(), &[0], key.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn seal(tree: &str, key: u8) -> TreeCipher {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode([key; 32]);
        TreeCipher::new(tree, EncryptionKey::parse(&Secret::new(text)).as_ref())
    }

    #[test]
    fn a_sealed_value_opens_with_its_key_in_its_place_and_nowhere_else() {
        let sealed = seal("accounts", 7).seal("a", b"\x01hush");
        assert_eq!(sealed.len(), b"\x01hush".len() + OVERHEAD_BYTES);
        assert!(!sealed.windows(4).any(|bytes| bytes == b"hush"));
        assert_eq!(
            *seal("accounts", 7).open("a", &sealed).expect("its own"),
            b"\x01hush"
        );
        let strangers = [
            (seal("accounts", 8), "a"),
            (seal("accounts", 7), "b"),
            (seal("subscriptions", 7), "a"),
        ];
        for (stranger, key) in strangers {
            assert!(
                matches!(stranger.open(key, &sealed), Err(SealError::WrongKey { .. })),
                "{key}"
            );
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // A changed first byte turns the value into a plain one, with an unknown format byte.
            let opened = seal("accounts", 7).open("a", &changed);
            assert!(
                opened.is_err() || *opened.expect("plain") != *b"\x01hush",
                "byte {at}"
            );
        }
        assert!(
            matches!(
                seal("accounts", 7).open("a", &[SEALED]),
                Err(SealError::WrongKey { .. })
            ),
            "cut off"
        );
    }

    #[test]
    fn one_value_is_never_sealed_alike_twice() {
        assert_ne!(
            seal("accounts", 7).seal("a", b"x"),
            seal("accounts", 7).seal("a", b"x")
        );
    }

    #[test]
    fn without_a_key_values_stay_as_they_are_and_sealed_ones_stay_closed() {
        let plain = TreeCipher::new("accounts", None);
        assert_eq!(plain.seal("a", b"\x01x"), b"\x01x");
        assert_eq!(*plain.open("a", b"\x01x").expect("plain"), b"\x01x");
        let error = plain
            .open("a", &seal("accounts", 7).seal("a", b"x"))
            .expect_err("no key");
        assert!(
            error.to_string().contains("store.encryption_key"),
            "{error}"
        );
    }
}

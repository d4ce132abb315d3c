//! Encryption of stored content, before it reaches the disk. Encrypted content is bound to its place:
//! copied to another one, it does not decrypt.
//!
//! ```text
//! random nonce, 24 bytes | XChaCha20-Poly1305 of the content, 16 bytes longer than the content
//!                          associated data: the place
//! ```
//!
//! | content | place | mark that it is encrypted |
//! |---|---|---|
//! | block of a segment | `block`, content, number | flag in the block's header |
//! | chunk of the base file | `base` | highest bit of the count of rows |
//! | chunk of a backup | `backup`, kind | flag in the chunk's header |
//! | row of the derived store | tree, 0x00, key | first byte 0xFF, which no plain value has |
//! | value of a definition | sort, 0x00, key | first byte 0xFF, which no plain value has |
//!
//! Plain and encrypted content can stand beside each other, because a key can be set at any time.
//! Former keys only decrypt, until `hookyard compact` has written everything anew.

use std::borrow::Cow;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

use crate::config::{EncryptionKey, StoreConfig};

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// First byte of an encrypted value, where values have no header to say so.
const VALUE_MARK: u8 = 0xff;

/// Number of bytes by which encryption makes a value longer.
pub const VALUE_OVERHEAD_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;

/// Error for encrypted content that cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionError {
    /// No encryption key is configured.
    #[error(
        "{place} is encrypted, and store.encryption_key is not set; \
         set the key that it was encrypted with"
    )]
    NoKey {
        /// Place of the content, for people.
        place: String,
    },
    /// No configured key decrypts the content.
    #[error(
        "{place} cannot be decrypted with store.encryption_key; set the key that it was encrypted \
         with, there or in store.former_encryption_keys, or restore the data folder from a backup if \
         the key never changed"
    )]
    WrongKey {
        /// Place of the content, for people.
        place: String,
    },
}

/// Content that was encrypted, as it was before.
pub(super) struct DecryptedContent {
    pub(super) content: Vec<u8>,
    /// `true` if the key that encrypts was its key.
    pub(super) is_current: bool,
}

/// Keys that encrypt and decrypt what is stored.
#[derive(Clone, Default)]
pub struct ContentCipher {
    /// Key of new content; `None` leaves it plain.
    key: Option<XChaCha20Poly1305>,
    /// Keys that only decrypt what was stored before.
    former: Vec<XChaCha20Poly1305>,
}

impl ContentCipher {
    /// Creates a cipher that encrypts with `key`, and also decrypts with the `former` keys. Without
    /// `key` new content stays plain.
    #[must_use]
    pub fn new(key: Option<&EncryptionKey>, former: &[EncryptionKey]) -> Self {
        let cipher = |key: &EncryptionKey| XChaCha20Poly1305::new(key.expose().into());
        Self {
            key: key.map(cipher),
            former: former.iter().map(cipher).collect(),
        }
    }

    /// Creates the cipher of the keys in `config`.
    #[must_use]
    pub fn from_config(config: &StoreConfig) -> Self {
        Self::new(
            config.encryption_key.as_ref(),
            &config.former_encryption_keys,
        )
    }

    /// Returns `true` if new content is encrypted.
    #[must_use]
    pub fn is_encrypting(&self) -> bool {
        self.key.is_some()
    }

    /// Returns the encrypted form of `content` at `place`; `None` if there is no key.
    pub(crate) fn encrypt(&self, place: &[u8], content: &[u8]) -> Option<Vec<u8>> {
        let cipher = self.key.as_ref()?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the operating system has randomness");
        let payload = Payload {
            msg: content,
            aad: place,
        };
        let encrypted = cipher.encrypt(XNonce::from_slice(&nonce), payload);
        let encrypted =
            encrypted.expect("content is far smaller than what one key and nonce can encrypt");
        Some([&nonce[..], &encrypted].concat())
    }

    /// Returns the content of the bytes `encrypted` at `place`, which `describe` names in errors.
    pub(crate) fn decrypt(
        &self,
        place: &[u8],
        encrypted: &[u8],
        describe: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, DecryptionError> {
        let decrypted = self.decrypt_and_judge(place, encrypted, describe)?;
        Ok(decrypted.content)
    }

    /// Returns the content as [`Self::decrypt`] does, and tells if its key is the one that encrypts.
    pub(super) fn decrypt_and_judge(
        &self,
        place: &[u8],
        encrypted: &[u8],
        describe: impl FnOnce() -> String,
    ) -> Result<DecryptedContent, DecryptionError> {
        let current = self.key.iter().map(|key| (key, true));
        let mut keys = current.chain(self.former.iter().map(|key| (key, false)));
        let found = keys.find_map(|(key, is_current)| {
            let content = decrypt_with(key, place, encrypted)?;
            Some(DecryptedContent {
                content,
                is_current,
            })
        });
        match found {
            Some(decrypted) => Ok(decrypted),
            None if self.key.is_none() && self.former.is_empty() => {
                Err(DecryptionError::NoKey { place: describe() })
            }
            None => Err(DecryptionError::WrongKey { place: describe() }),
        }
    }

    /// Returns `true` if the bytes `encrypted` at `place` are encrypted with the key that encrypts.
    fn is_current(&self, place: &[u8], encrypted: &[u8]) -> bool {
        let key = self.key.as_ref();
        key.is_some_and(|key| decrypt_with(key, place, encrypted).is_some())
    }

    /// Returns the bytes to store for `value` of the row `key` of `table`.
    pub(crate) fn encrypt_value<'v>(
        &self,
        table: &str,
        key: &[u8],
        value: &'v [u8],
    ) -> Cow<'v, [u8]> {
        debug_assert_ne!(
            value.first(),
            Some(&VALUE_MARK),
            "the mark is for encrypted values"
        );
        let encrypted = self
            .is_encrypting()
            .then(|| self.encrypt(&value_place(table, key), value));
        match encrypted.flatten() {
            Some(encrypted) => [&[VALUE_MARK][..], &encrypted].concat().into(),
            None => value.into(),
        }
    }

    /// Returns the plain value of the bytes `stored` for the row `key` of `table`.
    pub(crate) fn decrypt_value(
        &self,
        table: &str,
        key: &[u8],
        stored: &[u8],
    ) -> Result<Vec<u8>, DecryptionError> {
        let Some((&VALUE_MARK, encrypted)) = stored.split_first() else {
            return Ok(stored.to_vec());
        };
        let describe = || format!("{:?} of {table}", String::from_utf8_lossy(key));
        self.decrypt(&value_place(table, key), encrypted, describe)
    }

    /// Returns `true` if the bytes `stored` for a row are as [`Self::encrypt_value`] would store
    /// them today: with the key that encrypts, or plain if there is none.
    pub(crate) fn is_value_current(&self, table: &str, key: &[u8], stored: &[u8]) -> bool {
        match stored.split_first() {
            Some((&VALUE_MARK, encrypted)) => self.is_current(&value_place(table, key), encrypted),
            _ => !self.is_encrypting(),
        }
    }
}

fn value_place(table: &str, key: &[u8]) -> Vec<u8> {
    [table.as_bytes(), &[0], key].concat()
}

fn decrypt_with(key: &XChaCha20Poly1305, place: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = encrypted.split_at_checked(NONCE_BYTES)?;
    let payload = Payload { msg, aad: place };
    key.decrypt(XNonce::from_slice(nonce), payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn cipher<const N: usize>(keys: [u8; N]) -> ContentCipher {
        use base64::Engine;
        let parse = |key: u8| {
            let text = base64::engine::general_purpose::STANDARD.encode([key; 32]);
            EncryptionKey::parse(&Secret::new(text)).expect("32 bytes")
        };
        let keys = keys.map(parse);
        let (key, former) = keys.split_first().unzip();
        ContentCipher::new(key, former.unwrap_or_default())
    }

    #[test]
    fn an_encrypted_value_opens_with_its_key_in_its_place_and_nowhere_else() {
        let sealed = cipher([7]).encrypt_value("accounts", b"a", b"\x01hush");
        assert_eq!(sealed.len(), b"\x01hush".len() + VALUE_OVERHEAD_BYTES);
        assert!(!sealed.windows(4).any(|bytes| bytes == b"hush"));
        let own = cipher([7]).decrypt_value("accounts", b"a", &sealed);
        assert_eq!(own.as_deref(), Ok(&b"\x01hush"[..]));
        let strangers = [
            (cipher([8]), "accounts", b"a"),
            (cipher([7]), "accounts", b"b"),
            (cipher([7]), "subscriptions", b"a"),
        ];
        for (stranger, table, key) in strangers {
            let error = stranger.decrypt_value(table, key, &sealed);
            assert!(
                matches!(error, Err(DecryptionError::WrongKey { .. })),
                "{table}"
            );
        }
        for at in 1..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert!(
                cipher([7])
                    .decrypt_value("accounts", b"a", &changed)
                    .is_err(),
                "byte {at}"
            );
            assert!(
                cipher([7])
                    .decrypt_value("accounts", b"a", &sealed[..at])
                    .is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn former_keys_decrypt_and_never_encrypt() {
        let former = cipher([7]).encrypt_value("accounts", b"a", b"\x01x");
        let both = cipher([8, 7]);
        assert_eq!(
            both.decrypt_value("accounts", b"a", &former).as_deref(),
            Ok(&b"\x01x"[..])
        );
        assert!(!both.is_value_current("accounts", b"a", &former));
        let current = both.encrypt_value("accounts", b"a", b"\x01x");
        assert!(both.is_value_current("accounts", b"a", &current));
        assert!(
            cipher([8])
                .decrypt_value("accounts", b"a", &current)
                .is_ok()
        );
    }

    #[test]
    fn one_value_is_never_encrypted_alike_twice() {
        let encrypt = || cipher([7]).encrypt_value("accounts", b"a", b"x");
        assert_ne!(encrypt(), encrypt());
    }

    #[test]
    fn without_a_key_values_stay_as_they_are_and_encrypted_ones_stay_closed() {
        let plain = cipher([]);
        assert_eq!(*plain.encrypt_value("accounts", b"a", b"\x01x"), *b"\x01x");
        assert_eq!(
            plain.decrypt_value("accounts", b"a", b"\x01x").as_deref(),
            Ok(&b"\x01x"[..])
        );
        assert!(plain.is_value_current("accounts", b"a", b"\x01x"));
        let encrypted = cipher([7]).encrypt_value("accounts", b"a", b"x");
        let error = plain
            .decrypt_value("accounts", b"a", &encrypted)
            .expect_err("no key");
        assert!(
            error.to_string().contains("store.encryption_key"),
            "{error}"
        );
    }
}

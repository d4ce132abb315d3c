//! Definitions: small named values that people make, such as the subscriptions. Each change is
//! durable before it is acknowledged.
//!
//! Values contain secrets. With an encryption key each value is encrypted; values that were stored
//! without it are encrypted when the definitions are opened. Their old bytes stay in the older
//! segments of the journal until `hookyard compact` writes these anew.

use zeroize::Zeroizing;

use super::error::TableWriteError;
use super::journaled_table::JournaledTable;
use crate::derived::{DerivedStoreError, VALUE_MAX_BYTES};
use crate::journal::{ContentCipher, DecryptionError, TableChange, VALUE_OVERHEAD_BYTES};

/// Largest value of a definition, in bytes. The limit is the same with and without an encryption
/// key, so that a key can be set at any time.
pub const DEFINITION_MAX_BYTES: usize = VALUE_MAX_BYTES - VALUE_OVERHEAD_BYTES;

/// Values that are encrypted together when another key is set.
const ENCRYPTED_GROUP: usize = 1_000;

/// Key and plain value of one definition.
type DefinitionRow = (String, Zeroizing<Vec<u8>>);

/// Error that prevents definitions from being read.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Reading the stored definitions failed.
    #[error("cannot read the store")]
    Store(#[from] DerivedStoreError),
    /// Values that were stored without a key could not be encrypted.
    #[error("cannot encrypt the definitions in the store")]
    Write(#[from] TableWriteError),
    /// A value is encrypted and cannot be decrypted.
    #[error(transparent)]
    Encrypted(#[from] DecryptionError),
}

/// Definitions of one sort, such as all subscriptions.
pub struct DefinitionTree {
    table: JournaledTable,
    name: &'static str,
    cipher: ContentCipher,
}

impl DefinitionTree {
    /// Opens the definitions in `table`, which are named `name` in errors and in encrypted values.
    /// All values are encrypted with `cipher` from now on.
    ///
    /// # Errors
    /// Errors of the store, and [`DecryptionError`] when `cipher` lacks the key of a value.
    pub fn open(
        table: JournaledTable,
        name: &'static str,
        cipher: ContentCipher,
    ) -> Result<Self, DefinitionError> {
        let definitions = Self {
            table,
            name,
            cipher,
        };
        definitions.encrypt_outdated_values()?;
        Ok(definitions)
    }

    /// Reads all definitions, each with its key.
    ///
    /// # Errors
    /// The errors of [`DefinitionTree::open`].
    pub fn read_all(&self) -> Result<Vec<DefinitionRow>, DefinitionError> {
        let rows = self.table.scan(b"", None, usize::MAX)?;
        rows.iter()
            .map(|(key, stored)| self.open_row(key, stored))
            .collect()
    }

    /// Stores `value`, of at most [`DEFINITION_MAX_BYTES`], under `key`, replacing any older value,
    /// and returns once it is durable. Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`]. The content of the disk is unknown then, and the store must be opened
    /// again.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), TableWriteError> {
        self.table.write(vec![self.encrypted_put(key, value)])
    }

    /// Removes the value under `key`, and returns once the removal is durable. Blocks.
    ///
    /// # Errors
    /// After any error the store must be opened again, as for [`DefinitionTree::put`].
    pub fn remove(&self, key: &str) -> Result<(), TableWriteError> {
        let key = key.as_bytes().to_vec();
        self.table.write(vec![TableChange::Remove { key }])
    }

    /// Encrypts the values that were stored without a key or with another one. All values are read first, so that
    /// nothing is written if the key is wrong.
    fn encrypt_outdated_values(&self) -> Result<(), DefinitionError> {
        let mut changes = Vec::new();
        for (key, stored) in self.table.scan(b"", None, usize::MAX)? {
            let (key, value) = self.open_row(&key, &stored)?;
            let is_current = self
                .cipher
                .is_value_current(self.name, key.as_bytes(), &stored);
            if !is_current {
                changes.push(self.encrypted_put(&key, &value));
            }
        }
        // In groups of bounded size: each value is encrypted by itself.
        for group in changes.chunks(ENCRYPTED_GROUP) {
            self.table.write(group.to_vec())?;
        }
        Ok(())
    }

    fn encrypted_put(&self, key: &str, value: &[u8]) -> TableChange {
        TableChange::Put {
            key: key.as_bytes().to_vec(),
            value: self
                .cipher
                .encrypt_value(self.name, key.as_bytes(), value)
                .into_owned(),
        }
    }

    fn open_row(&self, key: &[u8], stored: &[u8]) -> Result<DefinitionRow, DefinitionError> {
        // All keys are written as text.
        let value = self.cipher.decrypt_value(self.name, key, stored)?;
        let key = String::from_utf8_lossy(key).into_owned();
        Ok((key, Zeroizing::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use base64::Engine;

    use super::*;
    use crate::config::{EncryptionKey, Secret};
    use crate::table_store::{JournaledTableId, open_test_tables};

    const SECRET_VALUE: &[u8] = b"\x01hush-hush-hush";

    fn key(byte: u8) -> Option<EncryptionKey> {
        EncryptionKey::parse(&Secret::new(
            base64::engine::general_purpose::STANDARD.encode([byte; 32]),
        ))
    }

    fn open_table(folder: &Path) -> JournaledTable {
        open_test_tables(folder).table(JournaledTableId::Accounts)
    }

    fn open(folder: &Path, key: Option<&EncryptionKey>) -> Result<DefinitionTree, DefinitionError> {
        let cipher = ContentCipher::new(key, &[]);
        DefinitionTree::open(open_table(folder), "accounts", cipher)
    }

    fn rows(definitions: &DefinitionTree) -> Vec<(String, Vec<u8>)> {
        definitions
            .read_all()
            .expect("reads")
            .into_iter()
            .map(|(key, value)| (key, value.to_vec()))
            .collect()
    }

    /// Returns `true` if any file under `folder` contains `text`.
    fn is_on_the_disk(folder: &Path, text: &[u8]) -> bool {
        fs::read_dir(folder).expect("readable").any(|entry| {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                return is_on_the_disk(&path, text);
            }
            fs::read(&path)
                .expect("readable")
                .windows(text.len())
                .any(|window| window == text)
        })
    }

    #[test]
    fn definitions_are_kept_replaced_and_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let definitions = open(folder.path(), None).expect("opens");
        definitions.put("a", b"1").expect("puts");
        definitions.put("b", b"2").expect("puts");
        definitions.put("a", b"3").expect("puts");
        definitions.remove("b").expect("removes");
        definitions.remove("never there").expect("nothing to do");
        drop(definitions);
        let definitions = open(folder.path(), None).expect("opens");
        assert_eq!(rows(&definitions), [("a".to_owned(), b"3".to_vec())]);
    }

    #[test]
    fn no_file_of_a_store_that_was_always_encrypted_contains_a_secret() {
        for (key, is_readable) in [(None, true), (key(7), false)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let definitions = open(folder.path(), key.as_ref()).expect("opens");
            definitions.put("a", SECRET_VALUE).expect("puts");
            drop(definitions);
            assert_eq!(is_on_the_disk(folder.path(), b"hush"), is_readable);
            let definitions = open(folder.path(), key.as_ref()).expect("opens");
            assert_eq!(
                rows(&definitions),
                [("a".to_owned(), SECRET_VALUE.to_vec())]
            );
        }
    }

    #[test]
    fn a_key_that_is_set_later_encrypts_the_stored_values() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open(folder.path(), None)
            .expect("opens")
            .put("a", SECRET_VALUE)
            .expect("puts");
        let sealed = open(folder.path(), key(7).as_ref()).expect("opens");
        assert_eq!(rows(&sealed), [("a".to_owned(), SECRET_VALUE.to_vec())]);
        drop(sealed);
        let without = open(folder.path(), None).err().expect("it is sealed now");
        assert!(
            matches!(
                without,
                DefinitionError::Encrypted(DecryptionError::NoKey { .. })
            ),
            "{without}"
        );
        let wrong = open(folder.path(), key(8).as_ref())
            .err()
            .expect("another key");
        assert!(
            matches!(
                wrong,
                DefinitionError::Encrypted(DecryptionError::WrongKey { .. })
            ),
            "{wrong}"
        );
    }

    #[test]
    fn a_wrong_key_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open(folder.path(), key(7).as_ref())
            .expect("opens")
            .put("b", SECRET_VALUE)
            .expect("puts");
        let plain = TableChange::Put {
            key: b"a".to_vec(),
            value: b"\x01plain".to_vec(),
        };
        open_table(folder.path()).write(vec![plain]).expect("puts");
        assert!(open(folder.path(), key(8).as_ref()).is_err());
        let found = open_table(folder.path()).get(b"a").expect("reads");
        assert_eq!(found.as_deref(), Some(&b"\x01plain"[..]));
    }
}

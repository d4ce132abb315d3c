//! Definitions: trees of small named values that are not derived from the journal, such as the
//! subscriptions. Each change is synced before it is acknowledged. A rebuild never touches them.
//!
//! Values contain secrets. With an encryption key each value is encrypted; values that were stored
//! without a key are encrypted when the tree is opened. Their old plain bytes can remain in older
//! segments of sled's log until sled overwrites those segments.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::frame::VALUE_MAX_BYTES;
use super::seal::{OVERHEAD_BYTES, SealError, TreeCipher};
use super::store::{DataStore, StoreWriteError};
use crate::config::EncryptionKey;
use crate::failpoints::Failpoint;

/// Largest value of a definition, in bytes. The limit is the same with and without an encryption
/// key, so that a key can be set at any time.
pub const DEFINITION_MAX_BYTES: usize = VALUE_MAX_BYTES - OVERHEAD_BYTES;

/// Key and plain value of one definition.
type DefinitionRow = (String, Zeroizing<Vec<u8>>);

/// Error that prevents definitions from being read.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Reading or writing the store failed.
    #[error("cannot read the store")]
    Store(#[from] StoreWriteError),
    /// A value is encrypted and cannot be decrypted.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

/// Tree with the definitions of one sort, such as all subscriptions.
pub struct DefinitionTree {
    tree: sled::Tree,
    cipher: TreeCipher,
    store: Arc<DataStore>,
}

impl DefinitionTree {
    /// Opens the tree `name` of `store`, creating it if it does not exist. With a `key`, all values
    /// are encrypted from now on.
    ///
    /// # Errors
    /// Errors of the store, and [`SealError`] when a value is encrypted with another key than
    /// `key`.
    pub fn open(
        store: Arc<DataStore>,
        name: &str,
        key: Option<&EncryptionKey>,
    ) -> Result<Self, DefinitionError> {
        let definitions = Self {
            tree: store.tree(name)?,
            cipher: TreeCipher::new(name, key),
            store,
        };
        definitions.seal_plain_values()?;
        Ok(definitions)
    }

    /// Reads all definitions, each with its key.
    ///
    /// # Errors
    /// The errors of [`DefinitionTree::open`].
    pub fn read_all(&self) -> Result<Vec<DefinitionRow>, DefinitionError> {
        self.tree
            .iter()
            .map(|found| self.open_row(&found?))
            .collect()
    }

    /// Stores `value` under `key`, replacing any older value, and returns once it is synced.
    ///
    /// # Errors
    /// `Unsupported` for a value larger than [`DEFINITION_MAX_BYTES`]; nothing is changed then.
    /// After any other error the content of the disk is unknown, and the store must be opened
    /// again.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreWriteError> {
        if value.len() > DEFINITION_MAX_BYTES {
            return Err(StoreWriteError::Unsupported(format!(
                "a definition has at most {DEFINITION_MAX_BYTES} bytes"
            )));
        }
        self.store.failure_injector().evaluate(Failpoint::Put)?;
        self.tree.insert(key, self.cipher.seal(key, value))?;
        self.store.sync()
    }

    /// Removes the value under `key`, and returns once the removal is synced.
    ///
    /// # Errors
    /// After any error the store must be opened again, as for [`DefinitionTree::put`].
    pub fn remove(&self, key: &str) -> Result<(), StoreWriteError> {
        self.store.failure_injector().evaluate(Failpoint::Put)?;
        self.tree.remove(key)?;
        self.store.sync()
    }

    /// Encrypts the values that were stored without a key. All values are read first, so that
    /// nothing is written if the key is wrong.
    fn seal_plain_values(&self) -> Result<(), DefinitionError> {
        let mut plain_rows = Vec::new();
        for found in self.tree.iter() {
            let (key, stored) = found?;
            let row = self.open_row(&(key, stored.clone()))?;
            plain_rows.extend(self.cipher.needs_sealing(&stored).then_some(row));
        }
        if plain_rows.is_empty() {
            return Ok(());
        }
        self.store
            .failure_injector()
            .evaluate(Failpoint::Put)
            .map_err(StoreWriteError::from)?;
        for (key, value) in &plain_rows {
            self.tree.insert(key, self.cipher.seal(key, value))?;
        }
        Ok(self.store.sync()?)
    }

    fn open_row(
        &self,
        (key, stored): &(sled::IVec, sled::IVec),
    ) -> Result<DefinitionRow, DefinitionError> {
        // All keys are written as text.
        let key = String::from_utf8_lossy(key).into_owned();
        let value = self.cipher.open(&key, stored)?;
        Ok((key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use base64::Engine;

    use super::*;
    use crate::config::Secret;
    use crate::failpoints::NoFailures;

    const SECRET_VALUE: &[u8] = b"\x01hush-hush-hush";

    fn key(byte: u8) -> Option<EncryptionKey> {
        EncryptionKey::parse(&Secret::new(
            base64::engine::general_purpose::STANDARD.encode([byte; 32]),
        ))
    }

    fn open(folder: &Path, key: Option<&EncryptionKey>) -> Result<DefinitionTree, DefinitionError> {
        let store = DataStore::open(folder, 1 << 20, Arc::new(NoFailures)).expect("opens");
        DefinitionTree::open(store, "accounts", key)
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
    fn definitions_are_kept_replaced_and_removed_and_never_too_large() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let definitions = open(folder.path(), None).expect("opens");
        definitions.put("a", b"1").expect("puts");
        definitions.put("b", b"2").expect("puts");
        definitions.put("a", b"3").expect("puts");
        definitions.remove("b").expect("removes");
        definitions.remove("never there").expect("nothing to do");
        assert!(
            definitions
                .put("a", &vec![0; DEFINITION_MAX_BYTES + 1])
                .is_err()
        );
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
            matches!(without, DefinitionError::Sealed(SealError::NoKey { .. })),
            "{without}"
        );
        let wrong = open(folder.path(), key(8).as_ref())
            .err()
            .expect("another key");
        assert!(
            matches!(wrong, DefinitionError::Sealed(SealError::WrongKey { .. })),
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
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        store
            .tree("accounts")
            .expect("there")
            .insert("a", b"\x01plain")
            .expect("puts");
        drop(store);
        assert!(open(folder.path(), key(8).as_ref()).is_err());
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        let found = store
            .tree("accounts")
            .expect("there")
            .get("a")
            .expect("reads");
        assert_eq!(found.as_deref(), Some(&b"\x01plain"[..]));
    }
}

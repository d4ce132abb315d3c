//! Definitions: what is true besides the log, such as who is to get what. A tree of small named
//! values, each change of which is on the disk before it is answered. Nothing is derived from the
//! log here, so no rebuild ever touches it.
//!
//! Values hold secrets. With a key they are sealed one by one; those that were stored before there
//! was one are sealed when the tree is opened. What they replace can still stand in older parts of
//! the store's log until it is written over.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::frame::VALUE_MAX_BYTES;
use super::seal::{OVERHEAD_BYTES, SealError, TreeCipher};
use super::{DataStore, StoreWriteError};
use crate::config::EncryptionKey;
use crate::failpoints::Failpoint;

/// The largest value that is kept. As large with a key as without one, so that one can be set at
/// any time.
pub const DEFINITION_MAX_BYTES: usize = VALUE_MAX_BYTES - OVERHEAD_BYTES;

/// A key and what is kept under it.
type DefinitionRow = (String, Zeroizing<Vec<u8>>);

/// Why definitions cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The store failed.
    #[error("cannot read the store")]
    Store(#[from] StoreWriteError),
    /// They are sealed.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

/// One tree of definitions.
pub struct DefinitionTree {
    tree: sled::Tree,
    seal: TreeCipher,
    store: Arc<DataStore>,
}

impl DefinitionTree {
    /// The definitions `name` of `store`, made if there are none, and sealed with `key` from now on
    /// if there is one.
    ///
    /// # Errors
    /// Those of the store, and [`SealError`] when some are sealed and `key` is not what they were
    /// sealed with.
    pub fn open(
        store: Arc<DataStore>,
        name: &str,
        key: Option<&EncryptionKey>,
    ) -> Result<Self, DefinitionError> {
        let definitions = Self {
            tree: store.tree(name)?,
            seal: TreeCipher::new(name, key),
            store,
        };
        definitions.seal_plain_values()?;
        Ok(definitions)
    }

    /// All of them, each with its key.
    ///
    /// # Errors
    /// As [`Definitions::open`].
    pub fn read_all(&self) -> Result<Vec<DefinitionRow>, DefinitionError> {
        self.tree
            .iter()
            .map(|found| self.open_row(&found?))
            .collect()
    }

    /// Keeps `value` under `key`, in place of what was there, and returns when it is on the disk.
    ///
    /// # Errors
    /// A value of more than [`DEFINITION_MAX_BYTES`], which changes nothing; any other of the
    /// store, after which it is not known what is on the disk and the store must be opened anew.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreWriteError> {
        if value.len() > DEFINITION_MAX_BYTES {
            return Err(StoreWriteError::Unsupported(format!(
                "a definition has at most {DEFINITION_MAX_BYTES} bytes"
            )));
        }
        self.store.failure_injector().evaluate(Failpoint::Put)?;
        self.tree.insert(key, self.seal.seal(key, value))?;
        self.store.sync()
    }

    /// Removes what is under `key`, and returns when that is on the disk.
    ///
    /// # Errors
    /// As [`Definitions::put`].
    pub fn remove(&self, key: &str) -> Result<(), StoreWriteError> {
        self.store.failure_injector().evaluate(Failpoint::Put)?;
        self.tree.remove(key)?;
        self.store.sync()
    }

    /// Seals what was stored before there was a key. All is read first: with a wrong key nothing is
    /// written.
    fn seal_plain_values(&self) -> Result<(), DefinitionError> {
        let mut due = Vec::new();
        for found in self.tree.iter() {
            let (key, stored) = found?;
            let row = self.open_row(&(key, stored.clone()))?;
            due.extend(self.seal.needs_sealing(&stored).then_some(row));
        }
        if due.is_empty() {
            return Ok(());
        }
        self.store
            .failure_injector()
            .evaluate(Failpoint::Put)
            .map_err(StoreWriteError::from)?;
        for (key, value) in &due {
            self.tree.insert(key, self.seal.seal(key, value))?;
        }
        Ok(self.store.sync()?)
    }

    fn open_row(
        &self,
        (key, stored): &(sled::IVec, sled::IVec),
    ) -> Result<DefinitionRow, DefinitionError> {
        // Keys are put as text only.
        let key = String::from_utf8_lossy(key).into_owned();
        let value = self.seal.open(&key, stored)?;
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

    const HUSH: &[u8] = b"\x01hush-hush-hush";

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

    /// Whether any file under `folder` has `text` in it.
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
    fn no_file_of_a_store_that_was_always_sealed_holds_a_secret() {
        for (key, is_readable) in [(None, true), (key(7), false)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let definitions = open(folder.path(), key.as_ref()).expect("opens");
            definitions.put("a", HUSH).expect("puts");
            drop(definitions);
            assert_eq!(is_on_the_disk(folder.path(), b"hush"), is_readable);
            let definitions = open(folder.path(), key.as_ref()).expect("opens");
            assert_eq!(rows(&definitions), [("a".to_owned(), HUSH.to_vec())]);
        }
    }

    #[test]
    fn a_key_that_is_set_later_seals_what_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open(folder.path(), None)
            .expect("opens")
            .put("a", HUSH)
            .expect("puts");
        let sealed = open(folder.path(), key(7).as_ref()).expect("opens");
        assert_eq!(rows(&sealed), [("a".to_owned(), HUSH.to_vec())]);
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
            .put("b", HUSH)
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

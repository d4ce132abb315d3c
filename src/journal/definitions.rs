//! Definitions: what is true besides the log, such as who is to get what. A tree of small named values, each change of which is
//! on the disk before it is answered. Nothing is derived from the log here, so no rebuild ever touches it.

use std::sync::Arc;

use super::frame::VALUE_MAX_BYTES;
use super::{Store, WriteError};
use crate::faults::Point;

/// A key and what is kept under it.
type Row = (String, Vec<u8>);

/// One tree of definitions.
pub struct Definitions {
    tree: sled::Tree,
    store: Arc<Store>,
}

impl Definitions {
    /// The definitions `name` of `store`, made if there are none.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: Arc<Store>, name: &str) -> Result<Self, WriteError> {
        Ok(Self { tree: store.tree(name)?, store })
    }

    /// All of them, each with its key.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(&self) -> Result<Vec<Row>, WriteError> {
        // Keys are put as text only.
        let row = |(key, value): (_, sled::IVec)| (text(&key), value.to_vec());
        self.tree.iter().map(|found| found.map(row)).collect()
    }

    /// Keeps `value` under `key`, in place of what was there, and returns when it is on the disk.
    ///
    /// # Errors
    /// A value of more than [`VALUE_MAX_BYTES`], which changes nothing; any other of the store, after which it is not known
    /// what is on the disk and the store must be opened anew.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), WriteError> {
        if value.len() > VALUE_MAX_BYTES {
            return Err(WriteError::Unsupported(format!("a definition has at most {VALUE_MAX_BYTES} bytes")));
        }
        self.store.faults().at(Point::Put)?;
        self.tree.insert(key, value)?;
        self.store.sync()
    }

    /// Removes what is under `key`, and returns when that is on the disk.
    ///
    /// # Errors
    /// As [`Definitions::put`].
    pub fn remove(&self, key: &str) -> Result<(), WriteError> {
        self.store.faults().at(Point::Put)?;
        self.tree.remove(key)?;
        self.store.sync()
    }
}

fn text(key: &sled::IVec) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::NoFaults;

    #[test]
    fn definitions_are_kept_replaced_and_removed_and_never_too_large() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || Store::open(folder.path(), 1 << 20, Arc::new(NoFaults)).expect("opens");
        let definitions = Definitions::open(open(), "accounts").expect("opens");
        definitions.put("a", b"1").expect("puts");
        definitions.put("b", b"2").expect("puts");
        definitions.put("a", b"3").expect("puts");
        definitions.remove("b").expect("removes");
        definitions.remove("never there").expect("nothing to do");
        assert!(definitions.put("a", &vec![0; VALUE_MAX_BYTES + 1]).is_err());
        drop(definitions);
        let definitions = Definitions::open(open(), "accounts").expect("opens");
        assert_eq!(definitions.all().expect("reads"), [("a".to_owned(), b"3".to_vec())]);
    }
}

//! Provisional data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::store::{DataStore, StoreOpenError};
use crate::event::StoreIncarnation;
use crate::failpoints::{FailureInjector, NoFailures};

/// Provisional disk of the journal.
pub trait Disk: Send + Sync {}
/// Provisional local disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;
impl Disk for LocalDisk {}

/// Data folder that this process uses.
pub struct DataFolder {
    path: PathBuf,
    store: Arc<DataStore>,
}

impl DataFolder {
    /// Opens it.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreOpenError> {
        let store = DataStore::open(path, 16 << 20, Arc::new(NoFailures))?;
        let path = path.to_owned();
        Ok(Arc::new(Self { path, store }))
    }

    /// Path of it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Incarnation of it.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.store.incarnation()
    }

    /// Path of the derived store.
    #[must_use]
    pub fn derived_path(&self) -> PathBuf {
        self.path.join("derived")
    }

    pub(super) fn store(&self, injector: Arc<dyn FailureInjector>) -> Arc<DataStore> {
        self.store.set_failure_injector(injector);
        Arc::clone(&self.store)
    }
}

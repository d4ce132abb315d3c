//! Temporary folder of the demo, removed with everything in it when the demo ends.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::DemoError;
use crate::cli::error::CliError;
use crate::cli::random_secret::random_bytes;

/// Folder that only its owner can read.
pub(super) struct DemoFolder(PathBuf);

impl DemoFolder {
    pub(super) fn create() -> Result<Self, CliError> {
        let unique = hex::encode(&random_bytes()?[..6]);
        let path = std::env::temp_dir().join(format!("hookyard-demo-{unique}"));
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(DemoError::Folder)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        // Ignored: what is left lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

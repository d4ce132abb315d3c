//! Temporary folder of a command that runs a node of its own, removed with everything in it at the
//! end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::random_secret::random_bytes;

/// Folder that only its owner can read.
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Creates a folder in `parent`, whose name begins with `name`. `to_error` wraps a failure.
    pub(super) fn create<E: Into<CliError>>(
        parent: &Path,
        name: &str,
        to_error: impl FnOnce(io::Error) -> E,
    ) -> Result<Self, CliError> {
        let unique = hex::encode(&random_bytes()?[..6]);
        let path = parent.join(format!("{name}-{unique}"));
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(|error| to_error(error).into())?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Ignored: what is left lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

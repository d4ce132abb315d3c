//! Check that a data folder holds a store, because opening it would create one.

use std::path::Path;

use super::error::CliError;

/// Refuses a folder without a store; opening the folder would create an empty one.
pub(super) fn check_store(path: &Path) -> Result<(), CliError> {
    match path.join("FORMAT").try_exists() {
        Ok(false) => Err(CliError::NoStore(path.to_owned())),
        // For an unreadable folder, opening the store reports a better error.
        Ok(true) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_store_is_not_created() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("data");
        let error = check_store(&path).expect_err("no store").to_string();
        assert_eq!(
            error,
            format!("there is no store at {}; check store.path", path.display())
        );
        assert!(!path.exists());
        std::fs::write(folder.path().join("FORMAT"), "").expect("writable");
        assert!(check_store(folder.path()).is_ok());
    }
}

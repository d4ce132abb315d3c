//! Secrets of `--dev`: generated at the first start, kept in the data folder for its owner only,
//! and reused at later starts.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::random_secret::{self, RandomBytesError};
use crate::config::{DevKey, DevSecrets, DevSecretsError, Secret};

/// Errors of reading, generating and saving development secrets.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevModeError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} cannot be used; delete it to generate new secrets")]
    Invalid {
        path: PathBuf,
        source: DevSecretsError,
    },
    #[error("cannot save the development secrets in {path}")]
    Save { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Random(#[from] RandomBytesError),
    #[error(
        "--dev listens on this machine only, but server.bind is {bind}; use 127.0.0.1, or leave \
         out --dev"
    )]
    NotLoopback { bind: String },
}

/// Returns the path of the secrets file in the data folder `folder`.
pub(super) fn secrets_path(folder: &Path) -> PathBuf {
    folder.join("dev-secrets.toml")
}

/// Reads the secrets kept in `folder`; `None` before the first start.
pub(super) fn read_secrets(folder: &Path) -> Result<Option<DevSecrets>, DevModeError> {
    let path = secrets_path(folder);
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DevModeError::Read { path, source }),
    };
    DevSecrets::parse(&text)
        .map(Some)
        .map_err(|source| DevModeError::Invalid { path, source })
}

/// Generates a secret for `key`, with the key's prefix.
pub(super) fn make_secret(key: &DevKey) -> Result<Secret, DevModeError> {
    match key.prefix {
        "whsec_" => Ok(random_secret::generate_secret()?),
        prefix => Ok(Secret::new(format!("{prefix}{}", random_hex()?))),
    }
}

/// Saves `secrets` in `folder`, unless a complete file exists there.
pub(super) fn save_secrets(folder: &Path, secrets: &DevSecrets) -> Result<(), DevModeError> {
    let saved = read_secrets(folder)?;
    if saved.as_ref().is_some_and(DevSecrets::is_complete) {
        return Ok(());
    }
    let path = secrets_path(folder);
    let unfinished = folder.join(format!(".dev-secrets.{}", random_hex()?));
    // The file of an earlier version is replaced, because `secrets` contains its secrets too.
    let publish = if saved.is_some() {
        replace_existing
    } else {
        link_new
    };
    write_file(&unfinished, &path, secrets.to_toml().as_bytes(), publish)
        .map_err(|source| DevModeError::Save { path, source })
}

fn random_hex() -> Result<String, RandomBytesError> {
    random_secret::random_bytes().map(hex::encode)
}

/// Renames `unfinished` to `path`; fails if `path` exists.
fn link_new(unfinished: &Path, path: &Path) -> io::Result<()> {
    let publish = fs::hard_link(unfinished, path);
    fs::remove_file(unfinished)?;
    publish
}

/// Renames `unfinished` to `path` and replaces an existing file.
fn replace_existing(unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::rename(unfinished, path)
}

/// Creates `path` with all of `bytes`, or not at all: writes `unfinished` in the same folder, which
/// `publish` then renames.
fn write_file(
    unfinished: &Path,
    path: &Path,
    bytes: &[u8],
    publish: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(unfinished)?;
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        fs::remove_file(unfinished)?;
        return Err(error);
    }
    publish(unfinished, path)?;
    File::open(folder)?.sync_all()
}

/// Refuses other machines, because a development node shows its secrets on the terminal.
pub(super) fn check_loopback(bind: &str) -> Result<(), DevModeError> {
    let is_loopback = bind
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().is_loopback());
    if is_loopback {
        Ok(())
    } else {
        Err(DevModeError::NotLoopback {
            bind: bind.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }

    fn generate() -> DevSecrets {
        DevSecrets::generate(make_secret).expect("random bytes")
    }

    fn saved_toml(folder: &Path) -> String {
        read_secrets(folder)
            .expect("readable")
            .expect("saved")
            .to_toml()
    }

    #[test]
    fn secrets_are_kept_for_their_owner_only_and_used_again() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("data");
        assert!(read_secrets(&folder).expect("absent is fine").is_none());

        let first = generate();
        save_secrets(&folder, &first).expect("the folder is writable");
        assert_eq!(
            (mode(&folder), mode(&secrets_path(&folder))),
            (0o700, 0o600)
        );
        assert_eq!(
            fs::read_dir(&folder).expect("it exists").count(),
            1,
            "nothing unfinished is left"
        );

        save_secrets(&folder, &generate()).expect("saved already");
        assert_eq!(saved_toml(&folder), first.to_toml());
    }

    #[test]
    fn the_file_of_an_earlier_version_is_completed_in_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let old =
            "[admin]\ntoken = \"t\"\n[sources.support]\napi_keys = [\"k\"]\nsecrets = [\"s\"]\n";
        fs::write(secrets_path(folder.path()), old).expect("writable");
        let mut secrets = read_secrets(folder.path())
            .expect("readable")
            .expect("there");
        secrets.complete(make_secret).expect("random bytes");
        save_secrets(folder.path(), &secrets).expect("the folder is writable");
        assert_eq!(saved_toml(folder.path()), secrets.to_toml());
        assert_eq!(mode(&secrets_path(folder.path())), 0o600);
        assert_eq!(
            fs::read_dir(folder.path()).expect("it exists").count(),
            1,
            "nothing unfinished is left"
        );
    }

    #[test]
    fn two_first_starts_at_once_never_replace_each_others_secrets() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, unfinished) = (
            secrets_path(folder.path()),
            folder.path().join("unfinished"),
        );
        write_file(&unfinished, &path, b"first", link_new).expect("new");
        let error = write_file(&unfinished, &path, b"second", link_new).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("readable"), b"first");
    }

    #[test]
    fn a_broken_file_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(secrets_path(folder.path()), "admin").expect("writable");
        let error = read_secrets(folder.path()).expect_err("broken").to_string();
        assert!(
            error.ends_with("dev-secrets.toml cannot be used; delete it to generate new secrets"),
            "{error}"
        );
    }
}

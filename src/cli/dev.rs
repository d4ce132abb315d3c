//! `--dev`: secrets made on the first start, kept in the data folder for its owner only, and used again later.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::secret;
use crate::config::{DevSecrets, NotDevSecrets, Secret};

/// Why development secrets cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} cannot be used; delete it to have new secrets made")]
    Invalid { path: PathBuf, source: NotDevSecrets },
    #[error("cannot keep the development secrets in {path}")]
    Save { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Random(#[from] secret::NoRandom),
    #[error("--dev listens on this machine only, but server.bind is {bind}; use 127.0.0.1, or leave out --dev")]
    NotLoopback { bind: String },
}

/// Where the secrets of the data folder `folder` are kept.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("dev-secrets.toml")
}

/// The secrets kept in `folder`, or `None` before the first start.
pub(super) fn read(folder: &Path) -> Result<Option<DevSecrets>, Error> {
    let path = path(folder);
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path, source }),
    };
    DevSecrets::parse(&text).map(Some).map_err(|source| Error::Invalid { path, source })
}

/// New secrets.
pub(super) fn generate() -> Result<DevSecrets, Error> {
    let named = |name: &str| random_hex().map(|random| Secret::new(format!("{name}_{random}")));
    Ok(DevSecrets {
        admin_token: named("dev_token")?,
        support_api_key: named("dev_key")?,
        support_secret: secret::generate()?,
    })
}

/// Keeps `secrets` in `folder`, unless secrets are kept there already.
pub(super) fn save(folder: &Path, secrets: &DevSecrets) -> Result<(), Error> {
    let path = path(folder);
    if path.exists() {
        return Ok(());
    }
    let unfinished = folder.join(format!(".dev-secrets.{}", random_hex()?));
    write_new(&unfinished, &path, secrets.to_toml().as_bytes()).map_err(|source| Error::Save { path, source })
}

fn random_hex() -> Result<String, secret::NoRandom> {
    secret::random().map(hex::encode)
}

/// Makes `path` with all of `bytes` in it or not at all, and never in place of another file. Writes to `unfinished`, in
/// the same folder, first.
fn write_new(unfinished: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(unfinished, path));
    fs::remove_file(unfinished)?;
    written?;
    File::open(folder)?.sync_all()
}

/// Refuses to offer secrets that are shown on a terminal to other machines.
pub(super) fn check_loopback(bind: &str) -> Result<(), Error> {
    let is_loopback = bind.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    if is_loopback { Ok(()) } else { Err(Error::NotLoopback { bind: bind.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_kept_for_their_owner_only_and_used_again() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("data");
        assert!(read(&folder).expect("absent is fine").is_none());

        let first = generate().expect("random bytes");
        save(&folder, &first).expect("the folder is writable");
        assert_eq!((mode(&folder), mode(&path(&folder))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).expect("it exists").count(), 1, "nothing unfinished is left");

        let second = generate().expect("random bytes");
        assert_ne!(first.admin_token.expose(), second.admin_token.expose());
        save(&folder, &second).expect("kept already");
        let kept = read(&folder).expect("readable").expect("saved");
        assert_eq!(kept.admin_token.expose(), first.admin_token.expose());
        assert_eq!(kept.support_secret.expose(), first.support_secret.expose());
    }

    #[test]
    fn two_first_starts_at_once_never_replace_each_others_secrets() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, unfinished) = (path(folder.path()), folder.path().join("unfinished"));
        write_new(&unfinished, &path, b"first").expect("new");
        let error = write_new(&unfinished, &path, b"second").expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("readable"), b"first");
    }

    #[test]
    fn a_broken_file_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(path(folder.path()), "admin").expect("writable");
        let error = read(folder.path()).expect_err("broken").to_string();
        assert!(error.ends_with("dev-secrets.toml cannot be used; delete it to have new secrets made"), "{error}");
    }
}

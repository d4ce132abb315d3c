//! Identity of a store, which is the content of the file FORMAT.
//!
//! ```text
//! hookyard-store-format = 2
//! incarnation = 3f9a2c41 8c0a11d2@1042     a later one for each restore, with its first position
//! checksum-seed = 5d0c77b3
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::disk::{Disk, LocalDisk};
use super::open_error::StoreOpenError;
use crate::event::{IncarnationHistory, Position, StoreIncarnation};

/// Format version that this program writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 2;

/// Identity of a store: two stores with the same one are copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreIdentity {
    pub(super) version: u32,
    pub(super) incarnations: IncarnationHistory,
    /// Number that all checksums of the journal continue.
    pub(super) checksum_seed: u32,
}

/// Error of a text that is no identity which this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentityError {
    Malformed,
    /// Format version that is newer than [`FORMAT`].
    Newer(u32),
}

impl StoreIdentity {
    /// Creates the identity of a new store.
    pub(super) fn random() -> Self {
        Self {
            version: FORMAT,
            incarnations: IncarnationHistory::new(StoreIncarnation::new(random_number())),
            checksum_seed: random_number(),
        }
    }

    /// Returns the identity of a store that is restored from this one, and goes on at `from`.
    pub(super) fn restored_at(&self, from: Position) -> Self {
        let incarnation = StoreIncarnation::new(random_number());
        Self {
            version: FORMAT,
            incarnations: self.incarnations.restarted(incarnation, from),
            checksum_seed: self.checksum_seed,
        }
    }

    /// Parses the text of the file FORMAT.
    pub(super) fn parse(text: &str) -> Result<Self, IdentityError> {
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.ok_or(IdentityError::Malformed)
        };

        let version = value("hookyard-store-format")?.parse();
        let version: u32 = version.map_err(|_| IdentityError::Malformed)?;
        if version > FORMAT {
            return Err(IdentityError::Newer(version));
        }
        let incarnations = IncarnationHistory::parse(value("incarnation")?);
        // Format 1 had no checksums of its own; its migration uses a new seed.
        let checksum_seed = if version == FORMAT {
            let seed = u32::from_str_radix(value("checksum-seed")?, 16);
            seed.map_err(|_| IdentityError::Malformed)?
        } else {
            random_number()
        };
        Ok(Self {
            version,
            incarnations: incarnations.ok_or(IdentityError::Malformed)?,
            checksum_seed,
        })
    }

    /// Reads the file FORMAT of the data folder `folder`; `None` if there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreOpenError> {
        let file = folder.join("FORMAT");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoreOpenError::BadFormat(file));
            }
            Err(source) => return Err(StoreOpenError::Io { path: file, source }),
        };
        match Self::parse(&text) {
            Ok(identity) => Ok(Some(identity)),
            Err(IdentityError::Malformed) => Err(StoreOpenError::BadFormat(file)),
            Err(IdentityError::Newer(found)) => Err(StoreOpenError::Newer {
                file,
                found,
                supported: FORMAT,
            }),
        }
    }

    /// Writes the file FORMAT of the data folder `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreOpenError> {
        let temporary = folder.join("FORMAT.new");
        let io = |source| StoreOpenError::Io {
            path: temporary.clone(),
            source,
        };
        // The checksum seed is for the owner only: who knows it could forge blocks in a payload.
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(io)?;
        write!(file, "{self}")
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, folder.join("FORMAT")))
            .and_then(|()| LocalDisk.sync_folder(folder))
            .map_err(io)
    }
}

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hookyard-store-format = {}\nincarnation = {}\nchecksum-seed = {:08x}\n",
            self.version, self.incarnations, self.checksum_seed
        )
    }
}

fn random_number() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    u32::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    #[test]
    fn the_text_of_an_identity_never_changes() {
        let created = StoreIdentity {
            version: 2,
            incarnations: IncarnationHistory::new(StoreIncarnation::new(0x3f9a_2c41)),
            checksum_seed: 7,
        };
        let text = "hookyard-store-format = 2\nincarnation = 3f9a2c41\nchecksum-seed = 00000007\n";
        assert_eq!(created.to_string(), text);
        assert_eq!(StoreIdentity::parse(text), Ok(created.clone()));

        let later = StoreIncarnation::new(0x8c0a_11d2);
        let restored = StoreIdentity {
            incarnations: created.incarnations.restarted(later, Position::new(1042)),
            ..created
        };
        let text = "hookyard-store-format = 2\nincarnation = 3f9a2c41 8c0a11d2@1042\n\
                    checksum-seed = 00000007\n";
        assert_eq!(restored.to_string(), text);
        assert_eq!(StoreIdentity::parse(text), Ok(restored));
    }

    #[test]
    fn a_newer_or_malformed_format_is_told_apart() {
        let newer = StoreIdentity::parse("hookyard-store-format = 3\n");
        assert_eq!(newer, Err(IdentityError::Newer(3)));
        for text in [
            "",
            "hookyard-store-format = 2\nincarnation = x\nchecksum-seed = 1\n",
        ] {
            assert_eq!(StoreIdentity::parse(text), Err(IdentityError::Malformed));
        }
        let former = StoreIdentity::parse("hookyard-store-format = 1\nincarnation = 3f9a2c41\n");
        assert_eq!(former.expect("is read").version, 1);
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_identity_of_a_store_is_read_or_refused(text in damaged_text(&[
            "hookyard-store-format = 2\nincarnation = 3f9a2c41 8c0a11d2@1042\nchecksum-seed = 00000007\n",
            "hookyard-store-format = 1\nincarnation = 3f9a2c41\n",
        ])) {
            let _ = StoreIdentity::parse(&text);
        }
    }
}

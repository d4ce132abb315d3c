//! File `CLOCK` of a data folder: the last wall time at which a node used the store, for the comparison
//! at the next start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::clock::{CheckedClock, Clock, LastKnownTime};

const FILE: &str = "CLOCK";

/// Reads the last time of the store in `folder`; `None` if the file is missing or no whole one.
pub(super) fn read_last_time(folder: &Path) -> Option<LastKnownTime> {
    let text = fs::read_to_string(folder.join(FILE)).ok()?;
    LastKnownTime::parse(&text)
}

/// Writes the present time of `clock` as the last one of the store in `folder`. A clock that does not
/// know the machine's boot writes nothing.
pub(super) fn write_last_time(folder: &Path, clock: &CheckedClock) -> io::Result<()> {
    let Some(moment) = clock.boot_moment() else {
        return Ok(());
    };
    let known = LastKnownTime {
        wall: clock.wall(),
        moment: Some(moment),
    };
    let temporary = folder.join("CLOCK.new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    write!(file, "{known}")?;
    // Not synced: after a power cut, a lost file makes the next start no more than less certain.
    fs::rename(&temporary, folder.join(FILE))
}

/// Removes the last time of the store in `folder`, which was a wrong one.
pub(super) fn remove_last_time(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

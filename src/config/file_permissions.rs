//! Permissions of the files that hold secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Permission of a file that lets everybody on the machine read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Describes that everybody on this machine can read `file`; `None` if they cannot. The group of a file is
/// the operator's choice.
pub(super) fn describe_open_file(file: &Path) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    let is_open = metadata.permissions().mode() & READABLE_BY_OTHERS != 0;
    let file = file.display();
    is_open.then(|| format!("{file} can be read by everybody on this machine; `chmod o-r` it"))
}

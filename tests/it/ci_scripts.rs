//! Scripts of the checks: they fail if a tool that should judge could not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::commands::{BINARY, command_in, folder, output_of};

/// Writes a program that stands for the tool `name`.
fn write_tool(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("is ours");
}

/// A check that could not install its tools was passed, as if they had found nothing.
#[test]
fn the_check_of_the_description_fails_if_a_tool_fails_and_the_registry_answers() {
    let no_npm = "exit 1";
    let no_registry = "echo offline >&2; exit 1";
    // Each asks for a package that is known to be there, if the installation failed.
    let npm = "[ \"$1\" = view ] || { echo no such version >&2; exit 1; }";
    let python = "mkdir -p target/schemathesis/bin\n\
        printf '#!/bin/sh\\n[ \"$1\" = index ] || { echo no such version >&2; exit 1; }\\n' \
        >target/schemathesis/bin/pip\nchmod +x target/schemathesis/bin/pip";
    for (npm, python, code) in [
        (no_registry, no_npm, Some(0)),
        (npm, no_npm, Some(1)),
        (no_registry, python, Some(1)),
    ] {
        let folder = folder();
        let root = folder.path();
        for part in [".ci", "target/debug", "tools"] {
            fs::create_dir_all(root.join(part)).expect("makes");
        }
        fs::copy(".ci/openapi", root.join(".ci/openapi")).expect("copies");
        symlink(BINARY, root.join("target/debug/hookyard")).expect("links");
        let tools = root.join("tools");
        write_tool(&tools, "cargo", "exit 0");
        write_tool(&tools, "npm", npm);
        write_tool(&tools, "python3", python);

        let mut check = command_in("bash", root);
        let path = std::env::var("PATH").expect("a path");
        check.env("PATH", format!("{}:{path}", tools.display()));
        check.arg(".ci/openapi");
        let (found, output, error) = output_of(&mut check);
        assert_eq!(found, code, "{npm} {python}: {output}{error}");
        let reason = "no such version";
        assert_eq!(error.contains(reason), code == Some(1), "{output}{error}");
    }
}

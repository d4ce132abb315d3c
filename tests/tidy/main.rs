//! The rules about files, imports and words that no compiler checks. Each failure names the file
//! and the rule.

use std::fs;
use std::path::Path;

mod imports;
mod log_lines;
mod map;
mod security;
mod source;
mod words;

use source::SourceFile;

/// Folder that may name the database: it wraps the database for all others.
const SLED_FOLDER: &str = "derived";

/// Names of files and folders that tell nothing about their content.
const EMPTY_NAMES: [&str; 5] = ["utils", "common", "helpers", "manager", "core"];

const UNFINISHED: [&str; 5] = ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"];

#[test]
fn every_file_keeps_the_rules() {
    let mut broken = Vec::new();
    for root in ["src", "tests", "benches"] {
        for (path, text) in files_below(root) {
            broken.extend(check_path(&path));
            if path.starts_with("src/") && path.ends_with(".rs") {
                broken.extend(check_source(&SourceFile::parse(&path, &text)));
            }
        }
    }

    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The project's own sources under `src`, parsed.
fn sources() -> Vec<SourceFile> {
    let files = files_below("src")
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"));
    files
        .map(|(path, text)| SourceFile::parse(&path, &text))
        .collect()
}

/// Path (from the project's folder) and text of each file below the folder `root`, sorted by path.
fn files_below(root: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{root}: {error}"));
    let mut files = Vec::new();
    for entry in entries {
        let name = entry
            .expect("readable")
            .file_name()
            .into_string()
            .expect("UTF-8");
        let path = format!("{root}/{name}");
        if folder.join(&name).is_dir() {
            files.extend(files_below(&path));
        } else {
            let bytes = fs::read(folder.join(&name)).expect("readable");
            files.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    files.sort();
    files
}

/// Refuses a path of which a part says nothing of what is in it.
fn check_path(path: &str) -> Option<String> {
    let mut names = path
        .split('/')
        .map(|part| part.split('.').next().unwrap_or_default());
    let name = names.find(|name| EMPTY_NAMES.contains(name))?;
    Some(format!("{path}: `{name}` says nothing of what is in it"))
}

/// Rules that one source file breaks.
fn check_source(file: &SourceFile) -> Vec<String> {
    let path = &file.path;
    let mut broken = Vec::new();

    if !file.text.starts_with("//! ") {
        broken.push(format!(
            "{path}: the first line is not `//!` and what the file is for"
        ));
    }

    for word in UNFINISHED
        .into_iter()
        .filter(|word| source::has_word(&file.text, word))
    {
        broken.push(format!("{path}: `{word}` is left in it"));
    }

    if file.names("sled") && file.stage() != SLED_FOLDER {
        broken.push(format!("{path}: names sled, which only {SLED_FOLDER} may"));
    }

    if file.names("backoff") && file.stage() != "subscriber" {
        broken.push(format!(
            "{path}: names backoff, which only the subscribers may"
        ));
    }

    broken
}

fn broken_rules(path: &str, code: &str) -> String {
    check_source(&SourceFile::parse(path, &format!("//! A file.\n{code}\n"))).join("\n")
}

#[test]
fn sled_outside_the_derived_store_is_caught() {
    for code in ["use sled::Db;", "fn f(db: &sled::Db) {}", "use sled;"] {
        for path in [
            "src/app/mod.rs",
            "src/journal/segment_journal.rs",
            "src/projection/mod.rs",
            "src/subscriber/tables/lanes.rs",
        ] {
            assert!(
                broken_rules(path, code).contains("names sled"),
                "{path} {code}"
            );
        }
        for path in ["src/derived/mod.rs", "src/derived/format_1/mod.rs"] {
            assert_eq!(broken_rules(path, code), "", "{path} {code}");
        }
    }
    assert_eq!(
        broken_rules("src/app/mod.rs", "// sled\nfn sledge() {}"),
        ""
    );
}

#[test]
fn a_file_that_does_not_say_its_job_is_caught() {
    for text in ["", "//!", "/// A file.\nfn f() {}", "use std::fs;"] {
        let broken = check_source(&SourceFile::parse("src/clock.rs", text)).concat();
        assert!(broken.contains("the first line"), "{text}");
    }
}

#[test]
fn a_name_that_says_nothing_is_caught() {
    for path in [
        "src/utils.rs",
        "src/edge/common/mod.rs",
        "tests/it/helpers.rs",
        "src/core/mod.rs",
    ] {
        assert!(check_path(path).is_some(), "{path}");
    }
    assert_eq!(check_path("src/edge/score.rs"), None);
}

#[test]
fn unfinished_work_is_caught() {
    for code in [
        "// TODO: later",
        "// FIXME",
        "/* XXX */",
        "fn f() { todo!(\"later\") }",
    ] {
        assert!(
            broken_rules("src/clock.rs", code).contains("is left in it"),
            "{code}"
        );
    }
    assert_eq!(
        broken_rules("src/clock.rs", "fn todos() { done!() } // XXXL"),
        ""
    );
}

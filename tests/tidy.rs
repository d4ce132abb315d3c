//! The rules about files and imports that no compiler checks. Each failure names the file and the rule.
//!
//! The stages stand in the order of an event's way; a stage may use those to its right, never those to its left:
//!
//!     edge ──> router ──> entity ──> journal <── projection
//!       └──> exchange ─────────────────┤
//!       └──> account, subscription ────┘
//!
//! Enrichment and the subscribers stand beside the edge and send in what they learn by the router's door.

use std::fs;
use std::path::Path;

/// Each stage, and the stages that it may use.
const STAGES: [(&str, &[&str]); 10] = [
    ("edge", &["router", "account", "subscription", "subscriber", "entity", "journal", "projection", "exchange"]),
    ("subscriber", &["router", "account", "subscription", "entity", "journal", "projection", "exchange"]),
    ("enrichment", &["router", "entity", "journal", "projection", "exchange"]),
    ("router", &["entity", "journal", "projection"]),
    ("entity", &["journal", "projection"]),
    // No stage of an event's way, but what is true besides the log: its definitions stand in the same store.
    ("account", &["journal"]),
    ("subscription", &["journal"]),
    ("journal", &[]),
    ("projection", &["journal"]),
    ("exchange", &["journal"]),
];

/// Who may name the database: those who keep something in it.
const KEEPERS: [&str; 3] = ["journal", "projection", "exchange"];

/// The places elsewhere that may: what is done of an enrichment, and of deliveries, is noted in rows of its own.
const ROWS: [&str; 2] = ["src/enrichment/progress.rs", "src/subscriber/rows/"];

/// Names under which things are put that have not found their place yet.
const NAMELESS: [&str; 5] = ["utils", "common", "helpers", "manager", "core"];

const UNFINISHED: [&str; 5] = ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"];

#[test]
fn the_project_is_tidy() {
    let mut broken = Vec::new();
    for root in ["src", "tests", "benches"] {
        visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), root, &mut broken);
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The map of the sources had to be compared with them by hand whenever a file got another name.
#[test]
fn the_map_of_the_sources_is_true_and_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("src/README.md")).expect("readable");
    let named = || map.split('`').skip(1).step_by(2);
    let files = named().filter(|name| name.ends_with(".rs") && !name.contains(['<', '*', ' ']));
    let missing: Vec<_> =
        files.filter(|name| !root.join("src").join(name).exists() && !root.join(name).exists()).collect();
    assert!(missing.is_empty(), "src/README.md names files that are not there: {missing:?}");

    let entries = fs::read_dir(root.join("src")).expect("readable");
    let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"));
    let unnamed: Vec<_> = names
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .filter(|name| !["lib", "main", "README.md"].contains(&name.as_str()))
        .filter(|name| !map.lines().any(|line| line.starts_with(&format!("| `{name}`"))))
        .collect();
    assert!(unnamed.is_empty(), "the table in src/README.md has no row for {unnamed:?}");
}

fn visit(folder: &Path, path: &str, broken: &mut Vec<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    for name in names {
        let (inner, path) = (folder.join(&name), format!("{path}/{name}"));
        broken.extend(check_name(&path));
        if inner.is_dir() {
            visit(&inner, &path, broken);
        } else if path.starts_with("src/") && path.ends_with(".rs") {
            broken.extend(check_source(&path, &fs::read_to_string(&inner).expect("UTF-8")));
        }
    }
}

fn check_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?.split('.').next()?;
    NAMELESS.contains(&name).then(|| format!("{path}: `{name}` says nothing of what is in it"))
}

/// What is wrong with the file `path` (from the project's folder), which holds `text`.
fn check_source(path: &str, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let mut broken = Vec::new();
    if !text.starts_with("//! ") {
        broken.push(format!("{path}: the first line is not `//!` and what the file is for"));
    }
    for word in UNFINISHED.into_iter().filter(|word| has_word(text, word)) {
        broken.push(format!("{path}: `{word}` is left in it"));
    }
    let here = stage_of(path);
    if has_word(&code, "sled") && !KEEPERS.contains(&here) && !ROWS.iter().any(|rows| path.starts_with(rows)) {
        broken.push(format!("{path}: names sled, which only {} may", KEEPERS.join(", ")));
    }
    if has_word(&code, "backoff") && here != "subscriber" {
        broken.push(format!("{path}: names backoff, which only the subscribers may"));
    }
    for used in modules_used(path, &code) {
        if let Some(rule) = forbidden(here, &used) {
            broken.push(format!("{path}: uses `{used}`: {rule}"));
        }
    }
    broken
}

/// The folder or file directly under `src` that `path` belongs to, such as `edge` or `main`.
fn stage_of(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs")
}

fn forbidden(here: &str, used: &str) -> Option<&'static str> {
    if here == used {
        return None;
    }
    let is_stage = STAGES.iter().any(|(stage, _)| *stage == used);
    match (used, STAGES.iter().find(|(stage, _)| *stage == here)) {
        ("cli", _) if here != "main" => Some("only main may"),
        ("app", _) if here != "cli" => Some("only cli may"),
        (_, Some((_, allowed))) if is_stage && !allowed.contains(&used) => Some("a stage uses only those to its right"),
        _ if is_stage && ["event", "clock", "config", "provider"].contains(&here) => {
            Some("the vocabulary uses no stage")
        }
        ("config" | "clock", _) if here == "provider" => Some("what it needs of them is an argument"),
        _ => None,
    }
}

/// The modules at the crate's root that `code` names: `crate::a`, `crate::{a, b::c}`, `super::super::a`, `hookyard::a`.
fn modules_used(path: &str, code: &str) -> Vec<String> {
    let to_root = "super::".repeat(depth(path));
    let roots = ["crate::", "hookyard::", &to_root];
    let mut used: Vec<_> = roots.iter().filter(|root| !root.is_empty()).flat_map(|root| after(code, root)).collect();
    used.sort();
    used.dedup();
    used
}

/// How many modules lie between the crate's root and the inside of the file `path`.
fn depth(path: &str) -> usize {
    let inner = path.trim_start_matches("src/");
    let is_folder = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| inner.ends_with(name));
    inner.split('/').count() - usize::from(is_folder)
}

/// The first name of each path that follows `root` in `code`, whether one or a group in braces.
fn after(code: &str, root: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (start, _) in code.match_indices(root) {
        if code[..start].ends_with(is_name) {
            continue;
        }
        // In a module within the file, one `super::` more leads to the same place.
        let rest = code[start + root.len()..].trim_start_matches("super::").trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.push(head(rest)),
        }
    }
    names
}

/// The first name of each path in the group that `text` begins in the middle of.
fn group_heads(text: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            ',' | '}' => {
                heads.push(head(text[start..at].trim_start()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn head(path: &str) -> String {
    path.chars().take_while(|character| is_name(*character)).collect()
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(start, _)| !text[..start].ends_with(is_name) && !text[start + word.len()..].starts_with(is_name))
}

/// `text` without what follows `//` on a line and without the insides of strings: neither imports anything.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with('"') {
            string_length(rest, code.ends_with(['r', '#']).then(|| hashes(&code)))
        } else if rest.starts_with("'\"'") || rest.starts_with("'/'") {
            3
        } else {
            code.push_str(&rest[..1]);
            1
        };
        rest = &rest[skipped..];
    }
    code + rest
}

/// How many `#` stand before a raw string's first quote.
fn hashes(before: &str) -> usize {
    before.len() - before.trim_end_matches('#').len()
}

/// The length of the string that `text` begins with; `raw` is the number of its hashes if it is a raw one.
fn string_length(text: &str, raw: Option<usize>) -> usize {
    if let Some(hashes) = raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return text[1..].find(&end).map_or(text.len(), |at| 1 + at + end.len());
    }
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// What is said of `path` when it holds `code` under a proper first line.
fn said(path: &str, code: &str) -> String {
    check_source(path, &format!("//! A file.\n{code}\n")).join("\n")
}

#[test]
fn a_stage_that_looks_left_is_caught() {
    let wrong = [
        ("src/router/mod.rs", "use crate::edge::Answer;", "edge"),
        ("src/enrichment/work.rs", "use crate::edge::c2s;", "edge"),
        ("src/entity/mod.rs", "use crate::{clock::Clock, router::{Permit, Claims}};", "router"),
        ("src/entity/mod.rs", "use crate::{\n    clock::Clock,\n    edge,\n};", "edge"),
        ("src/entity/ticket/mod.rs", "fn f() { crate::router::g() }", "router"),
        ("src/journal/log.rs", "use crate::projection::Cursor;", "projection"),
        ("src/projection/mod.rs", "use crate::entity::State;", "entity"),
        ("src/exchange/mod.rs", "use crate::projection::Page;", "projection"),
        ("src/journal/mod.rs", "use crate::exchange::Exchange;", "exchange"),
        ("src/journal/mod.rs", "use super::entity::State;", "entity"),
        ("src/journal/log.rs", "use super::super::entity::State;", "entity"),
        ("src/journal/log.rs", "mod tests { use super::super::super::entity::State; }", "entity"),
        ("src/journal/log.rs", "const Q: char = '\"'; use crate::entity::State; const R: char = '\"';", "entity"),
        ("src/account/mod.rs", "use crate::projection::Reads;", "projection"),
        ("src/entity/mod.rs", "use crate::account::Accounts;", "account"),
        ("src/event/mod.rs", "use crate::journal::Log;", "journal"),
        ("src/clock.rs", "use crate::journal::Log;", "journal"),
        ("src/provider/presets/slack.rs", "use crate::edge::Answer;", "edge"),
        ("src/provider/source.rs", "use crate::config::Secret;", "config"),
    ];
    for (path, code, used) in wrong {
        let said = said(path, code);
        assert!(said.contains(&format!("{path}: uses `{used}`:")), "{path} {code}: {said:?}");
    }
    let right = [
        ("src/edge/mod.rs", "use crate::{app_name, router::Router, entity, journal::Log, projection};"),
        ("src/entity/mod.rs", "use crate::{clock::Clock, entity::router, journal::{self, edge}};"),
        ("src/entity/mod.rs", "/// See [`crate::edge`].\nconst A: &str = \"use crate::edge\"; // crate::edge"),
        ("src/entity/mod.rs", "const A: &str = r#\"\"crate::edge\"\"#; const B: &str = \"\\\"crate::edge\";"),
        ("src/journal/log.rs", "use super::entity;"),
        ("src/config/load.rs", "use super::draft::Draft;"),
    ];
    for (path, code) in right {
        assert_eq!(said(path, code), "", "{path} {code}");
    }
}

#[test]
fn an_import_of_the_composition_root_or_of_the_command_line_is_caught() {
    assert!(said("src/edge/mod.rs", "use crate::app::App;").contains("only cli may"));
    assert!(said("src/main.rs", "fn main() { hookyard::app::serve() }").contains("only cli may"));
    assert!(said("src/app/mod.rs", "use crate::cli;").contains("only main may"));
    assert_eq!(said("src/cli/serve.rs", "use crate::app;"), "");
    assert_eq!(said("src/main.rs", "fn main() { hookyard::cli::main() }"), "");
}

#[test]
fn sled_outside_the_store_is_caught() {
    for code in ["use sled::Db;", "fn f(db: &sled::Db) {}", "use sled;"] {
        assert!(said("src/app/mod.rs", code).contains("names sled"), "{code}");
        assert!(said("src/enrichment/work.rs", code).contains("names sled"), "{code}");
        assert!(said("src/subscriber/ledger.rs", code).contains("names sled"), "{code}");
        assert_eq!(said("src/enrichment/progress.rs", code), "");
        assert_eq!(said("src/subscriber/rows/lanes.rs", code), "");
        assert_eq!(said("src/journal/store.rs", code), "");
        assert_eq!(said("src/projection/mod.rs", code), "");
        assert_eq!(said("src/exchange/mod.rs", code), "");
    }
    assert_eq!(said("src/app/mod.rs", "// sled\nfn sledge() {}"), "");
}

#[test]
fn a_file_that_does_not_say_its_job_is_caught() {
    for text in ["use std::fs;\n//! Late.", "", "//!", "/// A file."] {
        assert!(check_source("src/clock.rs", text).concat().contains("the first line"), "{text}");
    }
}

#[test]
fn a_name_that_says_nothing_is_caught() {
    for path in ["src/utils.rs", "src/edge/common", "tests/it/helpers.rs", "src/core/mod.rs/core", "src/manager"] {
        assert!(check_name(path).is_some(), "{path}");
    }
    assert_eq!(check_name("src/edge/score.rs"), None);
}

#[test]
fn unfinished_work_is_caught() {
    for code in ["// TODO: later", "// FIXME", "/* XXX */", "unimplemented!()", "todo!(\"later\")"] {
        assert!(said("src/clock.rs", code).contains("is left in it"), "{code}");
    }
    assert_eq!(said("src/clock.rs", "fn todos() { done!() } // XXXL"), "");
}

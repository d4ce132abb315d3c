//! The map of `src/` in `lib.rs`: true, whole, and the same in both READMEs.

use std::collections::BTreeSet;
use std::fs;

use super::imports::ImportGraph;
use super::source::SourceFile;
use super::{files_below, sources};

/// First line of the list of folders, the same words wherever the map stands.
const HEADING: &str = "each may use those below it";

/// The stages of the list in `map`, from the top. A line of the list is `  name, name   job`.
fn stages(map: &str) -> Vec<Vec<String>> {
    let lines = map
        .lines()
        .skip_while(|line| !line.contains(HEADING))
        .skip(1);
    let lines = lines.take_while(|line| !line.starts_with("```"));
    let heads = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = heads.filter_map(|line| line.trim_start().split("  ").next());
    names
        .map(|names| names.split(", ").map(str::to_owned).collect())
        .collect()
}

/// The map in the documentation of `text`: its fenced block of plain text that holds the list.
fn block(text: &str) -> String {
    let plain: Vec<_> = text
        .lines()
        .map(|line| {
            line.strip_prefix("//!")
                .map_or(line, |text| text.strip_prefix(' ').unwrap_or(text))
        })
        .collect();
    let text = plain.join("\n");
    let mut blocks = text
        .split("```text\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    blocks
        .find(|block| block.contains(HEADING))
        .unwrap_or_default()
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("readable")
}

/// Imports against the order of `stages`, and stages that the map lacks or that do not exist.
fn check(stages: &[Vec<String>], files: &[SourceFile], graph: &ImportGraph) -> Vec<String> {
    let rank = |stage: &str| {
        stages
            .iter()
            .position(|names| names.iter().any(|name| name == stage))
    };
    let mut broken = BTreeSet::new();

    let existing: BTreeSet<_> = files
        .iter()
        .map(SourceFile::stage)
        .filter(|stage| *stage != "lib")
        .collect();
    for stage in existing.iter().filter(|stage| rank(stage).is_none()) {
        broken.insert(format!("src/{stage} is not on the map"));
    }
    for name in stages
        .iter()
        .flatten()
        .filter(|name| !existing.contains(name.as_str()))
    {
        broken.insert(format!("the map names {name}, which does not exist"));
    }

    for (from, to) in graph.edges() {
        let (above, below) = (SourceFile::stage_of(from), SourceFile::stage_of(to));
        if above != below && above != "lib" && rank(above) >= rank(below) {
            broken.insert(format!(
                "{from}: uses `{below}`, which does not stand below `{above}` on the map"
            ));
        }
        if below == "cli" && above != "main" && above != "cli" {
            broken.insert(format!("{from}: uses `cli`, which only main may"));
        }
        if below == "app" && above != "cli" && above != "app" {
            broken.insert(format!("{from}: uses `app`, which only cli may"));
        }
    }

    broken.into_iter().collect()
}

#[test]
fn the_map_is_true_and_whole() {
    let stages = stages(&block(&read("src/lib.rs")));
    assert!(stages.len() > 10, "no map in src/lib.rs");

    let files = sources();
    let broken = check(&stages, &files, &ImportGraph::new(&files));

    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn both_readmes_show_the_same_map() {
    let map = block(&read("src/lib.rs"));
    for path in ["README.md", "src/README.md"] {
        assert_eq!(
            block(&read(path)),
            map,
            "{path} shows another map than src/lib.rs"
        );
    }
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let text = read("src/README.md");
    let known: BTreeSet<_> = files_below("src")
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let named = text.split('`').skip(1).step_by(2).filter(|name| {
        name.ends_with(".rs")
            && !name.contains(char::is_whitespace)
            && !name.contains(['<', '*', '{'])
    });
    for name in named {
        let whole = format!("src/{}", name.trim_start_matches("src/"));
        let exists = known.contains(&whole)
            || fs::exists(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).expect("readable");
        assert!(exists, "src/README.md names `{name}`, which does not exist");
    }
}

#[test]
fn a_stage_that_looks_up_is_caught() {
    let stages = stages(
        "x\n  each may use those below it:\n  edge        HTTP\n               in\n  router, hub  dedupe\n```\n  not this",
    );
    assert_eq!(
        stages,
        [
            vec!["edge".to_owned()],
            vec!["router".to_owned(), "hub".to_owned()]
        ]
    );

    let files = |edge: &str, router: &str| {
        let file = |path: &str, code: &str| SourceFile::parse(path, &format!("//! A.\n{code}"));
        vec![
            file("src/edge/mod.rs", edge),
            file("src/router.rs", router),
            file("src/hub.rs", ""),
        ]
    };
    let check = |edge: &str, router: &str| {
        let files = files(edge, router);
        check(&stages, &files, &ImportGraph::new(&files)).join("\n")
    };
    assert_eq!(check("use crate::{router::Router, hub};", ""), "");
    assert!(check("", "use crate::edge::Answer;").contains("src/router.rs: uses `edge`"));
    assert!(check("", "fn f() { super::edge::g() }").contains("src/router.rs: uses `edge`"));
    assert!(check("", "use crate::hub::Hub;").contains("src/router.rs: uses `hub`"));
}

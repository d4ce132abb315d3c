//! `SECURITY.md` against the tests: each test that it names exists, and it names each damage test.

use std::collections::BTreeSet;
use std::fs;

use super::files_below;

/// Names of the tests in `text`, the file of the module `module`, as the test binary prints them.
fn test_names(module: &str, text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut module, mut is_test) = (module.to_owned(), false);
    for line in text.lines().map(str::trim_start) {
        if line.ends_with("mod tests {") {
            module += "::tests";
        } else if line.starts_with("#[") && (line.ends_with("test]") || line.contains("::test(")) {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            let name = rest.split('(').next().unwrap_or_default();
            names.push(format!("{module}::{name}"));
            is_test = false;
        }
    }
    names
}

/// Names of all tests of the library and of `tests/it`.
fn all_tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for root in ["src", "tests/it"] {
        for (path, text) in files_below(root) {
            let Some(module) = path.strip_suffix(".rs") else {
                continue;
            };
            let module = module[root.len() + 1..].replace('/', "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module);
            names.extend(test_names(module, &text));
        }
    }
    names
}

/// Names of tests in the code spans of `text`.
fn named_tests(text: &str) -> BTreeSet<String> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .filter(|span| span.contains("::") && !span.contains(char::is_whitespace))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_test_that_the_evidence_names_exists_and_no_damage_test_is_left_out() {
    let path = format!("{}/SECURITY.md", env!("CARGO_MANIFEST_DIR"));
    let named = named_tests(&fs::read_to_string(path).expect("readable"));
    let existing = all_tests();

    let missing: Vec<_> = named.difference(&existing).collect();
    assert!(
        missing.is_empty(),
        "SECURITY.md names tests that do not exist: {missing:#?}"
    );
    assert!(named.len() > 100, "{} tests are named", named.len());

    let of_damage = existing.iter().filter(|name| name.ends_with("_or_refused"));
    let unnamed: Vec<_> = of_damage.filter(|name| !named.contains(*name)).collect();
    assert!(
        unnamed.is_empty(),
        "SECURITY.md does not name these damage tests: {unnamed:#?}"
    );
}

#[test]
fn tests_are_named_as_the_test_binary_prints_them() {
    let text = "#[test]\nfn one() {}\nfn no() {}\nmod tests {\n    #[tokio::test]\n    async fn two() {}\n}";
    assert_eq!(test_names("a::b", text), ["a::b::one", "a::b::tests::two"]);
    let named = named_tests("`a::b::one` `fn x` `a::b c` `plain`");
    assert_eq!(named, BTreeSet::from(["a::b::one".to_owned()]));
}

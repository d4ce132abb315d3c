//! The words of the code: names of types, first words of comments, comments that say nothing.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use super::source::SourceFile;
use super::sources;

/// Shares that the tree must not exceed, in percent.
const ONE_WORD_TYPES_MAX: usize = 35;
const BARE_PARTICIPLES_MAX: usize = 2;
const QUESTION_COMMENTS_MAX: usize = 2;

/// Definitions for each hundred type names: at most a fifth of the names may stand for a second
/// thing.
const DEFINITIONS_PER_HUNDRED_NAMES_MAX: usize = 120;

/// A doc comment of fewer words says nothing that the name does not.
const DOC_WORDS_MIN: usize = 5;

/// Comments begin with the thing's noun or a verb, never with one of these.
const QUESTION_WORDS: [&str; 12] = [
    "what", "who", "whose", "whom", "whether", "where", "how", "when", "which", "whatever",
    "whoever", "why",
];

/// Participles and adjectives that do not end in `-ed`.
const IRREGULAR_PARTICIPLES: [&str; 25] = [
    "Begun", "Done", "Drawn", "Due", "Fresh", "Given", "Gone", "Held", "Kept", "Known", "Late",
    "Left", "Made", "Met", "Open", "Past", "Public", "Quiet", "Sent", "Taken", "Told", "Unknown",
    "Unread", "Whole", "Written",
];

/// Nouns and the like that end as a participle does.
const NOUNS_IN_ED: [&str; 4] = ["Feed", "Need", "Seed", "Speed"];

/// Each type name of the tree with the files that define it.
fn type_names(files: &[SourceFile]) -> BTreeMap<String, Vec<&str>> {
    struct Collector<'a>(&'a str, Vec<(String, &'a str)>);
    impl<'ast> Visit<'ast> for Collector<'_> {
        fn visit_item(&mut self, item: &'ast syn::Item) {
            let name = match item {
                syn::Item::Struct(item) => Some(&item.ident),
                syn::Item::Enum(item) => Some(&item.ident),
                syn::Item::Trait(item) => Some(&item.ident),
                syn::Item::Type(item) => Some(&item.ident),
                syn::Item::Union(item) => Some(&item.ident),
                _ => None,
            };
            self.1.extend(name.map(|name| (name.to_string(), self.0)));
            visit::visit_item(self, item);
        }
    }

    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let mut collector = Collector(&file.path, Vec::new());
        collector.visit_file(&file.code);
        for (name, path) in collector.1 {
            names.entry(name).or_default().push(path);
        }
    }
    names
}

fn is_one_word(name: &str) -> bool {
    name.chars()
        .skip(1)
        .all(|character| character.is_lowercase() || character.is_numeric())
}

fn is_bare_participle(name: &str) -> bool {
    let is_regular = name.ends_with("ed") && !NOUNS_IN_ED.contains(&name);
    is_one_word(name) && (is_regular || IRREGULAR_PARTICIPLES.contains(&name))
}

fn begins_with_question(comment: &str) -> bool {
    let first = comment
        .split(|character: char| !character.is_alphabetic())
        .next()
        .unwrap_or_default();
    QUESTION_WORDS.contains(&first.to_lowercase().as_str())
}

/// Asserts that `part` is at most `percent_max` of `whole`, and lists it if not.
fn assert_share(what: &str, part: &[String], whole: usize, percent_max: usize) {
    let is_met = part.len() * 100 <= whole * percent_max;
    assert!(
        is_met,
        "{what}: {} of {whole}, at most {percent_max} %:\n{}",
        part.len(),
        part.join("\n")
    );
}

#[test]
fn type_names_are_noun_phrases() {
    let files = sources();
    let names = type_names(&files);

    let listed = |test: fn(&str) -> bool| -> Vec<String> {
        names
            .iter()
            .filter(|(name, _)| test(name))
            .map(|(name, paths)| format!("{name} ({})", paths.join(", ")))
            .collect()
    };
    assert_share(
        "type names of one word",
        &listed(is_one_word),
        names.len(),
        ONE_WORD_TYPES_MAX,
    );
    assert_share(
        "bare participles",
        &listed(is_bare_participle),
        names.len(),
        BARE_PARTICIPLES_MAX,
    );
}

#[test]
fn one_name_means_one_thing() {
    let files = sources();
    let names = type_names(&files);

    let definitions: usize = names.values().map(Vec::len).sum();
    let doubled: Vec<_> = names.iter().filter(|(_, paths)| paths.len() > 1).collect();
    let is_met = definitions * 100 <= names.len() * DEFINITIONS_PER_HUNDRED_NAMES_MAX;
    assert!(
        is_met,
        "{} type names stand for {definitions} types: {doubled:#?}",
        names.len()
    );
}

#[test]
fn comments_begin_with_the_thing() {
    let files = sources();
    let written = files.iter().filter(|file| !file.is_test());
    let comments: Vec<_> = written
        .flat_map(|file| {
            file.comments()
                .into_iter()
                .map(|comment| (file.path.as_str(), comment))
        })
        .collect();

    let questions = comments
        .iter()
        .filter(|(_, comment)| begins_with_question(&comment.text));
    let questions: Vec<_> = questions
        .map(|(path, comment)| format!("{path}: {}", comment.text))
        .collect();
    assert_share(
        "comments that begin with a question",
        &questions,
        comments.len(),
        QUESTION_COMMENTS_MAX,
    );
}

#[test]
fn doc_comments_say_something() {
    let files = sources();
    let mut empty = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let docs = file.comments().into_iter().filter(|comment| comment.is_doc);
        let short = docs.filter(|comment| comment.text.split_whitespace().count() < DOC_WORDS_MIN);
        empty.extend(short.map(|comment| format!("{}: {}", file.path, comment.text)));
    }
    assert!(
        empty.is_empty(),
        "{} doc comments say nothing:\n{}",
        empty.len(),
        empty.join("\n")
    );
}

#[test]
fn the_measures_of_words_are_right() {
    assert!(is_one_word("Lane") && is_one_word("C2s") && !is_one_word("LaneRow"));
    for name in ["Wanted", "Given", "Told", "Shared", "Met"] {
        assert!(is_bare_participle(name), "{name}");
    }
    for name in ["Seed", "WantedEvents", "Lane"] {
        assert!(!is_bare_participle(name), "{name}");
    }
    for comment in ["What it is.", "Where: here", "When it began", "whose it is"] {
        assert!(begins_with_question(comment), "{comment}");
    }
    for comment in ["Whatsoever", "The lowest position", "`what`"] {
        assert!(!begins_with_question(comment), "{comment}");
    }
}

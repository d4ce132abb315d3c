//! JSON Schemas of a source's events, one file for each event name:
//!
//! ```text
//! schemas = "schemas/billing"
//! schemas/billing/order.paid.json         events order.paid
//! schemas/billing/orders/create.json      events orders/create
//! schemas/billing/parts/address.json      another schema may refer to it: "$ref": "parts/address.json"
//! ```
//!
//! An event without a schema of its name fits. A violation names places in the event and in the
//! schema, never values.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boon::{Compiler, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::event::replace_half_surrogates;

/// Most schema files of one source. Each costs memory for as long as the node runs.
const FILES_MAX: usize = 1_000;
/// Largest schema file that is loaded.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Longest path in a violation; the names in it are the sender's.
const PATH_MAX_CHARS: usize = 200;
/// Base of the schemas' addresses, so that they can refer to each other and to nothing outside.
const BASE: &str = "schemas:///";

/// Consequence of an event that does not fit its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaViolationPolicy {
    /// The event is kept, with a warning.
    #[default]
    Mark,
    /// The call is refused, and stores nothing.
    Refuse,
}

impl SchemaViolationPolicy {
    /// Every policy with its name in a configuration.
    pub const ALL: [(&'static str, Self); 2] = [("mark", Self::Mark), ("refuse", Self::Refuse)];
}

/// Schemas of a source's events, by the name of the event.
#[derive(Clone, Default)]
pub struct EventSchemas {
    compiled: Option<Arc<CompiledSchemas>>,
    /// Consequence of an event that does not fit.
    pub policy: SchemaViolationPolicy,
}

struct CompiledSchemas {
    schemas: Schemas,
    by_event: BTreeMap<String, SchemaIndex>,
}

/// Reason why the schemas in a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EventSchemasError {
    /// The folder or a file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Path of the folder or file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// A file is no JSON.
    #[error("{path} is not JSON, at line {line}")]
    NotJson {
        /// Path of the file below the folder.
        path: PathBuf,
        /// Line of the mistake, counted from 1.
        line: usize,
    },
    /// A file is no schema, or refers to one that is not in the folder.
    #[error("{path} is no JSON Schema, or refers to one outside the folder: {reason}")]
    NotSchema {
        /// Path of the file below the folder.
        path: PathBuf,
        /// Mistake in the words of the validator.
        reason: String,
    },
    /// The folder has no schema.
    #[error("{0} has no .json file")]
    Empty(PathBuf),
    /// The folder has more or larger files than a node loads.
    #[error("{0} has more than 1000 files, or a larger one than 1 MiB")]
    TooLarge(PathBuf),
}

/// Event that does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event does not fit its schema: {place} breaks {rule}{expected}")]
pub struct SchemaViolation {
    /// Place in the event, as a JSON pointer; `/` for the whole event.
    pub place: String,
    /// Place of the rule in the schema, such as `/properties/amount/type`.
    pub rule: String,
    /// Expectation of the rule in words, after a colon; empty if the rule's name says it.
    pub expected: String,
}

/// Loader that finds nothing: a schema must not make the node read other files or the network.
struct ClosedLoader;

impl UrlLoader for ClosedLoader {
    fn load(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        Err("it is not in the folder".into())
    }
}

impl EventSchemas {
    /// Loads every `.json` file below `folder` as the schema of the events that are named like it.
    ///
    /// # Errors
    /// [`EventSchemasError`] for the first file that cannot be used.
    pub fn load(folder: &Path, policy: SchemaViolationPolicy) -> Result<Self, EventSchemasError> {
        let mut files = BTreeMap::new();
        find_files(folder, "", &mut files)?;
        if files.is_empty() {
            return Err(EventSchemasError::Empty(folder.to_owned()));
        }
        if files.len() > FILES_MAX {
            return Err(EventSchemasError::TooLarge(folder.to_owned()));
        }

        let not_schema = |path: &Path, error: &dyn fmt::Display| EventSchemasError::NotSchema {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(ClosedLoader));
        for (event, path) in &files {
            let added = compiler.add_resource(&schema_address(event), read_json(path)?);
            added.map_err(|error| not_schema(path, &error))?;
        }
        let (mut schemas, mut by_event) = (Schemas::new(), BTreeMap::new());
        for (event, path) in files {
            let index = compiler.compile(&schema_address(&event), &mut schemas);
            let index = index.map_err(|error| not_schema(&path, &error))?;
            by_event.insert(event, index);
        }
        let compiled = Arc::new(CompiledSchemas { schemas, by_event });
        Ok(Self {
            compiled: Some(compiled),
            policy,
        })
    }

    /// Checks the event named `event` against its schema, if there is one.
    ///
    /// # Errors
    /// [`SchemaViolation`] with the first place that does not fit.
    pub fn check(&self, event: &str, json: &RawValue) -> Result<(), SchemaViolation> {
        let Some(compiled) = &self.compiled else {
            return Ok(());
        };
        let Some(index) = compiled.by_event.get(event) else {
            return Ok(());
        };
        // Valid JSON may have numbers or depths that no value holds.
        let value: Value =
            serde_json::from_str(&replace_half_surrogates(json.get())).map_err(|_| {
                SchemaViolation {
                    place: "/".to_owned(),
                    rule: "the numbers and depths that can be judged".to_owned(),
                    expected: String::new(),
                }
            })?;
        compiled
            .schemas
            .validate(&value, *index)
            .map_err(|error| describe_violation(&error))
    }
}

impl fmt::Debug for EventSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.compiled.as_ref().map_or(0, |all| all.by_event.len());
        write!(f, "EventSchemas({count}, {:?})", self.policy)
    }
}

fn schema_address(event: &str) -> String {
    let encode = |segment: &str| form_urlencoded::byte_serialize(segment.as_bytes()).collect();
    let path: Vec<String> = event.split('/').map(encode).collect();
    // In a path, a space is no plus sign.
    format!("{BASE}{}.json", path.join("/").replace('+', "%20"))
}

/// Finds the `.json` files in `folder`, with their paths below the first folder, without ending.
fn find_files(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), EventSchemasError> {
    let unreadable = |source| EventSchemasError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (kind, name) = (entry.file_type().map_err(unreadable)?, entry.file_name());
        // Hidden folders hold the versions of a mounted configuration.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        if files.len() > FILES_MAX {
            return Ok(());
        }
        if kind.is_dir() {
            find_files(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else if let Some(event) = name.strip_suffix(".json") {
            files.insert(format!("{prefix}{event}"), entry.path());
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Value, EventSchemasError> {
    let unreadable = |source| EventSchemasError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(EventSchemasError::TooLarge(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    serde_json::from_str(&text).map_err(|error| EventSchemasError::NotJson {
        path: path.to_owned(),
        line: error.line(),
    })
}

/// Names the first place that does not fit: the innermost cause is what a sender has to mend.
fn describe_violation(error: &ValidationError<'_, '_>) -> SchemaViolation {
    let mut innermost = error;
    while let Some(cause) = innermost.causes.first() {
        innermost = cause;
    }
    let place = shorten_path(&innermost.instance_location.to_string());
    let (_, schema) = innermost.schema_url.split_once('#').unwrap_or_default();
    let keyword = innermost.kind.keyword_path();
    let keyword = keyword.map_or_else(String::new, |path| format!("/{}", path.keyword));
    SchemaViolation {
        place: if place.is_empty() {
            "/".to_owned()
        } else {
            place
        },
        rule: format!("{schema}{keyword}"),
        expected: describe_expectation(&innermost.kind)
            .map(|text| shorten_path(&format!(": {text}")))
            .unwrap_or_default(),
    }
}

/// Describes the expectation of a rule by the words of the schema, and the type that was found; by
/// values of the event never. Names of members that the schema does not know are the sender's, as
/// those of places are.
fn describe_expectation(kind: &ErrorKind<'_, '_>) -> Option<String> {
    let list = |names: &[&str]| names.join(", ");
    Some(match kind {
        ErrorKind::Required { want } => format!("without {}", list(want)),
        ErrorKind::Dependency { prop, missing }
        | ErrorKind::DependentRequired { prop, missing } => {
            format!("with {prop}, without {}", list(missing))
        }
        ErrorKind::AdditionalProperties { got } => {
            let names: Vec<_> = got.iter().map(AsRef::as_ref).collect();
            format!("with {}", list(&names))
        }
        ErrorKind::Type { got, want } => {
            let names: Vec<_> = want.iter().map(|name| name.to_string()).collect();
            format!("expected {}, found {got}", names.join(" or "))
        }
        ErrorKind::Enum { want } => {
            let values: Vec<_> = want.iter().map(Value::to_string).collect();
            format!("expected one of {}", values.join(", "))
        }
        ErrorKind::Const { want } => format!("expected {want}"),
        ErrorKind::Format { want, .. } => format!("expected the format {want}"),
        ErrorKind::Pattern { want, .. } => format!("expected {want}"),
        ErrorKind::Minimum { want, .. } => format!("expected at least {want}"),
        ErrorKind::Maximum { want, .. } => format!("expected at most {want}"),
        ErrorKind::ExclusiveMinimum { want, .. } => format!("expected more than {want}"),
        ErrorKind::ExclusiveMaximum { want, .. } => format!("expected less than {want}"),
        ErrorKind::MultipleOf { want, .. } => format!("expected a multiple of {want}"),
        ErrorKind::MinLength { got, want }
        | ErrorKind::MinItems { got, want }
        | ErrorKind::MinProperties { got, want } => {
            format!("expected at least {want}, found {got}")
        }
        ErrorKind::MaxLength { got, want }
        | ErrorKind::MaxItems { got, want }
        | ErrorKind::MaxProperties { got, want } => format!("expected at most {want}, found {got}"),
        // The name of the rule says it, or its text is the library's.
        _ => return None,
    })
}

/// Cuts a path of the sender's names to a length that fits a log line, without control characters.
fn shorten_path(path: &str) -> String {
    path.chars()
        .filter(|character| !character.is_control())
        .take(PATH_MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    const ORDER: &str = r#"{
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string"}, "amount": {"type": "number", "minimum": 0},
                       "address": {"$ref": "parts/address.json"},
                       "code": {"type": "string", "pattern": "^(a+)+$"}}
    }"#;
    const ADDRESS: &str = r#"{"type": "object", "properties": {"zip": {"type": "string"}}}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        folder
    }

    fn load(files: &[(&str, &str)]) -> Result<EventSchemas, EventSchemasError> {
        EventSchemas::load(folder(files).path(), SchemaViolationPolicy::Mark)
    }

    fn check(schemas: &EventSchemas, event: &str, json: &str) -> Result<(), String> {
        let json: &RawValue = serde_json::from_str(json).expect("JSON");
        schemas
            .check(event, json)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_judged_by_the_schema_of_its_name() {
        let files = [
            ("order.paid.json", ORDER),
            ("orders/create.json", ORDER),
            ("Push Hook.json", r#"{"type": "array"}"#),
            ("parts/address.json", ADDRESS),
            ("orders/parts/address.json", ADDRESS),
            ("README.md", "no schema"),
        ];
        let schemas = load(&files).expect("schemas");
        for (event, json) in [
            ("order.paid", r#"{"id": "o1", "amount": 1.5}"#),
            ("order.paid", r#"{"id": "\ud800"}"#),
            ("orders/create", r#"{"id": "o1", "address": {"zip": "1"}}"#),
            ("Push Hook", "[]"),
            ("unknown", "7"),
        ] {
            assert_eq!(check(&schemas, event, json), Ok(()), "{event} {json}");
        }
        for (event, json, place, rule) in [
            ("order.paid", "{}", "/", "/required: without id"),
            (
                "order.paid",
                r#"{"id": 7}"#,
                "/id",
                "/properties/id/type: expected string, found number",
            ),
            (
                "orders/create",
                r#"{"id": "o1", "amount": -1}"#,
                "/amount",
                "/properties/amount/minimum: expected at least 0",
            ),
            (
                "orders/create",
                r#"{"id": "o1", "address": {"zip": 1}}"#,
                "/address/zip",
                "/properties/zip/type: expected string, found number",
            ),
            (
                "Push Hook",
                "{}",
                "/",
                "/type: expected array, found object",
            ),
            (
                "order.paid",
                r#"{"id": "o1", "amount": 1e400}"#,
                "/",
                "the numbers and depths that can be judged",
            ),
        ] {
            let expected = format!("event does not fit its schema: {place} breaks {rule}");
            assert_eq!(
                check(&schemas, event, json),
                Err(expected),
                "{event} {json}"
            );
        }
    }

    #[test]
    fn a_violation_says_what_was_expected_by_the_words_of_the_schema() {
        for (schema, json, expected) in [
            (
                r#"{"enum": ["a", 1]}"#,
                r#""hunter22""#,
                r#"/enum: expected one of "a", 1"#,
            ),
            (
                r#"{"const": true}"#,
                r#""hunter22""#,
                "/const: expected true",
            ),
            (
                r#"{"type": ["null", "integer"]}"#,
                "1.5",
                "expected null or integer, found number",
            ),
            (
                r#"{"maxLength": 3}"#,
                r#""hunter22""#,
                "/maxLength: expected at most 3, found 8",
            ),
            (
                r#"{"properties": {"a": true}, "additionalProperties": false}"#,
                r#"{"b": "hunter22"}"#,
                ": with b",
            ),
            (r#"{"not": {}}"#, r#""hunter22""#, "breaks /not"),
        ] {
            let schemas = load(&[("a.json", schema)]).expect("a schema");
            let text = check(&schemas, "a", json).expect_err("it does not fit");
            assert!(
                text.ends_with(expected) && !text.contains("hunter22"),
                "{schema}: {text}"
            );
        }
    }

    /// The places of a violation are the sender's names, and its values stay out of logs.
    #[test]
    fn a_violation_has_no_values_and_a_bounded_place() {
        let schemas = load(&[("a.json", ORDER), ("parts/address.json", ADDRESS)]).expect("schemas");
        let error = check(&schemas, "a", r#"{"id": "o1", "amount": "hunter22"}"#);
        assert!(error.is_err_and(|text| !text.contains("hunter22")));

        let deep = r#"{"additionalProperties": {"type": "string"}}"#;
        let schemas = load(&[("a.json", deep)]).expect("a schema");
        let name = "n".repeat(5_000);
        let error = check(&schemas, "a", &format!(r#"{{"{name}\u0007": 1}}"#));
        assert!(error.is_err_and(|text| text.len() < 500 && !text.contains('\u{7}')));
    }

    /// A pattern of a schema meets the text of strangers, so it must not backtrack.
    #[test]
    fn a_nested_pattern_takes_no_time() {
        let schemas = load(&[("a.json", ORDER), ("parts/address.json", ADDRESS)]).expect("schemas");
        let code = "a".repeat(100_000) + "!";
        let error = check(
            &schemas,
            "a",
            &format!(r#"{{"id": "o1", "code": "{code}"}}"#),
        );
        assert!(
            error.is_err_and(|text| text.ends_with("/properties/code/pattern: expected ^(a+)+$"))
        );
    }

    #[test]
    fn a_folder_without_usable_schemas_is_refused_with_the_file() {
        for (files, expected) in [
            (&[][..], " has no .json file"),
            (&[("a.json", "{\n\n}}")], "a.json is not JSON, at line 3"),
            (&[("a.json", r#"{"type": 7}"#)], "a.json is no JSON Schema"),
            (
                &[("a.json", r#"{"$ref": "b.json"}"#)],
                "a.json is no JSON Schema, or refers to one outside the folder",
            ),
            (
                &[("a.json", r#"{"$ref": "file:///etc/passwd"}"#)],
                "a.json is no JSON Schema, or refers to one outside the folder",
            ),
        ] {
            let error = load(files).expect_err("unusable").to_string();
            assert!(error.contains(expected), "{error}");
        }
        let missing = EventSchemas::load(Path::new("no/folder"), SchemaViolationPolicy::Mark);
        let error = missing.expect_err("there is none").to_string();
        assert_eq!(error, "no/folder cannot be read");
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_schema_is_compiled_or_refused(
            schema in damaged_text(&[ORDER, r##"{"oneOf":[{"$ref":"#"},{"enum":[1,null]}],"$defs":{"a":{"format":"date"}}}"##]),
            event in damaged_text(&[r#"{"id":"1","amount":2.5,"address":{"zip":"x"},"code":"aaaab"}"#]),
        ) {
            let files = [("order.paid.json", &*schema), ("parts/address.json", ADDRESS)];
            if let (Ok(schemas), Ok(event)) = (load(&files), serde_json::from_str::<&RawValue>(&event)) {
                let _ = schemas.check("order.paid", event).map_err(|violation| violation.to_string());
            }
        }
    }
}

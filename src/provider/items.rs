//! Taking a body apart: the members of the lists that a source names are its events.
//!
//! ```text
//! items = "/entry/*/changes"
//! {"entry": [{"changes": [a, b]}, {"changes": [c]}]}  ──>  a, b, c
//! ```
//!
//! If one list is inside an item of another, as with `/entry` besides, its items take the place of
//! that item. So an item without the inner list is an event itself.

use serde_json::value::RawValue;

use super::pointer::{ItemStep, JsonPointer, step_into};

/// Most events of one call. Known senders put at most 1,000 into one.
pub const ITEMS_MAX: usize = 10_000;

/// Most paths of one source; Meta, which has the most kinds of lists, has 12.
const PATHS_MAX: usize = 16;

/// A body with more items than a call may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body has too many items: one call may have at most {ITEMS_MAX}")]
pub struct TooManyItems;

/// A text that names no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a JSON pointer to a list, such as /events or /entry/*/changes, or \"\"")]
pub struct ItemPathError;

/// Pointer to one or more lists; the step `*` stands for every item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPath(Vec<Box<str>>);

impl ItemPath {
    /// Parses a pointer; the empty text is the body itself, and `/*` at the end means the same as
    /// nothing there.
    ///
    /// # Errors
    /// [`ItemPathError`] for a malformed pointer.
    pub fn parse(text: &str) -> Result<Self, ItemPathError> {
        let text = text.strip_suffix("/*").unwrap_or(text);
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let pointer = JsonPointer::parse(text).ok_or(ItemPathError)?;
        Ok(Self(pointer.steps().map(String::into_boxed_str).collect()))
    }

    /// Returns true if the path leads to a list in `body`, though it has no item.
    fn finds_list(steps: &[Box<str>], value: &RawValue) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return value.get().starts_with('[');
        };
        if **step != *"*" {
            return step_into(value, step).is_some_and(|member| Self::finds_list(rest, member));
        }
        let mut items = list_items(value).into_iter();
        items.any(|item| Self::finds_list(rest, item))
    }

    /// Adds the items at this path to `found`, until one more is found than a call may have.
    fn collect_items<'p, 'a>(&'p self, body: &'a RawValue, found: &mut Vec<BatchItem<'p, 'a>>) {
        let items_max = found.len() + ITEMS_MAX + 1;
        collect_below(&self.0, (body, &[]), items_max, found);
    }
}

/// Value in a body, and the steps that lead to it.
type PlacedValue<'x, 'p, 'a> = (&'a RawValue, &'x [(ItemStep<'p>, &'a RawValue)]);

/// Adds the items that `steps` lead to from the value to `found`, until it has `items_max`. Only items
/// that are found get a path of their own.
fn collect_below<'p, 'a>(
    steps: &'p [Box<str>],
    (value, path): PlacedValue<'_, 'p, 'a>,
    items_max: usize,
    found: &mut Vec<BatchItem<'p, 'a>>,
) {
    match steps.split_first() {
        None => {
            let rest = items_max - found.len();
            let items = list_items(value).into_iter().enumerate().take(rest);
            found.extend(items.map(|(index, json)| BatchItem {
                json,
                path: extend_path(path, ItemStep::Index(index), json),
            }));
        }
        Some((step, rest)) if **step == *"*" => {
            for (index, item) in list_items(value).into_iter().enumerate() {
                if found.len() >= items_max {
                    break;
                }
                let path = extend_path(path, ItemStep::Index(index), item);
                collect_below(rest, (item, &path), items_max, found);
            }
        }
        Some((step, rest)) => {
            if let Some(member) = step_into(value, step) {
                let path = extend_path(path, ItemStep::Name(step), member);
                collect_below(rest, (member, &path), items_max, found);
            }
        }
    }
}

/// Paths of all lists whose items are events; without any, a body is one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemPaths(Vec<ItemPath>);

/// One event in a body, and its place.
#[derive(Clone, Debug)]
pub struct BatchItem<'p, 'a> {
    /// Text of the item, a part of the body.
    pub json: &'a RawValue,
    /// Steps that lead from the body to the item, each with the value that it leads to.
    pub path: Vec<(ItemStep<'p>, &'a RawValue)>,
}

impl ItemPaths {
    /// Lists of a source at `paths`.
    ///
    /// # Errors
    /// [`ItemPathError`] if there are too many of them.
    pub fn try_new(paths: Vec<ItemPath>) -> Result<Self, ItemPathError> {
        (paths.len() <= PATHS_MAX)
            .then_some(Self(paths))
            .ok_or(ItemPathError)
    }

    /// Lists of a preset. A test parses those of all presets; a text that is no path would be left
    /// out.
    #[must_use]
    pub fn from_preset(texts: &[&str]) -> Self {
        Self(
            texts
                .iter()
                .flat_map(|text| ItemPath::parse(text))
                .collect(),
        )
    }

    /// Tells if bodies are not taken apart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the items of `body` in the order of its text, without those that have items inside;
    /// `None` if it has no such list.
    ///
    /// # Errors
    /// [`TooManyItems`].
    pub fn split<'p, 'a>(
        &'p self,
        body: &'a RawValue,
    ) -> Result<Option<Vec<BatchItem<'p, 'a>>>, TooManyItems> {
        let mut found = Vec::new();
        for path in &self.0 {
            let before = found.len();
            path.collect_items(body, &mut found);
            // Items of one path are apart, and each is an event or has events inside.
            if found.len() - before > ITEMS_MAX {
                return Err(TooManyItems);
            }
        }
        // All items are parts of one text, so their addresses tell their order.
        let start = |item: &BatchItem<'_, '_>| item.json.get().as_ptr();
        found.sort_by_key(start);
        found.dedup_by_key(|item| start(item));
        drop_containers(&mut found);
        match found.len() {
            0 => {
                let mut paths = self.0.iter();
                let has_list = paths.any(|path| ItemPath::finds_list(&path.0, body));
                Ok(has_list.then_some(found))
            }
            1..=ITEMS_MAX => Ok(Some(found)),
            _ => Err(TooManyItems),
        }
    }
}

/// Removes each of the sorted `items` in which another one is.
fn drop_containers(items: &mut Vec<BatchItem<'_, '_>>) {
    // An inner item begins after its outer one and before anything that follows that one.
    let mut next_start = None;
    let mut kept: Vec<_> = std::mem::take(items)
        .into_iter()
        .rev()
        .filter(|item| {
            let range = item.json.get().as_bytes().as_ptr_range();
            let follows_it = next_start.is_none_or(|next| next >= range.end);
            next_start = Some(range.start);
            follows_it
        })
        .collect();
    kept.reverse();
    *items = kept;
}

fn extend_path<'p, 'a>(
    path: &[(ItemStep<'p>, &'a RawValue)],
    step: ItemStep<'p>,
    below: &'a RawValue,
) -> Vec<(ItemStep<'p>, &'a RawValue)> {
    path.iter().copied().chain([(step, below)]).collect()
}

/// Returns the items of the list `value`; none for another value.
fn list_items(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_items(paths: &[&str], body: &str) -> Result<Option<Vec<String>>, TooManyItems> {
        let body: &RawValue = serde_json::from_str(body).expect("JSON");
        let paths = ItemPaths::from_preset(paths);
        let text = |item: &BatchItem<'_, '_>| item.json.get().to_owned();
        let items = paths.split(body)?;
        Ok(items.map(|items| items.iter().map(text).collect()))
    }

    fn split(paths: &[&str], body: &str) -> Result<Vec<String>, TooManyItems> {
        find_items(paths, body).map(Option::unwrap_or_default)
    }

    #[test]
    fn items_come_in_the_order_of_the_body() {
        let meta = r#"{"entry": [{"messaging": [1], "changes": [2, 3]}, {"id": 9}, {"changes": [{"a":  4}]}]}"#;
        let both = ["/entry/*/changes", "/entry/*/messaging"];
        assert_eq!(
            split(&both, meta),
            Ok(vec![
                "1".into(),
                "2".into(),
                "3".into(),
                r#"{"a":  4}"#.into()
            ])
        );
        assert_eq!(
            split(&["/entry/*/changes/*", "/entry/*/changes"], meta).map(|all| all.len()),
            Ok(3)
        );
        assert_eq!(split(&[""], "[1, [2]]"), Ok(vec!["1".into(), "[2]".into()]));
        for (path, body) in [
            ("", "{}"),
            ("/a", "[]"),
            ("/a", r#"{"a": {}}"#),
            ("/*/b", "[1]"),
            ("/*/b", r#"{"b": []}"#),
            ("/a/*/b", r#"{"a": []}"#),
        ] {
            assert_eq!(find_items(&[path], body), Ok(None), "{path} {body}");
        }
    }

    /// Such a body was one event, in which nothing was found.
    #[test]
    fn an_empty_list_has_no_items_and_is_a_list_all_the_same() {
        for (path, body) in [
            ("", "[]"),
            ("/a", r#"{"a": []}"#),
            ("/a/*/b", r#"{"a": [{"b": []}, {}]}"#),
        ] {
            assert_eq!(
                find_items(&[path], body),
                Ok(Some(Vec::new())),
                "{path} {body}"
            );
        }
    }

    #[test]
    fn the_items_inside_an_item_take_its_place() {
        let paths = ["/e", "/e/*/c", "/e/*/c/*/m", "/e/*/c/*/s"];
        let table = [
            (
                r#"{"e": [{"c": [{"m": [1, 2], "s": [3]}, {"f": 4}]}, {"g": [5]}]}"#,
                vec!["1", "2", "3", r#"{"f": 4}"#, r#"{"g": [5]}"#],
            ),
            (
                r#"{"e": [{"c": [{"m": []}, 1]}, {"c": []}, [], {"c": {}}]}"#,
                vec![r#"{"m": []}"#, "1", r#"{"c": []}"#, "[]", r#"{"c": {}}"#],
            ),
            (r#"{"e": [{"c": [{"s": [{}]}]}]}"#, vec!["{}"]),
            (r#"{"e": []}"#, vec![]),
        ];
        for (body, expected) in table {
            let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(split(&paths, body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn the_path_to_an_item_is_known() {
        let paths = ItemPaths::from_preset(&["/entry/*/changes"]);
        let body = serde_json::from_str(r#"{"entry": [{}, {"changes": [1, 2]}]}"#).expect("JSON");
        let items = paths.split(body).expect("few").expect("a list");
        let expected = [
            (ItemStep::Name("entry"), r#"[{}, {"changes": [1, 2]}]"#),
            (ItemStep::Index(1), r#"{"changes": [1, 2]}"#),
            (ItemStep::Name("changes"), "[1, 2]"),
            (ItemStep::Index(1), "2"),
        ];
        let path = items[1]
            .path
            .iter()
            .map(|(step, below)| (*step, below.get()));
        assert_eq!(path.collect::<Vec<_>>(), expected);
    }

    /// A body of some hundred thousand items was collected whole, each with its path, and then refused.
    #[test]
    fn what_is_beyond_the_limit_is_not_collected() {
        let body = format!("[{}]", vec!["[0]"; ITEMS_MAX * 3].join(","));
        let body: &RawValue = serde_json::from_str(&body).expect("JSON");
        for path in ["", "/*/*"] {
            let path = ItemPath::parse(path).expect("a path");
            let mut found = Vec::new();
            path.collect_items(body, &mut found);
            assert_eq!(found.len(), ITEMS_MAX + 1);
        }
    }

    #[test]
    fn a_call_has_so_many_items() {
        let body = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert_eq!(
            split(&[""], &body(ITEMS_MAX)).map(|all| all.len()),
            Ok(ITEMS_MAX)
        );
        let error = split(&[""], &body(ITEMS_MAX + 1)).expect_err("one too many");
        assert_eq!(
            error.to_string(),
            "body has too many items: one call may have at most 10000"
        );
        // Entries with one change each are counted once.
        let entries = format!(
            r#"{{"e": [{}]}}"#,
            vec![r#"{"c": [1]}"#; ITEMS_MAX].join(",")
        );
        let paths = ["/e", "/e/*/c"];
        assert_eq!(split(&paths, &entries).map(|all| all.len()), Ok(ITEMS_MAX));
        let many = format!(
            r#"{{"e": [{}]}}"#,
            vec![r#"{"c": [1, 2]}"#; ITEMS_MAX / 2 + 1].join(",")
        );
        assert_eq!(split(&paths, &many), Err(TooManyItems));
        for text in ["a", "/a~", "*"] {
            assert_eq!(ItemPath::parse(text), Err(ItemPathError), "{text}");
        }
    }
}

//! Text from outside, made safe and aligned for a terminal.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::event::{ID_MAX_BYTES, is_invisible_mark};

/// Longest shown name, in characters: the longest id of an entity.
const SHOWN_MAX: usize = ID_MAX_BYTES;

/// Shortens `text` for one line and replaces control characters, which a terminal would execute, and
/// marks that show text in another order.
pub(super) fn sanitize_text(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .map(|c| if is_invisible_mark(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Returns a JSON value as one short text; null is empty.
pub(super) fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => sanitize_text(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(cell_text).collect();
            sanitize_text(&items.join(","))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => sanitize_text(&value.to_string()),
    }
}

/// Returns a remote entity as `kind/id`, with its sequence if there is one.
pub(super) fn entity_text(entity: &Value) -> String {
    let (kind, id) = (cell_text(&entity["kind"]), cell_text(&entity["id"]));
    match &entity["sequence"] {
        Value::Null if kind.is_empty() => String::new(),
        Value::Null => format!("{kind}/{id}"),
        sequence => format!("{kind}/{id} #{sequence}"),
    }
}

/// Prints a notice to standard error, away from the output. Errors are ignored: without a terminal
/// there is no reader.
pub(super) fn print_notice(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints the `items` of a list: as JSON lines, as a table, or that there are no such `things`.
pub(super) fn print_list<const N: usize>(
    items: &[Value],
    is_json: bool,
    things: &str,
    (heading, row): ([&str; N], impl Fn(&Value) -> [String; N]),
    out: &mut impl Write,
) -> io::Result<()> {
    if is_json {
        return items.iter().try_for_each(|item| writeln!(out, "{item}"));
    }
    if items.is_empty() {
        return writeln!(out, "there are no such {things}");
    }
    let rows: Vec<_> = items.iter().map(row).collect();
    print_table(heading, &rows, out)
}

/// Prints rows under a heading, in columns as wide as needed.
pub(super) fn print_table<const N: usize>(
    heading: [&str; N],
    rows: &[[String; N]],
    out: &mut impl Write,
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut print_row = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())
    };
    print_row(heading)?;
    rows.iter()
        .try_for_each(|row| print_row(row.each_ref().map(String::as_str)))
}

/// Prints the members of an object that are not null, one on each line; nested ones indented.
pub(super) fn print_members(object: &Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
    let shown = object.iter().filter(|(_, value)| !value.is_null());
    let width = shown.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in shown {
        match value {
            Value::Object(_) => {
                // JSON escapes control characters.
                let text = format!("{value:#}").replace('\n', "\n  ");
                writeln!(out, "{name}\n  {text}")?;
            }
            // A line for each text, since a list of sentences has commas in them.
            Value::Array(items) if items.iter().all(Value::is_string) => {
                for item in items {
                    writeln!(out, "{name:<width$}  {}", cell_text(item))?;
                }
            }
            _ => writeln!(out, "{name:<width$}  {}", cell_text(value))?,
        }
    }
    Ok(())
}

/// Prints one answer: as JSON in one line for a script, else its members for a person.
pub(super) fn print_answer(answer: &Value, is_json: bool, out: &mut impl Write) -> io::Result<()> {
    match answer {
        Value::Object(members) if !is_json => print_members(members, out),
        _ => writeln!(out, "{answer}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("memory to write to");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn rows_stand_under_their_headings_and_execute_nothing() {
        let rows = [
            [cell_text(&json!(7)), cell_text(&json!("a\u{1b}[2Jb"))],
            [cell_text(&json!(1042)), cell_text(&json!(["x", "y"]))],
        ];
        assert_eq!(
            printed(|out| print_table(["ID", "EVENTS"], &rows, out)),
            "ID    EVENTS\n7     a\u{fffd}[2Jb\n1042  x,y\n"
        );
    }

    #[test]
    fn no_mark_turns_text_around() {
        let name = "invoice\u{202e}fdp.exe\u{2066}x";
        assert_eq!(sanitize_text(name), "invoice\u{fffd}fdp.exe\u{fffd}x");
    }

    #[test]
    fn an_answer_is_shown_by_its_members_and_to_a_script_as_it_came() {
        let answer =
            json!({"id": 7, "reason": null, "entity": {"kind": "ticket"}, "status": "a\nb"});
        assert_eq!(
            printed(|out| print_answer(&answer, false, out)),
            "id      7\nentity\n  {\n    \"kind\": \"ticket\"\n  }\nstatus  a\u{fffd}b\n"
        );
        assert_eq!(
            printed(|out| print_answer(&answer, true, out)),
            format!("{answer}\n")
        );
        assert_eq!(
            entity_text(&json!({"kind": "ticket", "id": "T-1", "sequence": 3})),
            "ticket/T-1 #3"
        );
        assert_eq!(entity_text(&Value::Null), "");
    }
}

//! Syntax errors of expressions, in the words of the people who write expressions.

/// Prefix of the parser's syntax errors. The rest of such a message lists tokens of its grammar,
/// which helps nobody.
const SYNTAX_ERROR_PREFIX: &str = "Syntax error: ";
/// Longest message about a syntax error, in characters.
const SHOWN_CHARS: usize = 300;
/// Longest part of an expression that a message quotes, in characters.
const TOKEN_CHARS: usize = 40;

/// Operators of other languages, each with its equivalent in CEL.
const FOREIGN_OPERATORS: [(&str, &str); 5] = [
    ("=", "=="),
    ("&", "&&"),
    ("|", "||"),
    ("===", "=="),
    ("!==", "!="),
];

/// Describes the error in `text` at `line` and `column`, both from 1, where the parser stopped with
/// `message`.
pub(super) fn describe_parse_error(
    text: &str,
    (line, column): (usize, usize),
    message: &str,
) -> String {
    if !message.starts_with(SYNTAX_ERROR_PREFIX) {
        return message.chars().take(SHOWN_CHARS).collect();
    }

    let line_text = text.split('\n').nth(line - 1).unwrap_or_default();
    let rest = line_text
        .char_indices()
        .nth(column - 1)
        .map_or("", |(at, _)| &line_text[at..]);
    let found = first_token(rest.trim_end());
    let equivalent = FOREIGN_OPERATORS
        .iter()
        .find(|(foreign, _)| *foreign == found)
        .map(|(_, equivalent)| *equivalent);

    match (found.as_str(), equivalent) {
        ("", _) => "ends too early".to_owned(),
        (found, Some(meant)) => format!("unexpected {found:?}, did you mean {meant:?}?"),
        ("\"" | "'", None) => "unterminated string".to_owned(),
        (found, None) => format!("unexpected {found:?}"),
    }
}

/// Returns the first token in `rest`: a word, a number, a string or an operator. Of an unterminated
/// string, returns its quotation mark.
fn first_token(rest: &str) -> String {
    let Some(first) = rest.chars().next() else {
        return String::new();
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let is_operator = |c: char| "=!<>&|".contains(c);
    let length = match first {
        '"' | '\'' => rest[1..].find(first).map_or(1, |end| end + 2),
        c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        c if is_operator(c) => rest.find(|c| !is_operator(c)).unwrap_or(rest.len()),
        other => other.len_utf8(),
    };
    rest[..length].chars().take(TOKEN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::FilterExpression;

    #[test]
    fn a_syntax_error_quotes_the_text_at_its_position() {
        for (text, expected) in [
            ("data.name ==", "line 1, column 13: ends too early"),
            ("data.a == (1 + 2", "line 1, column 17: ends too early"),
            ("late &&\n", "line 2, column 1: ends too early"),
            (
                "data.tags.exists(tag, ",
                "line 1, column 23: ends too early",
            ),
            (
                "data.a = 1",
                r#"line 1, column 8: unexpected "=", did you mean "=="?"#,
            ),
            (
                "late & true",
                r#"line 1, column 6: unexpected "&", did you mean "&&"?"#,
            ),
            ("late and true", r#"line 1, column 6: unexpected "and""#),
            ("late)", r#"line 1, column 5: unexpected ")""#),
            ("* late", r#"line 1, column 1: unexpected "*""#),
            ("late 'x y'", r#"line 1, column 6: unexpected "'x y'""#),
            ("data.a == 'x", "line 1, column 11: unterminated string"),
            ("\"ä\" == data.ö", r#"line 1, column 13: unexpected "ö""#),
            ("data.a == #1", r##"line 1, column 11: unexpected "#""##),
        ] {
            let error = FilterExpression::compile(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn no_syntax_error_names_tokens_of_the_grammar() {
        let whole = "has(data.a) ? [1, 2].map(x, x > 1, {'k': x}) : data[\"b\"].size() == -1.5e3";
        for end in (1..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            for text in [
                whole[..end].to_owned(),
                format!("{} ) {}", &whole[..end], &whole[end..]),
            ] {
                if let Err(error) = FilterExpression::compile(&text) {
                    let message = error.to_string();
                    assert!(
                        !message.contains("expecting")
                            && !message.contains("EOF")
                            && !message.contains("input '"),
                        "{message}"
                    );
                }
            }
        }
    }
}

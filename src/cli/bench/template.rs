//! Templates of requests: text with places for an event's entity, number, key and payload, and for
//! the URL of a receiver.

/// Place in a template, with its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TemplatePlace {
    Entity,
    Number,
    Key,
    Payload,
    ReceiverUrl,
}

const PLACES: [(&str, TemplatePlace); 5] = [
    ("{entity}", TemplatePlace::Entity),
    ("{number}", TemplatePlace::Number),
    ("{key}", TemplatePlace::Key),
    ("{payload}", TemplatePlace::Payload),
    ("{receiver_url}", TemplatePlace::ReceiverUrl),
];

/// Values of the places. None of them needs escaping in JSON or in a URL, except the payload's
/// spaces in a URL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TemplateValues<'a> {
    pub(super) entity: &'a str,
    pub(super) number: u32,
    pub(super) key: &'a str,
    pub(super) payload: &'a str,
    pub(super) receiver_url: &'a str,
}

/// Parsed template: pieces of text, each followed by a place.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestTemplate {
    parts: Vec<(String, TemplatePlace)>,
    end: String,
}

/// Error of a template that names an environment variable.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable {0} is not set")]
pub(in crate::cli) struct MissingVariable(String);

impl RequestTemplate {
    /// Parses `text`. `${NAME}` is replaced by the environment variable, so that no secret has to be
    /// in a file. Other braces are text, as in JSON.
    ///
    /// # Errors
    /// Fails if a variable is not set.
    pub(super) fn parse(
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, MissingVariable> {
        let text = fill_variables(text, variable)?;
        let (mut parts, mut rest) = (Vec::new(), text.as_str());
        loop {
            let next = PLACES
                .iter()
                .filter_map(|(name, place)| Some((rest.find(name)?, *name, *place)))
                .min_by_key(|(at, ..)| *at);
            let Some((at, name, place)) = next else {
                let end = rest.to_owned();
                return Ok(Self { parts, end });
            };
            parts.push((rest[..at].to_owned(), place));
            rest = &rest[at + name.len()..];
        }
    }

    /// Writes the text with all places filled to the end of `out`.
    pub(super) fn render(&self, values: &TemplateValues<'_>, out: &mut String) {
        use std::fmt::Write;

        for (text, place) in &self.parts {
            out.push_str(text);
            match place {
                TemplatePlace::Entity => out.push_str(values.entity),
                // Writing to a string does not fail.
                TemplatePlace::Number => {
                    let _ = write!(out, "{}", values.number);
                }
                TemplatePlace::Key => out.push_str(values.key),
                TemplatePlace::Payload => out.push_str(values.payload),
                TemplatePlace::ReceiverUrl => out.push_str(values.receiver_url),
            }
        }
        out.push_str(&self.end);
    }

    /// Returns the text with all places filled.
    pub(super) fn to_text(&self, values: &TemplateValues<'_>) -> String {
        let mut text = String::new();
        self.render(values, &mut text);
        text
    }
}

fn fill_variables(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, MissingVariable> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        filled += before;
        filled += &variable(name).ok_or_else(|| MissingVariable(name.to_owned()))?;
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "t-1".to_owned())
    }

    #[test]
    fn places_and_variables_are_filled_and_other_braces_stay() {
        let text = r#"{"e":"{entity}","n":{number},"k":"{key}","p":{"t":"{payload}"},"a":"${TOKEN}","x":"{other}"}"#;
        let template = RequestTemplate::parse(text, variable).expect("all are set");
        let values = TemplateValues {
            entity: "b-7",
            number: 12,
            key: "b-7-12",
            payload: "some text",
            receiver_url: "",
        };
        let expected =
            r#"{"e":"b-7","n":12,"k":"b-7-12","p":{"t":"some text"},"a":"t-1","x":"{other}"}"#;
        assert_eq!(template.to_text(&values), expected);
        let plain = RequestTemplate::parse("no place", variable).expect("none is needed");
        assert_eq!(plain.to_text(&values), "no place");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = RequestTemplate::parse("Bearer ${OTHER}", variable).expect_err("not set");
        assert!(error.to_string().contains("OTHER"), "{error}");
    }
}

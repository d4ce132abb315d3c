//! Text templates with named places, such as `https://example.com/people/{cpf}`.

use std::borrow::Cow;

/// Text with named places. It is parsed and checked once, then filled in as often as needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTemplate(Vec<TextTemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TextTemplatePart {
    Text(String),
    Place(String),
}

impl TextTemplate {
    /// Parses `text`, in which `{name}` is a place and `{{` and `}}` stand for one brace each.
    ///
    /// # Errors
    /// Describes the expected text, for an operator: a brace is unbalanced, or `known` is false for
    /// a place.
    pub fn parse(text: &str, known: impl Fn(&str) -> bool) -> Result<Self, String> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = rest
                .split_once('}')
                .filter(|_| brace == "{")
                .ok_or("every { closed by a }, or doubled")?;
            if !known(name) {
                return Err(format!("known places, found {{{name}}}"));
            }
            parts.extend([
                TextTemplatePart::Text(std::mem::take(&mut literal)),
                TextTemplatePart::Place(name.to_owned()),
            ]);
            rest = after;
        }
        literal.push_str(rest);
        parts.push(TextTemplatePart::Text(literal));
        Ok(Self(parts))
    }

    /// Tells if the template contains the place `name`.
    #[must_use]
    pub fn has_place(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|part| matches!(part, TextTemplatePart::Place(place) if place == name))
    }

    /// Returns the text, with each place replaced by the result of `value`.
    pub fn fill<'v>(&self, value: impl Fn(&str) -> Cow<'v, str>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                TextTemplatePart::Text(literal) => text.push_str(literal),
                TextTemplatePart::Place(name) => text.push_str(&value(name)),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    fn filled(text: &str) -> Result<String, String> {
        let template = TextTemplate::parse(text, |name| name != "unknown")?;
        Ok(template.fill(|name| format!("<{name}>").into()))
    }

    #[test]
    fn places_are_filled_in_and_doubled_braces_are_braces() {
        assert_eq!(filled("a{x}b{y.z}{x}").as_deref(), Ok("a<x>b<y.z><x>"));
        assert_eq!(filled("{{\"a\": {x}}}").as_deref(), Ok("{\"a\": <x>}"));
        assert_eq!(filled("").as_deref(), Ok(""));
        assert!(
            TextTemplate::parse("{x}", |_| true)
                .expect("right")
                .has_place("x")
        );
        assert!(
            !TextTemplate::parse("x", |_| true)
                .expect("right")
                .has_place("x")
        );
    }

    #[test]
    fn template_errors_name_the_problem() {
        for text in ["{", "a}", "{x", "}{", "{x}}"] {
            assert_eq!(
                filled(text).expect_err("unbalanced"),
                "every { closed by a }, or doubled",
                "{text}"
            );
        }
        assert_eq!(
            filled("{unknown}").expect_err("unknown"),
            "known places, found {unknown}"
        );
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_template_is_parsed_or_refused(text in damaged_text(&["a{x}b{y.z}{{{x}}}", "{lead_id}: {customer.name} }}{{"])) {
            let _ = filled(&text);
        }
    }
}

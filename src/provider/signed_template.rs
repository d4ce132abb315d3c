//! What a signature covers, written as a template: `{timestamp}.{body}`.

use std::borrow::Cow;
use std::fmt;

use super::no_claim::ClaimError;
use super::request::RequestView;

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedContentPart {
    /// These very characters.
    Literal(Cow<'static, str>),
    /// The body's bytes as they came.
    Body,
    /// The text of the timestamp header.
    Timestamp,
    /// The text of the id header.
    Id,
    /// The method, in capitals.
    Method,
    /// The whole URL.
    Url,
}

/// The placeholders and what they stand for.
const PLACEHOLDERS: [(&str, SignedContentPart); 5] = [
    ("body", SignedContentPart::Body),
    ("timestamp", SignedContentPart::Timestamp),
    ("id", SignedContentPart::Id),
    ("method", SignedContentPart::Method),
    ("url", SignedContentPart::Url),
];

/// What is wrong with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedTemplateError {
    /// A placeholder that there is not, or a brace that is not closed.
    #[error(
        "expected text with {{body}}, {{timestamp}}, {{id}}, {{method}} or {{url}} in it, and no other braces"
    )]
    Placeholder,
    /// A template without the body.
    #[error("expected {{body}} in it, without which any body would fit the signature")]
    NoBody,
}

/// The signed content, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTemplate(Cow<'static, [SignedContentPart]>);

impl SignedTemplate {
    /// The body and nothing else.
    pub const BODY: Self = Self::from_static(&[SignedContentPart::Body]);

    /// A template that is known to be good.
    #[must_use]
    pub const fn from_static(parts: &'static [SignedContentPart]) -> Self {
        Self(Cow::Borrowed(parts))
    }

    /// Reads a template.
    ///
    /// # Errors
    /// [`BadTemplate`].
    pub fn parse(text: &str) -> Result<Self, SignedTemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once('{') {
            push_literal(&mut parts, before)?;
            let (name, after) = from
                .split_once('}')
                .ok_or(SignedTemplateError::Placeholder)?;
            let known = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
            parts.push(known.ok_or(SignedTemplateError::Placeholder)?.1.clone());
            rest = after;
        }
        push_literal(&mut parts, rest)?;
        let template = Self(parts.into());
        if template.has_part(&SignedContentPart::Body) {
            Ok(template)
        } else {
            Err(SignedTemplateError::NoBody)
        }
    }

    /// Whether `part` is in it.
    #[must_use]
    pub fn has_part(&self, part: &SignedContentPart) -> bool {
        self.0.contains(part)
    }

    /// The content that it stands for in `request`; `timestamp` and `id` are the values of those
    /// headers.
    pub(super) fn fill<'r>(
        &self,
        request: &RequestView<'r>,
        timestamp: Option<&'r str>,
        id: Option<&'r str>,
    ) -> Result<Vec<Cow<'r, [u8]>>, ClaimError> {
        let header = |value: Option<&'r str>, what: &'static str| {
            value
                .map(|text| Cow::Borrowed(text.as_bytes()))
                .ok_or(ClaimError::NoHeader(what.to_owned()))
        };
        let piece = |part: &SignedContentPart| match part {
            SignedContentPart::Literal(text) => Ok(Cow::Owned(text.as_bytes().to_vec())),
            SignedContentPart::Body => Ok(Cow::Borrowed(request.body)),
            SignedContentPart::Timestamp => header(timestamp, "for the timestamp"),
            SignedContentPart::Id => header(id, "for the id"),
            SignedContentPart::Method => Ok(Cow::Borrowed(request.method.as_bytes())),
            SignedContentPart::Url => Ok(Cow::Borrowed(request.url.as_bytes())),
        };
        self.0.iter().map(piece).collect()
    }
}

fn push_literal(parts: &mut Vec<SignedContentPart>, text: &str) -> Result<(), SignedTemplateError> {
    if text.contains('}') {
        return Err(SignedTemplateError::Placeholder);
    }
    if !text.is_empty() {
        parts.push(SignedContentPart::Literal(text.to_owned().into()));
    }
    Ok(())
}

impl fmt::Display for SignedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            SignedContentPart::Literal(text) => f.write_str(text),
            named => {
                let name = PLACEHOLDERS
                    .iter()
                    .find(|(_, part)| part == named)
                    .map_or("", |(name, _)| name);
                write!(f, "{{{name}}}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Option<String> {
        let request = RequestView {
            method: "POST",
            url: "https://x.test/?a=1",
            headers: Vec::new(),
            body: b"{}",
        };
        let pieces = SignedTemplate::parse(template).expect("a template").fill(
            &request,
            Some("17"),
            Some("m1"),
        );
        pieces
            .ok()
            .map(|pieces| String::from_utf8(pieces.concat()).expect("text"))
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        assert_eq!(filled("{body}").as_deref(), Some("{}"));
        assert_eq!(filled("v0:{timestamp}:{body}").as_deref(), Some("v0:17:{}"));
        assert_eq!(
            filled("{id}.{timestamp}.{body}").as_deref(),
            Some("m1.17.{}")
        );
        assert_eq!(
            filled("{method}{url}{body}{timestamp}!").as_deref(),
            Some("POSThttps://x.test/?a=1{}17!")
        );
    }

    #[test]
    fn a_template_shows_itself_as_it_was_written() {
        for text in [
            "{body}",
            "v0:{timestamp}:{body}",
            "{id}.{method}{url}{body}\n",
        ] {
            assert_eq!(
                SignedTemplate::parse(text).expect("a template").to_string(),
                text
            );
        }
    }

    #[test]
    fn what_does_not_sign_the_body_is_no_template() {
        for text in ["", "body", "{timestamp}", "v0:{url}"] {
            assert_eq!(
                SignedTemplate::parse(text),
                Err(SignedTemplateError::NoBody),
                "{text}"
            );
        }
        for text in [
            "{bdy}", "{body", "body}", "{body}}", "{{body}}", "{ body }", "{}",
        ] {
            assert_eq!(
                SignedTemplate::parse(text),
                Err(SignedTemplateError::Placeholder),
                "{text}"
            );
        }
    }
}

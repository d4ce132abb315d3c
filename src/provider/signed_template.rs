//! Template of the content that a signature covers, such as `{timestamp}.{body}`.

use std::borrow::Cow;
use std::fmt;

use super::claim_error::ClaimError;
use super::request::RequestView;
use super::signed_content::{SignedContent, SignedPartRole};

/// One part of the signed content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedContentPart {
    /// Characters of the template itself.
    Literal(Cow<'static, str>),
    /// Bytes of the body as they were received.
    Body,
    /// Value of the timestamp header, as text.
    Timestamp,
    /// Value of the id header, as text.
    Id,
    /// Method of the request, in capitals.
    Method,
    /// Whole URL that the sender called.
    Url,
}

impl SignedContentPart {
    /// Returns true if nothing tells where this part ends and `next` begins, so that a signature
    /// would hold for other values too. A time and a URL beside the body are told apart for each
    /// request; an id is not.
    fn joins(&self, next: &Self) -> bool {
        let is_marked = |part: &Self| matches!(part, Self::Literal(_) | Self::Body);
        let is_method_and_url = matches!((self, next), (Self::Method, Self::Url));
        match (self, next) {
            (Self::Body, Self::Body) | (Self::Id, Self::Body) | (Self::Body, Self::Id) => true,
            // A digit beside a time is a digit of the time.
            (Self::Timestamp, Self::Literal(text)) => {
                text.starts_with(|c: char| c.is_ascii_digit())
            }
            (Self::Literal(text), Self::Timestamp) => text.ends_with(|c: char| c.is_ascii_digit()),
            _ => !is_marked(self) && !is_marked(next) && !is_method_and_url,
        }
    }

    fn role(&self) -> SignedPartRole {
        match self {
            Self::Literal(_) => SignedPartRole::Literal,
            Self::Body => SignedPartRole::Body,
            Self::Timestamp => SignedPartRole::Time,
            Self::Id => SignedPartRole::Header,
            Self::Method => SignedPartRole::Method,
            Self::Url => SignedPartRole::Url,
        }
    }
}

/// Names of the placeholders, each with its part.
const PLACEHOLDERS: [(&str, SignedContentPart); 5] = [
    ("body", SignedContentPart::Body),
    ("timestamp", SignedContentPart::Timestamp),
    ("id", SignedContentPart::Id),
    ("method", SignedContentPart::Method),
    ("url", SignedContentPart::Url),
];

/// Reason why a template is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedTemplateError {
    /// The template has an unknown placeholder or an unbalanced brace.
    #[error(
        "expected text with {{body}}, {{timestamp}}, {{id}}, {{method}} or {{url}} in it, \
         and no other braces"
    )]
    Placeholder,
    /// The template does not cover the body.
    #[error("expected {{body}} in it, since the signature must cover the body")]
    NoBody,
    /// Two placeholders without text between them, whose values could be cut elsewhere.
    #[error(
        "expected text without digits at its ends between two placeholders for headers, and between \
         {{id}} and {{body}}, or one signature fits many values"
    )]
    Joined,
}

/// Parts of the signed content, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTemplate(Cow<'static, [SignedContentPart]>);

impl SignedTemplate {
    /// Template of a signature over the body alone.
    pub const BODY: Self = Self::from_static(&[SignedContentPart::Body]);

    /// Template of parts that are known to include the body.
    #[must_use]
    pub const fn from_static(parts: &'static [SignedContentPart]) -> Self {
        Self(Cow::Borrowed(parts))
    }

    /// Parses a template.
    ///
    /// # Errors
    /// [`SignedTemplateError`] for unknown placeholders, unbalanced braces, or no `{body}`.
    pub fn parse(text: &str) -> Result<Self, SignedTemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, placeholder)) = rest.split_once('{') {
            push_literal(&mut parts, before)?;
            let (name, after) = placeholder
                .split_once('}')
                .ok_or(SignedTemplateError::Placeholder)?;
            let known = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
            parts.push(known.ok_or(SignedTemplateError::Placeholder)?.1.clone());
            rest = after;
        }
        push_literal(&mut parts, rest)?;
        let template = Self(parts.into());
        if !template.has_part(&SignedContentPart::Body) {
            return Err(SignedTemplateError::NoBody);
        }
        if template.0.windows(2).any(|pair| pair[0].joins(&pair[1])) {
            return Err(SignedTemplateError::Joined);
        }
        Ok(template)
    }

    /// Returns true if the template contains `part`.
    #[must_use]
    pub fn has_part(&self, part: &SignedContentPart) -> bool {
        self.0.contains(part)
    }

    /// Fills the template with the parts of `request`; `timestamp` and `id` are the values of those
    /// two headers.
    pub(super) fn fill<'r>(
        &self,
        request: &RequestView<'r>,
        timestamp: Option<&'r str>,
        id: Option<&'r str>,
    ) -> Result<SignedContent<'r>, ClaimError> {
        let header = |value: Option<&'r str>, missing: &'static str| {
            value
                .map(|text| Cow::Borrowed(text.as_bytes()))
                .ok_or(ClaimError::NoHeader(missing.to_owned()))
        };
        let bytes = |part: &SignedContentPart| match part {
            SignedContentPart::Literal(text) => Ok(Cow::Owned(text.as_bytes().to_vec())),
            SignedContentPart::Body => Ok(Cow::Borrowed(request.body)),
            SignedContentPart::Timestamp => header(timestamp, "for the timestamp"),
            SignedContentPart::Id => header(id, "for the id"),
            SignedContentPart::Method => Ok(Cow::Borrowed(request.method.as_bytes())),
            SignedContentPart::Url => Ok(Cow::Borrowed(request.url.as_bytes())),
        };
        let parts = self.0.iter();
        parts.map(|part| Ok((part.role(), bytes(part)?))).collect()
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
            .map(|pieces| String::from_utf8(pieces.bytes().concat()).expect("text"))
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
    fn placeholders_whose_values_run_together_are_refused() {
        for text in [
            "{id}{timestamp}{body}",
            "{body}{timestamp}{id}",
            "{url}{id}.{body}",
            "{body}{body}",
            "{id}{body}",
            "{body}{id}",
            "{id}.{timestamp}1{body}",
            "{body}0{timestamp}",
        ] {
            assert_eq!(
                SignedTemplate::parse(text),
                Err(SignedTemplateError::Joined),
                "{text}"
            );
        }
        for text in [
            "{method}{url}{body}{timestamp}",
            "{timestamp}{body}",
            "{id}.{timestamp}.{body}",
        ] {
            assert!(SignedTemplate::parse(text).is_ok(), "{text}");
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

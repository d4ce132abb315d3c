//! Forms of the header that carries signatures: a list, or named parts beside the time.
//!
//! ```text
//! sha256=<signature>              list: each signature after a prefix, separated by commas
//! t=<time>,v1=<signature>         parts, as the template t={timestamp},v1={signature} describes
//! ts=<time>;h1=<signature>        the same with other names and another separator
//! ```
//!
//! A header that a request has several times is one longer list.

use std::borrow::Cow;
use std::fmt;

use super::encoding::SignatureEncoding;
use super::signature_claim::SIGNATURES_MAX;

/// Form of the header that carries signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureHeaderForm {
    /// Signatures separated by commas, each after the prefix, which may be empty.
    List {
        /// Text before each signature, such as `sha256=`.
        prefix: Cow<'static, str>,
    },
    /// Named parts, of which some are signatures and one may be the time.
    Parts(SignatureHeaderParts),
}

/// Signatures of a header, and the time if the header carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignatureHeaderContent<'r> {
    /// Decoded bytes of each signature; never empty.
    pub(super) signatures: Vec<Vec<u8>>,
    /// Time as the sender spells it.
    pub(super) time: Option<&'r str>,
}

impl SignatureHeaderForm {
    /// Returns true if the header carries the signed time.
    #[must_use]
    pub fn has_time(&self) -> bool {
        match self {
            Self::List { .. } => false,
            Self::Parts(parts) => parts.time.is_some(),
        }
    }

    /// Reads the header whose values are `lines`; `None` without a signature in `encoding`, or
    /// without the one time that the form has.
    pub(super) fn read_lines<'r>(
        &self,
        lines: &[&'r str],
        encoding: SignatureEncoding,
    ) -> Option<SignatureHeaderContent<'r>> {
        let content = match self {
            Self::List { prefix } => SignatureHeaderContent {
                signatures: lines
                    .iter()
                    .flat_map(|line| line.split(','))
                    .filter_map(|text| strip_prefix_ignore_case(text.trim(), prefix))
                    .filter_map(|text| encoding.decode(text))
                    .take(SIGNATURES_MAX)
                    .collect(),
                time: None,
            },
            Self::Parts(parts) => parts.read_lines(lines, encoding)?,
        };
        (!content.signatures.is_empty()).then_some(content)
    }

    /// Describes a header of this form with a signature in `encoding`, for errors.
    pub(super) fn describe(&self, encoding: SignatureEncoding) -> String {
        let signature = format!("a signature in {}", encoding.name());
        match self {
            Self::List { prefix } if prefix.is_empty() => signature,
            Self::List { prefix } => format!("`{prefix}` and {signature}"),
            Self::Parts(parts) => format!("`{parts}` with {signature}"),
        }
    }
}

/// Text that describes no named parts of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected named parts such as t={{timestamp}},v1={{signature}}: one separator, one {{signature}} \
     or more, one {{timestamp}} at most"
)]
pub struct SignatureHeaderPartsError;

/// Named parts of a header, such as `t=…,v1=…`. Other parts are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeaderParts {
    separator: char,
    mark: char,
    time: Option<Cow<'static, str>>,
    signatures: Cow<'static, [Cow<'static, str>]>,
}

impl SignatureHeaderParts {
    /// Parts `name=value` between `separator`: the time under the name `time`, the signatures under
    /// `signatures`.
    #[must_use]
    pub const fn from_static(
        separator: char,
        time: &'static str,
        signatures: &'static [Cow<'static, str>],
    ) -> Self {
        Self {
            separator,
            mark: '=',
            time: Some(Cow::Borrowed(time)),
            signatures: Cow::Borrowed(signatures),
        }
    }

    /// Parses a template such as `t={timestamp},v1={signature}`.
    ///
    /// # Errors
    /// [`SignatureHeaderPartsError`] for other text.
    pub fn parse(template: &str) -> Result<Self, SignatureHeaderPartsError> {
        let (mut separator, mut mark) = (None, None);
        let (mut time, mut signatures) = (None, Vec::new());
        let mut rest = template;
        while let Some((before, placeholder)) = rest.split_once('{') {
            let (role, after) = placeholder
                .split_once('}')
                .ok_or(SignatureHeaderPartsError)?;
            let is_first = time.is_none() && signatures.is_empty();
            let name = if is_first {
                before
            } else {
                strip_same_mark(before, &mut separator, |text| text.chars().next())?.trim_start()
            };
            let name = strip_same_mark(name, &mut mark, |text| text.chars().next_back())?;
            if name.is_empty() || !name.chars().all(is_name_character) {
                return Err(SignatureHeaderPartsError);
            }
            match role {
                "signature" => signatures.push(Cow::Owned(name.to_owned())),
                "timestamp" if time.is_none() => time = Some(Cow::Owned(name.to_owned())),
                _ => return Err(SignatureHeaderPartsError),
            }
            rest = after;
        }
        let mark = mark.ok_or(SignatureHeaderPartsError)?;
        let separator = separator.unwrap_or(',');
        if !rest.is_empty() || signatures.is_empty() || separator == mark {
            return Err(SignatureHeaderPartsError);
        }
        Ok(Self {
            separator,
            mark,
            time,
            signatures: signatures.into(),
        })
    }

    fn read_lines<'r>(
        &self,
        lines: &[&'r str],
        encoding: SignatureEncoding,
    ) -> Option<SignatureHeaderContent<'r>> {
        let parts = || {
            lines
                .iter()
                .flat_map(|line| line.split(self.separator))
                .filter_map(|part| part.trim().split_once(self.mark))
        };
        let signatures = parts()
            .filter(|(name, _)| self.signatures.iter().any(|known| known == name))
            .filter_map(|(_, text)| encoding.decode(text))
            .take(SIGNATURES_MAX)
            .collect();

        // Of two different times, only one can be signed.
        let time = match &self.time {
            Some(name) => {
                let mut times = parts().filter(|(other, _)| other == name);
                let (_, first) = times.next()?;
                times.all(|(_, other)| other == first).then_some(())?;
                Some(first)
            }
            None => None,
        };
        Some(SignatureHeaderContent { signatures, time })
    }
}

impl fmt::Display for SignatureHeaderParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            separator,
            mark,
            time,
            signatures,
        } = self;
        if let Some(time) = time {
            write!(f, "{time}{mark}…{separator}")?;
        }
        let names: Vec<_> = signatures
            .iter()
            .map(|name| format!("{name}{mark}…"))
            .collect();
        f.write_str(&names.join(&separator.to_string()))
    }
}

/// Removes from `text` the mark that `pick` finds at one of its ends. It must not belong to a name,
/// and must equal `known`, the mark of the parts before.
fn strip_same_mark<'t>(
    text: &'t str,
    known: &mut Option<char>,
    pick: fn(&str) -> Option<char>,
) -> Result<&'t str, SignatureHeaderPartsError> {
    let found = pick(text).filter(|mark| mark.is_ascii_punctuation() && !is_name_character(*mark));
    let mark = found.ok_or(SignatureHeaderPartsError)?;
    if *known.get_or_insert(mark) != mark {
        return Err(SignatureHeaderPartsError);
    }
    let rest = text.strip_prefix(mark).or_else(|| text.strip_suffix(mark));
    rest.ok_or(SignatureHeaderPartsError)
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-.".contains(character)
}

/// Returns the rest of `value` after `prefix`, which may be in upper or lower case.
pub(super) fn strip_prefix_ignore_case<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'r>(template: &str, lines: &[&'r str]) -> Option<(Option<&'r str>, usize)> {
        let parts = SignatureHeaderParts::parse(template).expect("parts");
        let content =
            SignatureHeaderForm::Parts(parts).read_lines(lines, SignatureEncoding::Hex)?;
        Some((content.time, content.signatures.len()))
    }

    #[test]
    fn a_template_tells_the_time_and_the_signatures_apart() {
        let stripe = "t={timestamp},v1={signature}";
        assert_eq!(read(stripe, &["t=17,v1=aa"]), Some((Some("17"), 1)));
        assert_eq!(
            read(stripe, &["v0=cc, v1=aa, t=17 ,v1=bb, junk"]),
            Some((Some("17"), 2)),
            "any order, other parts, spaces"
        );
        assert_eq!(
            read("ts={timestamp};h1={signature}", &["ts=17;h1=aa;h1=bb"]),
            Some((Some("17"), 2))
        );
        assert_eq!(
            read(
                "time:{timestamp}|a:{signature}|b:{signature}",
                &["time:17|b:aa|a:bb"]
            ),
            Some((Some("17"), 2))
        );
        assert_eq!(read("v1={signature}", &["v1=aa,v1=bb"]), Some((None, 2)));
    }

    #[test]
    fn a_second_line_of_the_header_goes_on_with_the_list() {
        let stripe = "t={timestamp},v1={signature}";
        assert_eq!(
            read(stripe, &["t=17,v1=aa", "v1=bb"]),
            Some((Some("17"), 2))
        );
        assert_eq!(
            read(stripe, &["t=17,v1=aa", "t=17,v1=bb"]),
            Some((Some("17"), 2))
        );
        assert_eq!(
            read(stripe, &["t=17,v1=aa", "t=18,v1=bb"]),
            None,
            "only one of two times can be signed"
        );
        let list = SignatureHeaderForm::List {
            prefix: "v0=".into(),
        };
        let content = list.read_lines(&["v0=aa", "V0=bb, v0=cc"], SignatureEncoding::Hex);
        assert_eq!(content.expect("signatures").signatures.len(), 3);
    }

    #[test]
    fn a_header_without_a_time_or_a_signature_has_another_form() {
        let stripe = "t={timestamp},v1={signature}";
        for line in [
            "",
            "t=17",
            "v1=aa",
            "t=17,v1=zz",
            "t=17;v1=aa",
            "T=17,v1=aa",
        ] {
            assert_eq!(read(stripe, &[line]), None, "{line}");
        }
    }

    #[test]
    fn what_describes_no_parts_is_refused() {
        for text in [
            "",
            "t=",
            "{signature}",
            "={signature}",
            "t={timestamp}",
            "t={timestamp}v1={signature}",
            "t={timestamp},v1:{signature}",
            "t={timestamp},v1={signature};v2={signature}",
            "t={timestamp},u={timestamp},v1={signature}",
            "t={time},v1={signature}",
            "t={timestamp},v1={signature},",
            "t={timestamp}=v1={signature}",
            "t={timestamp},v1={signature",
            "a b={signature}",
        ] {
            assert_eq!(
                SignatureHeaderParts::parse(text),
                Err(SignatureHeaderPartsError),
                "{text}"
            );
        }
    }

    #[test]
    fn parts_describe_themselves_in_the_order_of_a_header() {
        let parts = SignatureHeaderParts::parse("ts={timestamp};h1={signature}").expect("parts");
        assert_eq!(parts.to_string(), "ts=…;h1=…");
    }
}

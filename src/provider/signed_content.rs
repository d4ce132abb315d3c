//! Signed content in parts, and the check that it cannot be cut into other parts.
//!
//! A signature covers the parts joined together, not the places where they meet. A sender's request
//! `id.time.body`, whose body holds `.time.` once more, would verify again with a longer id and a
//! shorter body. So content is accepted only if these rules leave one place for each cut:
//!
//! ```text
//! {id} . {timestamp} . {body}   before the body, a value ends at the first separator
//! {body} . {timestamp}          after the body, a value begins after the last separator
//!
//! without a separator:
//! {timestamp}{body}             UTC with its only Z at the end, or a number that no digit follows
//! {body}{timestamp}             a number that no digit precedes
//! {url}{body}  {id}{body}       the value holds no { [ or "; the body begins with one or is empty
//! {body}{url}  {body}{id}       the value holds no } ] or "; the body ends with one or is empty
//! {method}{url}                 capitals, then a small letter
//! ```

use std::borrow::Cow;

use super::moment::parse_moment;

/// Bytes that begin a JSON document and stand in no URL, id or time.
const OPENING: &[u8] = b"{[\"";
/// Bytes that end a JSON document and stand in no URL, id or time.
const CLOSING: &[u8] = b"}]\"";

/// Role of one part of the signed content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignedPartRole {
    /// Fixed text of the scheme.
    Literal,
    /// Method of the request, in capitals.
    Method,
    /// URL that the sender called.
    Url,
    /// Time of the signature, as its header spells it.
    Time,
    /// Value of another header, such as the id.
    Header,
    /// Body of the request, as received.
    Body,
}

/// Content that a signature covers, in parts that follow each other.
#[derive(Clone, Debug, Default)]
pub struct SignedContent<'r> {
    bytes: Vec<Cow<'r, [u8]>>,
    roles: Vec<SignedPartRole>,
}

impl<'r> SignedContent<'r> {
    /// Content without a body of its own, which the scheme covers in another way.
    pub(super) fn from_bytes(bytes: Vec<Cow<'r, [u8]>>) -> Self {
        Self {
            bytes,
            roles: Vec::new(),
        }
    }

    /// Bytes of each part, in order.
    pub(super) fn bytes(&self) -> &[Cow<'r, [u8]>] {
        &self.bytes
    }

    /// Returns true if every other way to cut the joined bytes into these parts is refused.
    pub(super) fn has_one_cut(&self) -> bool {
        let body = self
            .roles
            .iter()
            .position(|role| *role == SignedPartRole::Body);
        let Some(body) = body else { return true };

        let before = self.roles[..body]
            .iter()
            .all(|role| *role != SignedPartRole::Body);
        let after = (body + 1..self.roles.len()).all(|at| self.begins_where_it_must(at));
        before && after && (0..body).all(|at| self.ends_where_it_must(at))
    }

    /// Checks a part before the body against the part that follows it.
    fn ends_where_it_must(&self, at: usize) -> bool {
        let (value, next) = (&self.bytes[at], &self.bytes[at + 1]);
        match (self.roles[at], self.roles[at + 1]) {
            (SignedPartRole::Literal, _) => true,
            (_, SignedPartRole::Literal) => {
                let joined = [value.as_ref(), next].concat();
                find(&joined, next) == Some(value.len())
            }
            (SignedPartRole::Method, SignedPartRole::Url) => {
                value.iter().all(u8::is_ascii_uppercase)
                    && next.first().is_some_and(u8::is_ascii_lowercase)
            }
            (SignedPartRole::Time, SignedPartRole::Body) => is_time_before(value, next),
            (_, SignedPartRole::Body) => {
                has_none(value, OPENING) && next.first().is_none_or(|byte| OPENING.contains(byte))
            }
            _ => false,
        }
    }

    /// Checks a part after the body against the part that precedes it.
    fn begins_where_it_must(&self, at: usize) -> bool {
        let (previous, value) = (&self.bytes[at - 1], &self.bytes[at]);
        match (self.roles[at - 1], self.roles[at]) {
            (_, SignedPartRole::Literal) => true,
            (SignedPartRole::Literal, SignedPartRole::Body) => false,
            (SignedPartRole::Literal, _) => {
                let joined = [previous.as_ref(), value].concat();
                find_last(&joined, previous) == Some(0)
            }
            (SignedPartRole::Body, SignedPartRole::Body) => false,
            (SignedPartRole::Body, SignedPartRole::Time) => {
                value.iter().all(u8::is_ascii_digit)
                    && previous.last().is_none_or(|byte| !byte.is_ascii_digit())
            }
            (SignedPartRole::Body, _) => {
                has_none(value, CLOSING)
                    && previous.last().is_none_or(|byte| CLOSING.contains(byte))
            }
            _ => false,
        }
    }
}

impl<'r> FromIterator<(SignedPartRole, Cow<'r, [u8]>)> for SignedContent<'r> {
    fn from_iter<I: IntoIterator<Item = (SignedPartRole, Cow<'r, [u8]>)>>(parts: I) -> Self {
        let (roles, bytes) = parts.into_iter().unzip();
        Self { bytes, roles }
    }
}

/// Checks a time that meets the body without a separator. A time in UTC ends with its only `Z`;
/// after a number, another digit would belong to the number.
fn is_time_before(time: &[u8], body: &[u8]) -> bool {
    let is_time = std::str::from_utf8(time).is_ok_and(|text| parse_moment(text).is_some());
    let ends_with_only_z = find(time, b"Z").is_some_and(|at| at + 1 == time.len());
    let is_number = time.iter().all(u8::is_ascii_digit);
    let next_is_digit = body.first().is_some_and(u8::is_ascii_digit);

    is_time && (ends_with_only_z || is_number && !next_is_digit)
}

fn has_none(value: &[u8], excluded: &[u8]) -> bool {
    value.iter().all(|byte| !excluded.contains(byte))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn find_last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SignedPartRole::{Body, Header, Literal, Method, Time, Url};
    use super::*;

    fn content(parts: &[(SignedPartRole, &[u8])]) -> SignedContent<'static> {
        let owned = |(role, bytes): &(SignedPartRole, &[u8])| (*role, bytes.to_vec().into());
        parts.iter().map(owned).collect()
    }

    #[test]
    fn a_value_with_the_separator_in_it_is_refused() {
        let standard = |id: &[u8], body: &[u8]| {
            content(&[
                (Header, id),
                (Literal, b"."),
                (Time, b"1764374400"),
                (Literal, b"."),
                (Body, body),
            ])
            .has_one_cut()
        };
        assert!(standard(b"m19", b"{\"a\": \"x.1764374400.b=1\"}"));
        assert!(!standard(b"m19.1764374400.{\"a\": \"x", b"b=1\"}"));
    }

    #[test]
    fn parts_that_meet_without_a_separator_need_other_marks() {
        let cases: [(&[(SignedPartRole, &[u8])], bool); 14] = [
            (
                &[
                    (Method, b"POST"),
                    (Url, b"https://a/?b=1"),
                    (Body, b"[{}]"),
                    (Time, b"176437"),
                ],
                true,
            ),
            (
                &[
                    (Method, b"POST"),
                    (Url, b"https://a/?b=[{"),
                    (Body, b"}]"),
                    (Time, b"176437"),
                ],
                false,
            ),
            (
                &[(Method, b"POSThttps"), (Url, b"://a"), (Body, b"[]")],
                false,
            ),
            (&[(Url, b"https://a/?b"), (Body, b"=c")], false),
            (&[(Body, b"a=1"), (Time, b"1764374400")], false),
            (&[(Body, b"a="), (Time, b"11764374400")], true),
            (
                &[(Body, b"{}"), (Literal, b"."), (Time, b"1764374400")],
                true,
            ),
            (
                &[(Body, b"{}"), (Literal, b"."), (Header, b"1.1764374400")],
                false,
            ),
            (&[(Time, b"2021-03-25T05:09:27Z"), (Body, b"name=a")], true),
            (&[(Time, b"2021-03-25T05:09:27"), (Body, b"Zname=a")], false),
            (&[(Time, b"1764374400"), (Body, b"0=a")], false),
            (
                &[(Header, b"id"), (Time, b"1764374400"), (Body, b"{}")],
                false,
            ),
            (&[(Body, b"{}"), (Body, b"{}")], false),
            (
                &[
                    (Literal, b"v0:"),
                    (Time, b"1"),
                    (Literal, b":"),
                    (Body, b"a=:b"),
                ],
                true,
            ),
        ];
        for (parts, has_one_cut) in cases {
            assert_eq!(content(parts).has_one_cut(), has_one_cut, "{parts:?}");
        }
    }

    /// Layouts of the presets and of schemes that operators write.
    fn layouts() -> impl Strategy<Value = Vec<SignedPartRole>> {
        prop::sample::select(vec![
            vec![Header, Literal, Time, Literal, Body],
            vec![Literal, Time, Literal, Body],
            vec![Time, Body],
            vec![Header, Body],
            vec![Method, Url, Body, Time],
            vec![Url, Body],
            vec![Body, Url],
            vec![Body, Literal, Header],
            vec![Header, Literal, Body, Literal, Time],
        ])
    }

    /// Every way to cut `bytes` into the parts of `roles`, of which the fixed ones are `.`.
    fn cuts(roles: &[SignedPartRole], bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let Some((role, rest)) = roles.split_first() else {
            return if bytes.is_empty() {
                vec![Vec::new()]
            } else {
                Vec::new()
            };
        };
        let ends = 0..=bytes.len();
        let ends = ends.filter(|end| *role != Literal || bytes[..*end] == *b".");
        ends.flat_map(|end| {
            let head = bytes[..end].to_vec();
            cuts(rest, &bytes[end..])
                .into_iter()
                .map(move |tail| [vec![head.clone()], tail].concat())
        })
        .collect()
    }

    proptest! {
        #[test]
        fn at_most_one_cut_of_the_same_bytes_is_accepted(
            roles in layouts(),
            bytes in "(POST|h|1|7|Z|\\.|\\{|\\}|\\[|a){1,12}",
        ) {
            let accepted = cuts(&roles, bytes.as_bytes()).into_iter().filter(|cut| {
                let parts = roles.iter().copied().zip(cut.iter().map(|part| part.clone().into()));
                parts.collect::<SignedContent<'_>>().has_one_cut()
            });
            let accepted: Vec<_> = accepted.collect();
            prop_assert!(accepted.len() <= 1, "{accepted:?}");
        }
    }
}

//! Signed content in parts, and the check that it cannot be cut into other parts.
//!
//! A signature covers the joined parts, not the places where they meet. A captured request
//! `id.time.body`, whose body holds `.time.` once more, would verify again with a longer id and a
//! shorter body. So each value must have one possible end only:
//!
//! ```text
//! value, text, …, body     value ends at the first occurrence of the text; a time at the first
//!                          occurrence that leaves a time; the path of a URL is known to the node,
//!                          so only its query counts
//! body, …, text, value     value begins after the last occurrence, by the same rules
//! time, body | body, time  no longer prefix, or suffix, is a time between 2010 and 2100; and the body
//!                          is JSON, or meets whole seconds or an RFC 3339 time with no digit or point
//! URL, body                a URL without a query; or a body that begins with { [ or ", perhaps behind
//!                          a byte order mark and white space, with which the value does not end
//! value, body              a body that begins with { [ or ", and a value with none of these
//! body, value              a body that ends with } ] or ", and a value with none of these
//! method, URL              capitals, then a small letter
//! ```

use std::borrow::Cow;

use super::body::BYTE_ORDER_MARK;
use super::moment::parse_moment;

/// Bytes that begin a JSON document and stand in no URL, id or time.
const OPENING: &[u8] = b"{[\"";
/// White space that may stand around a JSON document (RFC 8259, section 2).
const JSON_SPACES: [&[u8]; 4] = [b" ", b"\t", b"\n", b"\r"];
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

/// Times that a sender may sign: from 2010 to 2100, in Unix seconds. Digits of a body that meet a
/// time rarely make another time of this range.
const PLAUSIBLE_SECONDS: std::ops::Range<i64> = 1_262_304_000..4_102_444_800;
/// Longest text of a time that is looked for.
const TIME_MAX_BYTES: usize = 40;

/// Content that a signature covers, in parts that follow each other.
#[derive(Clone, Debug, Default)]
pub struct SignedContent<'r> {
    bytes: Vec<Cow<'r, [u8]>>,
    roles: Vec<SignedPartRole>,
    is_exempt: bool,
}

impl<'r> SignedContent<'r> {
    /// Content whose scheme has no marks between its parts, so that only the preset can limit other
    /// cuts. The preset's documentation says what remains possible.
    pub(super) fn without_cut_check(bytes: Vec<Cow<'r, [u8]>>) -> Self {
        Self {
            bytes,
            roles: Vec::new(),
            is_exempt: true,
        }
    }

    /// Bytes of each part, in order.
    pub(super) fn bytes(&self) -> &[Cow<'r, [u8]>] {
        &self.bytes
    }

    /// Returns true if nothing but the preset limits other cuts of the same bytes.
    pub(super) fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// Returns true if every other way to cut the joined bytes into these parts is refused.
    pub(super) fn has_one_cut(&self) -> bool {
        let is_body = |role: &SignedPartRole| *role == SignedPartRole::Body;
        let Some(body) = self.roles.iter().position(is_body) else {
            return self.is_exempt || self.bytes.is_empty();
        };

        (0..body).all(|at| self.has_one_end(at))
            && (body + 1..self.roles.len()).all(|at| self.has_one_beginning(at))
    }

    /// Checks a part before the body against the part that follows it.
    fn has_one_end(&self, at: usize) -> bool {
        let (value, next) = (&*self.bytes[at], &*self.bytes[at + 1]);
        match (self.roles[at], self.roles[at + 1]) {
            (SignedPartRole::Literal, _) => true,
            (SignedPartRole::Time, SignedPartRole::Literal) => {
                let mut earlier = ends_before(value, next);
                let following = self.bytes[at..].iter().flat_map(|part| part.iter());
                let start: Vec<u8> = following.take(TIME_MAX_BYTES).copied().collect();
                let mut later =
                    (value.len() + 1..start.len()).filter(|end| start[*end..].starts_with(next));
                is_time(value)
                    && !earlier.any(|end| is_time(&value[..end]))
                    && !later.any(|end| is_time(&start[..end]))
            }
            (SignedPartRole::Url, SignedPartRole::Literal) => match query_start(value) {
                Some(start) => {
                    ends_before(value, next).all(|end| end < start) && self.follows_known_end(at)
                }
                None => !extends_path(next),
            },
            (_, SignedPartRole::Literal) => {
                ends_before(value, next).next().is_none() && self.follows_known_end(at)
            }
            (SignedPartRole::Method, SignedPartRole::Url) => {
                value.iter().all(u8::is_ascii_uppercase)
                    && next.first().is_some_and(u8::is_ascii_lowercase)
            }
            (SignedPartRole::Time, SignedPartRole::Body) => {
                let following = self.bytes[at..].iter().flat_map(|part| part.iter());
                let start: Vec<u8> = following.take(TIME_MAX_BYTES).copied().collect();
                let mut times = (1..=start.len()).filter(|end| is_plausible_time(&start[..*end]));
                times.next_back() == Some(value.len())
                    && (has_byte(first_json_byte(next), OPENING) || is_apart(value, next.first()))
            }
            (SignedPartRole::Url, SignedPartRole::Body) => match query_start(value) {
                Some(start) => opens_json(&value[start..], next),
                None => !extends_path(next),
            },
            (_, SignedPartRole::Body) => opens_json(value, next),
            _ => false,
        }
    }

    /// Returns the last bytes of the content up to the end of the part `at`, as many as a time has.
    fn last_bytes(&self, at: usize) -> Vec<u8> {
        let reversed = self.bytes[..=at].iter().rev();
        let reversed = reversed.flat_map(|part| part.iter().rev());
        let mut end: Vec<u8> = reversed.take(TIME_MAX_BYTES).copied().collect();
        end.reverse();
        end
    }

    /// Returns true if the value at `at`, which ends before a text, could not go on behind that text:
    /// the text comes no more, or a JSON document begins where the body does.
    fn follows_known_end(&self, at: usize) -> bool {
        if self
            .body()
            .is_some_and(|body| opens_json(&self.bytes[at], body))
        {
            return true;
        }
        let (text, rest) = (&*self.bytes[at + 1], self.bytes[at + 1..].concat());
        let parts = self.roles[at + 1..].iter().zip(&self.bytes[at + 1..]);
        let expected =
            parts.filter(|(role, bytes)| **role == SignedPartRole::Literal && ***bytes == *text);
        count_occurrences(&rest, text) == expected.count()
    }

    /// Returns true if the value at `at`, which begins behind a text, could not begin earlier.
    fn precedes_known_beginning(&self, at: usize) -> bool {
        if self
            .body()
            .is_some_and(|body| closes_json(body, &self.bytes[at]))
        {
            return true;
        }
        let (text, rest) = (&*self.bytes[at - 1], self.bytes[..at].concat());
        let parts = self.roles[..at].iter().zip(&self.bytes[..at]);
        let expected =
            parts.filter(|(role, bytes)| **role == SignedPartRole::Literal && ***bytes == *text);
        count_occurrences(&rest, text) == expected.count()
    }

    fn body(&self) -> Option<&[u8]> {
        let is_body = |role: &SignedPartRole| *role == SignedPartRole::Body;
        let at = self.roles.iter().position(is_body)?;
        Some(&self.bytes[at])
    }

    /// Checks a part after the body against the part that precedes it.
    fn has_one_beginning(&self, at: usize) -> bool {
        let (previous, value) = (&*self.bytes[at - 1], &*self.bytes[at]);
        match (self.roles[at - 1], self.roles[at]) {
            (_, SignedPartRole::Body) => false,
            (_, SignedPartRole::Literal) => true,
            (SignedPartRole::Literal, SignedPartRole::Time) => {
                let mut later = starts_after(previous, value);
                let end = self.last_bytes(at);
                let first = end.len() - value.len().min(end.len());
                let mut earlier = (0..first).filter(|start| end[..*start].ends_with(previous));
                is_time(value)
                    && !later.any(|start| is_time(&value[start..]))
                    && !earlier.any(|start| is_time(&end[start..]))
            }
            (SignedPartRole::Literal, _) => {
                starts_after(previous, value).next().is_none() && self.precedes_known_beginning(at)
            }
            (SignedPartRole::Body, SignedPartRole::Time) => {
                // The body may be empty, so that the time meets the part before it.
                let end = self.last_bytes(at);
                let mut times = (0..end.len()).filter(|start| is_plausible_time(&end[*start..]));
                let before = self.bytes[..at].iter().rev().find_map(|part| part.last());
                times.next().map(|start| end.len() - start) == Some(value.len())
                    && (has_byte(before, CLOSING) || is_apart(value, before))
            }
            (SignedPartRole::Body, _) => closes_json(previous, value),
            _ => false,
        }
    }
}

impl<'r> FromIterator<(SignedPartRole, Cow<'r, [u8]>)> for SignedContent<'r> {
    fn from_iter<I: IntoIterator<Item = (SignedPartRole, Cow<'r, [u8]>)>>(parts: I) -> Self {
        let (roles, bytes) = parts.into_iter().unzip();
        Self {
            bytes,
            roles,
            is_exempt: false,
        }
    }
}

/// Lengths of `value` at which `text` follows too soon, if `text` follows `value`.
fn ends_before(value: &[u8], text: &[u8]) -> impl Iterator<Item = usize> {
    let joined = [value, text].concat();
    let text = text.to_vec();
    (0..value.len()).filter(move |end| joined[*end..].starts_with(&text))
}

/// Beginnings within `value` that `text` precedes too late, if `text` precedes `value`.
fn starts_after(text: &[u8], value: &[u8]) -> impl Iterator<Item = usize> {
    let joined = [text, value].concat();
    let text = text.to_vec();
    (1..=value.len()).filter(move |start| joined[*start..].starts_with(&text))
}

fn is_time(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| parse_moment(text).is_some())
}

fn is_plausible_time(text: &[u8]) -> bool {
    let time = std::str::from_utf8(text).ok().and_then(parse_moment);
    time.is_some_and(|time| PLAUSIBLE_SECONDS.contains(&(time.as_micros() / 1_000_000)))
}

/// Returns true if `time` ends where `neighbour` begins, or begins where it ends, although the body is
/// no JSON: seconds with three more digits are milliseconds, and a fraction has any number of digits.
fn is_apart(time: &[u8], neighbour: Option<&u8>) -> bool {
    let is_number = time.iter().all(|byte| continues_number(*byte));
    let is_whole_seconds = time.len() == 10 && !time.contains(&b'.');
    (!is_number || is_whole_seconds) && !neighbour.is_some_and(|byte| continues_number(*byte))
}

const fn continues_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

fn has_byte(byte: Option<&u8>, known: &[u8]) -> bool {
    byte.is_some_and(|byte| known.contains(byte))
}

fn query_start(url: &[u8]) -> Option<usize> {
    url.iter().position(|byte| *byte == b'?')
}

/// Returns true if `next`, as a part of the URL before it, could lead to the same source.
fn extends_path(next: &[u8]) -> bool {
    next.first().is_some_and(|byte| b"?/#".contains(byte))
}

/// Returns true if `body` begins, and `value` cannot go on, with a JSON document. What may stand before
/// the document belongs to the body: no value ends with it.
fn opens_json(value: &[u8], body: &[u8]) -> bool {
    let is_end = |end: &[u8]| value.ends_with(end);
    let takes_from_body = is_end(BYTE_ORDER_MARK) || JSON_SPACES.iter().any(|space| is_end(space));
    has_none(value, OPENING)
        && !takes_from_body
        && first_json_byte(body).is_some_and(|byte| OPENING.contains(byte))
}

/// Returns the byte with which the document in `body` begins, behind a byte order mark and white space.
fn first_json_byte(body: &[u8]) -> Option<&u8> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    body.iter()
        .find(|byte| !JSON_SPACES.iter().any(|space| space == &[**byte]))
}

/// Returns true if `body` ends, and `value` cannot begin within, a JSON document.
fn closes_json(body: &[u8], value: &[u8]) -> bool {
    has_none(value, CLOSING)
        && !value.first().is_some_and(u8::is_ascii_whitespace)
        && body
            .trim_ascii_end()
            .last()
            .is_some_and(|byte| CLOSING.contains(byte))
}

/// Counts the places of `bytes` at which `text` stands; one place may overlap the next.
fn count_occurrences(bytes: &[u8], text: &[u8]) -> usize {
    bytes
        .windows(text.len().max(1))
        .filter(|window| *window == text)
        .count()
}

fn has_none(value: &[u8], excluded: &[u8]) -> bool {
    value.iter().all(|byte| !excluded.contains(byte))
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
        type Parts = &'static [(SignedPartRole, &'static [u8])];
        const URL: &[u8] = b"https://a/in/x";
        const QUERY: &[u8] = b"https://a/in/x?b=1.2";
        const NOW: &[u8] = b"1764374400";
        let accepted: [Parts; 14] = [
            &[
                (Method, b"POST"),
                (Url, QUERY),
                (Body, b"[{}]"),
                (Time, NOW),
            ],
            &[(Url, URL), (Body, b"a=1")],
            &[(Url, URL), (Literal, b"."), (Body, b"a.b")],
            &[(Url, URL), (Literal, b":"), (Body, b"{}")],
            &[(Url, QUERY), (Literal, b"|"), (Body, b"{}")],
            &[(Body, b"{}"), (Time, b"2025-11-29T00:00:00.5Z")],
            &[
                (Body, b"{}"),
                (Literal, b"."),
                (Time, b"2025-11-29T00:00:00.5Z"),
            ],
            &[(Body, b"{}"), (Literal, b"."), (Time, NOW)],
            &[
                (Time, b"2025-11-29T00:00:00.5Z"),
                (Literal, b"."),
                (Body, b"{}"),
            ],
            &[
                (Time, b"2025-11-29T00:00:00Z"),
                (Literal, b":"),
                (Body, b"{}"),
            ],
            &[(Time, b"2021-03-25T05:09:27Z"), (Body, b"name=a")],
            &[(Time, b"2021-03-25T05:09:27+00:00"), (Body, b"{}")],
            &[(Time, b"1764374400000"), (Body, b"{}")],
            &[
                (Literal, b"v0:"),
                (Time, b"1"),
                (Literal, b":"),
                (Body, b"a=:b"),
            ],
        ];
        for parts in accepted {
            assert!(content(parts).has_one_cut(), "{parts:?}");
        }

        let refused: [Parts; 18] = [
            &[(Body, b"a=12"), (Time, NOW)],
            &[(Time, NOW), (Body, b"0=a")],
            &[(Url, QUERY), (Body, b"")],
            &[(Header, b"id=1"), (Body, b"")],
            &[(Header, b"a"), (Literal, b"."), (Body, b"b.c=1")],
            &[
                (Method, b"POST"),
                (Url, b"https://a/?b=[{"),
                (Body, b"}]"),
                (Time, NOW),
            ],
            &[(Method, b"POSThttps"), (Url, b"://a"), (Body, b"[]")],
            &[(Url, QUERY), (Body, b"c")],
            &[(Url, QUERY), (Literal, b"."), (Body, b"{}")],
            &[(Url, URL), (Body, b"?a=1")],
            &[(Body, b"a=176"), (Time, b"1764374400")],
            &[(Body, b"{}"), (Literal, b"."), (Header, b"1.1764374400")],
            &[(Body, b"{}"), (Literal, b"."), (Time, b"7.1764374400")],
            &[(Time, b"2021-03-25T05:09:27"), (Body, b"Zname=a")],
            &[(Time, NOW), (Body, b"000=a")],
            &[(Header, b"id"), (Time, NOW), (Body, b"{}")],
            &[(Body, b"{}"), (Body, b"{}")],
            &[(Header, b"id")],
        ];
        for parts in refused {
            assert!(!content(parts).has_one_cut(), "{parts:?}");
        }
    }

    /// An authentic body was refused that begins with a byte order mark or a line break and holds a dot.
    #[test]
    fn a_document_may_begin_behind_a_mark_and_white_space() {
        for body in [
            &b"\xef\xbb\xbf{\"v\":1.5}"[..],
            b"\n{\"v\":1.5}",
            b"\xef\xbb\xbf \r\n\t[1.5]",
        ] {
            for parts in [
                content(&[
                    (Header, b"m"),
                    (Literal, b"."),
                    (Time, b"1764374400"),
                    (Literal, b"."),
                    (Body, body),
                ]),
                content(&[(Url, b"https://a/?b=1.2"), (Body, body)]),
                content(&[(Time, b"1764374400123"), (Body, body)]),
            ] {
                assert!(parts.has_one_cut(), "{parts:?}");
            }
        }
        for parts in [
            content(&[(Url, b"https://a/?b= "), (Body, b"{}")]),
            content(&[(Url, b"https://a/?b=\xef\xbb\xbf"), (Body, b"{}")]),
            content(&[(Url, b"https://a/?b"), (Body, b" \xef\xbb\xbf{}")]),
        ] {
            assert!(!parts.has_one_cut(), "{parts:?}");
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
            vec![Url, Literal, Body],
            vec![Body, Url],
            vec![Body, Literal, Header],
            vec![Body, Literal, Time],
            vec![Header, Literal, Body, Literal, Time],
        ])
    }

    /// Every way to cut `bytes` into the parts of `roles`, of which the fixed ones are `.`, methods
    /// are `POST`, and URLs lead to one source.
    fn cuts(roles: &[SignedPartRole], bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let Some((role, rest)) = roles.split_first() else {
            return if bytes.is_empty() {
                vec![Vec::new()]
            } else {
                Vec::new()
            };
        };
        let is_possible = |part: &[u8]| match role {
            Literal => part == b".",
            Method => part == b"POST",
            Url => {
                let beyond = part.strip_prefix(b"h/x".as_slice());
                beyond.is_some_and(|beyond| beyond.is_empty() || extends_path(beyond))
            }
            Time | Header | Body => true,
        };
        let ends = (0..=bytes.len()).filter(|end| is_possible(&bytes[..*end]));
        ends.flat_map(|end| {
            let head = bytes[..end].to_vec();
            cuts(rest, &bytes[end..])
                .into_iter()
                .map(move |tail| [vec![head.clone()], tail].concat())
        })
        .collect()
    }

    /// Request as a sender makes it: values of headers, a time, a URL, and a form or JSON as the body.
    fn sent_parts(
        roles: Vec<SignedPartRole>,
    ) -> impl Strategy<Value = Vec<(SignedPartRole, String)>> {
        let parts = roles.into_iter().map(|role| {
            let pattern = match role {
                Literal => "\\.",
                Method => "POST",
                Url => "h/x(\\?[a-z0-9.=&]{0,5})?",
                Time => "1764374400(123)?|2025-11-29T00:00:00(\\.5)?Z|1764374400\\.5",
                Header => "[a-z0-9.=&]{1,5}(\\.1764374400\\.)?[a-z0-9.=&]{0,3}",
                Body => {
                    "([a-z0-9.=&%]{0,6}(\\.1764374400\\.)?[a-z0-9.=&%]{0,4})|\u{feff}?[ \n]{0,2}\\{\"[a-z]\":\"?[0-9.]{0,9}\"?\\}\n?"
                }
            };
            prop::string::string_regex(pattern).expect("a pattern").prop_map(move |text| (role, text))
        });
        parts.collect::<Vec<_>>()
    }

    proptest! {
        /// A genuine request was refused, and the same bytes in another cut accepted.
        #[test]
        fn no_cut_but_the_senders_own_is_accepted(
            parts in layouts().prop_flat_map(sent_parts),
        ) {
            let roles: Vec<_> = parts.iter().map(|(role, _)| *role).collect();
            let genuine: Vec<_> = parts.iter().map(|(_, text)| text.as_bytes().to_vec()).collect();
            for cut in cuts(&roles, &genuine.concat()) {
                let parts = roles.iter().copied().zip(cut.iter().map(|part| part.clone().into()));
                let is_accepted = parts.collect::<SignedContent<'_>>().has_one_cut();
                prop_assert!(!is_accepted || cut == genuine, "{cut:?} instead of {genuine:?}");
            }
        }

        #[test]
        fn at_most_one_cut_of_the_same_bytes_is_accepted(
            roles in layouts(),
            bytes in "(POST)?(h/x)?(h/x|1764374400|2025-11-29T00:00:00Z|17|7|Z|\\.|\\?|\\{|\\}|a| |\u{feff}){1,7}",
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

//! Patterns that select events by their names and kinds.
//!
//! ```text
//! pattern  [kind ":"] events
//! kind     ticket, lead, …, custom:<name>
//! events   a name (status.changed), a prefix (lead.*, shop.order.*), or all names (*)
//! ```
//!
//! A `*` stands alone or after a dot, for all that follows the dot, further dots included. Internal
//! events, which the node itself creates, are not in a bare `*`. Patterns that name them or their
//! kind select them: `subscriber.*`, `custom:subscriber:*`.

use std::fmt;
use std::sync::Arc;

use super::event_names::{ERASED_SUFFIX, EventNamePattern};
use super::vocabulary::EventVocabulary;
use crate::event::{Kind, Record};

/// Source of internal events, which the node itself creates.
pub const INTERNAL_SOURCE: &str = "hookyard";

/// Longest pattern, in bytes: the longest names of kinds, sources and events fit.
pub const PATTERN_MAX_BYTES: usize = 512;

/// Prefix of the kinds that the configuration defines.
const CUSTOM_KIND_PREFIX: &str = "custom:";
/// Longest part of a malformed pattern in an error, in characters.
const SHOWN_CHARS: usize = 80;

/// Pattern that selects events by kind and name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern as its author wrote it.
    text: Arc<str>,
    kind: Option<Kind>,
    /// Byte in `text` at which the part after the kind begins.
    start: usize,
}

/// Reason to refuse a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text does not have the form of a pattern.
    #[error("{text:?} is not a valid pattern: {why}")]
    Malformed {
        /// Beginning of the refused text.
        text: String,
        /// Rule that the text breaks.
        why: &'static str,
    },
    /// No source has entities of the kind.
    #[error(
        "unknown kind {kind:?}; a [[sources.custom]] with the name {:?} defines it{}",
        .kind.trim_start_matches(CUSTOM_KIND_PREFIX),
        format_suggestion(.nearest.as_deref())
    )]
    UnknownKind {
        /// Unknown kind in the pattern.
        kind: String,
        /// Known kind with a similar name.
        nearest: Option<String>,
    },
    /// No event of any source can match the pattern.
    #[error("{text:?} matches no known event{}", format_suggestion(.nearest.as_deref()))]
    MatchesNothing {
        /// Full text of the refused pattern.
        text: String,
        /// Similar pattern that matches known events.
        nearest: Option<String>,
    },
    /// The pattern begins like all events of a kind, but their names do not begin with it.
    #[error("{text:?} matches only {event}; did you mean \"{kind}:*\"?")]
    MatchesErasuresOnly {
        /// Full text of the refused pattern.
        text: String,
        /// Name of the only known event that it matches.
        event: String,
        /// Kind that its author most likely means.
        kind: Kind,
    },
}

fn format_suggestion(nearest: Option<&str>) -> String {
    nearest
        .map(|nearest| format!("; did you mean {nearest:?}?"))
        .unwrap_or_default()
}

impl Pattern {
    /// Parses `text`, which has to match an event that `vocabulary` knows.
    ///
    /// # Errors
    /// [`PatternError`] for a malformed pattern, an unknown kind or an unknown event.
    pub fn parse(text: &str, vocabulary: &EventVocabulary) -> Result<Self, PatternError> {
        let malformed = |why| PatternError::Malformed {
            text: text.chars().take(SHOWN_CHARS).collect(),
            why,
        };
        let unknown = || PatternError::MatchesNothing {
            text: text.to_owned(),
            nearest: vocabulary.suggest_pattern(text),
        };
        if text.len() > PATTERN_MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        let unquoted = unquote_name(text);
        let text = unquoted.as_deref().unwrap_or(text);

        // An unknown custom kind gets an error of its own, which says how to define the kind.
        let (kind, events) = split_kind(text);
        check_event_part(events).map_err(malformed)?;
        let is_unknown_custom =
            |kind: &&str| kind.starts_with(CUSTOM_KIND_PREFIX) && !vocabulary.has_kind(kind);
        if let Some(kind) = kind.filter(is_unknown_custom) {
            return Err(PatternError::UnknownKind {
                kind: kind.to_owned(),
                nearest: vocabulary.suggest_kind(kind),
            });
        }

        let kind = kind
            .map(|kind| Kind::parse(kind).ok_or_else(unknown))
            .transpose()?;
        let pattern = Self {
            text: text.into(),
            kind,
            start: text.len() - events.len(),
        };
        if !vocabulary.has_match(pattern.kind(), pattern.name_pattern()) {
            return Err(unknown());
        }
        match vocabulary.erased_kind(pattern.kind(), pattern.name_pattern()) {
            Some(kind) => Err(PatternError::MatchesErasuresOnly {
                text: text.to_owned(),
                event: format!("{kind}{ERASED_SUFFIX}"),
                kind,
            }),
            None => Ok(pattern),
        }
    }

    /// Parses a stored pattern, which may name events that are no longer known. Returns `None` for
    /// a malformed pattern.
    #[must_use]
    pub fn from_store(text: &str) -> Option<Self> {
        let (kind, events) = split_kind(text);
        check_event_part(events).ok()?;
        let kind = kind
            .map(|kind| Kind::from_store(kind).ok_or(()))
            .transpose()
            .ok()?;
        Some(Self {
            text: text.into(),
            kind,
            start: text.len() - events.len(),
        })
    }

    /// Returns the pattern as its author wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the kind to which the pattern is limited.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Returns the part of the pattern that selects names.
    #[must_use]
    pub fn name_pattern(&self) -> EventNamePattern<'_> {
        let events = &self.text[self.start..];
        match events.strip_suffix('*') {
            None => EventNamePattern::Exact(events),
            Some("") => EventNamePattern::All,
            Some(prefix) => EventNamePattern::Prefix(prefix),
        }
    }

    /// Tells if the pattern selects the event `event_type` of an entity of `kind`. `is_internal` is
    /// true for an event that the node itself created.
    #[must_use]
    pub fn admits(&self, kind: Kind, event_type: &str, is_internal: bool) -> bool {
        self.kind.is_none_or(|own_kind| own_kind == kind)
            && match self.name_pattern() {
                EventNamePattern::All => !is_internal || self.kind.is_some(),
                EventNamePattern::Prefix(prefix) => event_type.starts_with(prefix),
                EventNamePattern::Exact(name) => event_type == name,
            }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Tells if the node itself created `record`, such as the event that a subscriber was disabled.
#[must_use]
pub fn is_internal_record(record: &Record) -> bool {
    record.source == INTERNAL_SOURCE
}

/// Returns `text` without the quotes around its name, as in `repo."Push Hook"`, or around all of it;
/// `None` if it has none.
fn unquote_name(text: &str) -> Option<String> {
    let inner = text.strip_suffix('"')?;
    let start = inner.find('"')?;
    let (before, name) = (&inner[..start], &inner[start + 1..]);
    let is_quoted = (before.is_empty() || before.ends_with(['.', ':'])) && !name.contains('"');
    is_quoted.then(|| format!("{before}{name}"))
}

/// Splits a pattern into its kind, if any, and the part that selects names. No event name has a
/// colon before its first dot, so text before such a colon is a kind.
fn split_kind(text: &str) -> (Option<&str>, &str) {
    let custom_end = if text.starts_with(CUSTOM_KIND_PREFIX) {
        CUSTOM_KIND_PREFIX.len()
    } else {
        0
    };
    let kind_end = text[custom_end..]
        .find(['.', ':'])
        .map_or(text.len(), |at| custom_end + at);
    match text[kind_end..].strip_prefix(':') {
        Some(events) => (Some(&text[..kind_end]), events),
        None => (None, text),
    }
}

/// Checks the form of the part after the kind.
fn check_event_part(events: &str) -> Result<(), &'static str> {
    let prefix = events.strip_suffix('*').unwrap_or(events);
    let is_glob = prefix.len() < events.len();
    if events.is_empty() {
        Err("the name of an event is missing")
    } else if events.chars().any(char::is_control) {
        Err("it holds a control character")
    } else if prefix.contains('*') || is_glob && !prefix.is_empty() && !prefix.ends_with('.') {
        Err("a * must stand alone or at the end after a dot")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::event_names::INTERNAL_KIND;
    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    /// Vocabulary of a node with the source `shop` and two declared events.
    fn vocabulary() -> EventVocabulary {
        EventVocabulary::with_sources(
            &["shop"],
            &[
                ("invoice.paid", "custom:invoice"),
                ("organisation.merged", "organisation"),
            ],
        )
    }

    fn parsed(text: &str) -> Result<Pattern, PatternError> {
        Pattern::parse(text, &vocabulary())
    }

    #[test]
    fn what_can_happen_can_be_followed() {
        for text in [
            "*",
            "lead.*",
            "lead.created",
            "status.changed",
            "status.*",
            "ticket:*",
            "ticket:status.changed",
            "ticket:status.*",
            "conversation:message.received",
            "invoice.paid",
            "invoice.*",
            "custom:invoice:*",
            "organisation.merged",
            "shop.*",
            "shop.anything",
            "shop.order:paid",
            "shop.order.*",
            "shop.\"Push Hook\"",
            "\"shop.Push Hook\"",
            "custom:shop:*",
            "custom:shop:shop.order",
            "subscriber.disabled",
            "subscriber.*",
            "breaker.*",
            "custom:subscriber:*",
        ] {
            let pattern = parsed(text).unwrap_or_else(|error| panic!("{error}"));
            let stored = text.replace('"', "");
            assert_eq!(pattern.to_string(), stored);
            assert_eq!(Pattern::from_store(&stored), Some(pattern), "{text}");
        }
    }

    #[test]
    fn what_cannot_happen_is_refused_by_its_name_with_what_was_meant() {
        for (text, meant) in [
            ("lead.creatd", "lead.created"),
            ("leads.*", "lead.*"),
            ("organization.created", "organisation.created"),
            ("tiket:*", "ticket:*"),
            ("shopp.*", "shop.*"),
        ] {
            let Err(PatternError::MatchesNothing {
                nearest: Some(nearest),
                text: found,
            }) = parsed(text)
            else {
                panic!("{text}")
            };
            assert!(
                nearest.ends_with(meant) || meant.ends_with(&nearest),
                "{text}: {nearest}"
            );
            assert_eq!(found, text);
        }
        for text in ["zzz", "shop", "shop.", "lead:shop.*", "lead.created.*"] {
            assert!(
                matches!(parsed(text), Err(PatternError::MatchesNothing { .. })),
                "{text}"
            );
        }
        let error = parsed("lead.creatd").expect_err("unknown");
        assert_eq!(
            error.to_string(),
            r#""lead.creatd" matches no known event; did you mean "lead.created"?"#
        );
    }

    /// `ticket.*` was accepted, and its subscriber got nothing of any ticket.
    #[test]
    fn a_kind_written_as_a_prefix_is_refused_unless_its_events_begin_so() {
        let error = parsed("ticket.*").expect_err("erasures only");
        assert_eq!(
            error.to_string(),
            r#""ticket.*" matches only ticket.erased; did you mean "ticket:*"?"#
        );
        for text in ["conversation.*", "ticket:ticket.*"] {
            assert!(
                matches!(parsed(text), Err(PatternError::MatchesErasuresOnly { .. })),
                "{text}"
            );
        }
        for text in ["ticket.erased", "lead.*", "customer:*", "organisation.*"] {
            assert!(parsed(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_kind_that_no_source_makes_is_said_to_be_missing() {
        for (text, said) in [
            (
                "custom:store:*",
                r#"unknown kind "custom:store"; a [[sources.custom]] with the name "store" defines it"#,
            ),
            (
                "custom:shopp:shopp.order",
                r#"unknown kind "custom:shopp"; a [[sources.custom]] with the name "shopp" defines it; did you mean "custom:shop"?"#,
            ),
        ] {
            assert_eq!(parsed(text).expect_err("unknown").to_string(), said);
        }
        // The kind exists, but has no such event.
        assert!(matches!(
            parsed("custom:invoice:lead.created"),
            Err(PatternError::MatchesNothing { .. })
        ));
    }

    #[test]
    fn a_star_stands_alone_or_for_all_after_a_dot() {
        for text in [
            "",
            "custom:*",
            "lead*",
            "*.created",
            "lead.*.b",
            "lead.**",
            "ticket:",
            "ticket:l*",
            "**",
            "a\nb",
            &"x".repeat(600),
        ] {
            assert!(
                matches!(parsed(text), Err(PatternError::Malformed { .. })),
                "{text}"
            );
        }
        assert_eq!(Pattern::from_store("lead*"), None);
        assert_eq!(Pattern::from_store("Upper:*"), None);
    }

    #[test]
    fn a_pattern_admits_what_it_says() {
        let cases = [
            ("*", "ticket", "lead.created", true),
            ("lead.*", "lead", "lead.created", true),
            ("lead.*", "lead", "lead.a.b", true),
            ("lead.*", "lead", "leader.created", false),
            ("lead.*", "lead", "pre_lead.created", false),
            ("lead.created", "lead", "lead.created", true),
            ("lead.created", "lead", "lead.created2", false),
            ("ticket:*", "ticket", "status.changed", true),
            ("ticket:*", "lead", "status.changed", false),
            ("ticket:status.*", "ticket", "status.changed", true),
            ("custom:shop:*", "custom:shop", "shop.order", true),
            ("custom:shop:*", "custom:shop2", "shop.order", false),
            ("shop.order:*", "custom:shop", "shop.order:x", false),
        ];
        for (text, kind, event, admits) in cases {
            let Some(pattern) = Pattern::from_store(text) else {
                assert!(!admits, "{text}");
                continue;
            };
            let kind = Kind::from_store(kind).expect("a kind");
            assert_eq!(
                pattern.admits(kind, event, false),
                admits,
                "{text} {kind} {event}"
            );
        }
    }

    #[test]
    fn the_nodes_own_events_are_only_in_what_names_them() {
        let kind = Kind::intern_custom(INTERNAL_KIND).expect("a kind");
        let admits = |text: &str| {
            Pattern::from_store(text)
                .expect("a pattern")
                .admits(kind, "subscriber.disabled", true)
        };
        for (text, is_in) in [
            ("*", false),
            ("lead.*", false),
            ("subscriber.*", true),
            ("subscriber.disabled", true),
            ("custom:subscriber:*", true),
            ("breaker.*", false),
        ] {
            assert_eq!(admits(text), is_in, "{text}");
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_pattern_is_parsed_or_refused(text in damaged_text(&[
            "*", "ticket:message.*", "lead.created", "custom:invoice:invoice.paid", "custom:shop:\"a b\"", "webhook.*",
        ])) {
            let _ = (parsed(&text), Pattern::from_store(&text));
        }
    }
}

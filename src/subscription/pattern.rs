//! Patterns: which events a subscription wants, by their names and kinds.
//!
//! ```text
//! pattern  [kind ":"] events
//! kind     ticket, lead, …, custom:<name>
//! events   a name (status.changed), the beginning of names (lead.*, shop.order.*), or all (*)
//! ```
//!
//! A `*` stands alone or for all that follows a dot, however many dots are in it. Events that the
//! node makes of itself are in no `*` that does not say so: `subscriber.*` has them, and so has
//! `custom:subscriber:*`, but not `*`.

use std::fmt;
use std::sync::Arc;

use super::event_names::EventNamePattern;
use super::vocabulary::EventVocabulary;
use crate::event::{Kind, Record};

/// The source of the events that the node makes of itself.
pub const INTERNAL_SOURCE: &str = "hookyard";

/// The longest pattern, in bytes: the longest names of kinds, sources and events fit.
pub const PATTERN_MAX_BYTES: usize = 512;

/// What the kinds begin with that the configuration makes.
const CUSTOM_KIND_PREFIX: &str = "custom:";
/// How much of a malformed pattern is shown, in characters.
const SHOWN_CHARS: usize = 80;

/// One pattern. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As it was given.
    text: Arc<str>,
    kind: Option<Kind>,
    /// Where the part after the kind begins in `text`.
    start: usize,
}

/// A pattern that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is none.
    #[error("{text:?} is no pattern: {why}")]
    Malformed {
        /// Its beginning.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is about a kind that nothing makes.
    #[error("there is no kind {kind:?}; a [[sources.custom]] with the name {:?} makes it{}", .kind.trim_start_matches(CUSTOM_KIND_PREFIX), format_suggestion(.nearest.as_deref()))]
    UnknownKind {
        /// The kind.
        kind: String,
        /// One that is spelt much like it.
        nearest: Option<String>,
    },
    /// Nothing that can happen matches it.
    #[error("{text:?} matches no known event{}", format_suggestion(.nearest.as_deref()))]
    MatchesNothing {
        /// The pattern.
        text: String,
        /// One that is spelt much like it and matches something.
        nearest: Option<String>,
    },
}

fn format_suggestion(nearest: Option<&str>) -> String {
    nearest
        .map(|nearest| format!("; did you mean {nearest:?}?"))
        .unwrap_or_default()
}

impl Pattern {
    /// Reads `text`, which has to match something that `vocabulary` knows.
    ///
    /// # Errors
    /// [`Refused`], which says what is wrong with it.
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
        let (kind, events) = split_kind(text);
        check_event_part(events).map_err(malformed)?;
        if let Some(kind) =
            kind.filter(|kind| kind.starts_with(CUSTOM_KIND_PREFIX) && !vocabulary.has_kind(kind))
        {
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
        vocabulary
            .has_match(pattern.kind(), pattern.name_pattern())
            .then_some(pattern)
            .ok_or_else(unknown)
    }

    /// Reads a pattern that was accepted once, whatever is known today; `None` for what never was
    /// one.
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

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The kind that it is limited to.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// What it says of names.
    #[must_use]
    pub fn name_pattern(&self) -> EventNamePattern<'_> {
        let events = &self.text[self.start..];
        match events.strip_suffix('*') {
            None => EventNamePattern::Exact(events),
            Some("") => EventNamePattern::All,
            Some(beginning) => EventNamePattern::Prefix(beginning),
        }
    }

    /// Whether it wants the event `event_type` of an entity of `kind`; `is_own` says that the node
    /// made it of itself.
    #[must_use]
    pub fn admits(&self, kind: Kind, event_type: &str, is_own: bool) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && match self.name_pattern() {
                EventNamePattern::All => !is_own || self.kind.is_some(),
                EventNamePattern::Prefix(beginning) => event_type.starts_with(beginning),
                EventNamePattern::Exact(name) => event_type == name,
            }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether the node made `record` of itself, such as the news that a subscriber was disabled.
#[must_use]
pub fn is_internal_record(record: &Record) -> bool {
    record.source == INTERNAL_SOURCE
}

/// The kind before the events, if there is one, and the events. No name has a colon before its
/// first dot, so what ends with one there is a kind, or was meant to be.
fn split_kind(text: &str) -> (Option<&str>, &str) {
    let own_colon = if text.starts_with(CUSTOM_KIND_PREFIX) {
        CUSTOM_KIND_PREFIX.len()
    } else {
        0
    };
    let word = text[own_colon..]
        .find(['.', ':'])
        .map_or(text.len(), |at| own_colon + at);
    match text[word..].strip_prefix(':') {
        Some(events) => (Some(&text[..word]), events),
        None => (None, text),
    }
}

/// Checks the part after the kind.
fn check_event_part(events: &str) -> Result<(), &'static str> {
    let before = events.strip_suffix('*').unwrap_or(events);
    let is_glob = before.len() < events.len();
    if events.is_empty() {
        Err("the name of an event is missing")
    } else if events.chars().any(char::is_control) {
        Err("it holds a control character")
    } else if before.contains('*') || is_glob && !before.is_empty() && !before.ends_with('.') {
        Err("a * stands alone or for all that follows a dot")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_names::INTERNAL_KIND;
    use super::*;

    /// That of a node with the source `shop` and two declared events.
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
            "custom:shop:*",
            "custom:shop:shop.order",
            "subscriber.disabled",
            "subscriber.*",
            "breaker.*",
            "custom:subscriber:*",
        ] {
            let pattern = parsed(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(pattern.to_string(), text);
            assert_eq!(Pattern::from_store(text), Some(pattern), "{text}");
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

    #[test]
    fn a_kind_that_no_source_makes_is_said_to_be_missing() {
        for (text, said) in [
            (
                "custom:store:*",
                r#"there is no kind "custom:store"; a [[sources.custom]] with the name "store" makes it"#,
            ),
            (
                "custom:shopp:shopp.order",
                r#"there is no kind "custom:shopp"; a [[sources.custom]] with the name "shopp" makes it; did you mean "custom:shop"?"#,
            ),
        ] {
            assert_eq!(parsed(text).expect_err("unknown").to_string(), said);
        }
        // It is one, but not of such an event.
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
}

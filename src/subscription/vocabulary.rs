//! Vocabulary of all events that can occur, so that a pattern that can never match is refused at
//! once.

use std::collections::{BTreeMap, BTreeSet};

use super::event_names::{ERASED_SUFFIX, EventNamePattern, INTERNAL_KIND};
use crate::config::SourcesConfig;
use crate::event::{Kind, catalogue};
use crate::suggest::nearest_name;

/// Names of the events in the catalogue and of the declared CRM events, and the configured sources,
/// which can send events of any name.
#[derive(Clone, Debug)]
pub struct EventVocabulary {
    /// Kind of the entity by the name of the event.
    names: BTreeMap<&'static str, Kind>,
    /// Kind of the entities of a configured source by the prefix of its events' names.
    sources: BTreeMap<String, Kind>,
}

impl EventVocabulary {
    /// Returns the vocabulary of the catalogue and the configured `sources`.
    #[must_use]
    pub fn new(sources: &SourcesConfig) -> Self {
        let declared = sources
            .crm
            .events
            .iter()
            .map(|declared| (declared.name.as_str(), declared.kind));
        let configured = sources
            .custom
            .iter()
            .map(|custom| (custom.name.as_str(), custom.kind));
        Self::from_declared(declared, configured)
    }

    fn from_declared<'a>(
        declared: impl Iterator<Item = (&'static str, Kind)>,
        configured: impl Iterator<Item = (&'a str, Kind)>,
    ) -> Self {
        let internal = Kind::intern_custom(INTERNAL_KIND).expect("the name is short enough");
        let built_in =
            catalogue::all_entries().map(|entry| (entry.name, entry.kind.unwrap_or(internal)));
        let sources = configured.map(|(name, kind)| (format!("{name}."), kind));
        Self {
            names: declared.chain(built_in).collect(),
            sources: sources.collect(),
        }
    }

    /// Returns the vocabulary of a node with these configured sources and declared events.
    #[cfg(test)]
    pub(super) fn with_sources(sources: &[&str], declared: &[(&'static str, &str)]) -> Self {
        let kind = |name: &str| Kind::from_store(name).expect("a kind");
        let declared = declared
            .iter()
            .map(|(name, kind_name)| (*name, kind(kind_name)));
        Self::from_declared(
            declared,
            sources
                .iter()
                .map(|name| (*name, kind(&format!("custom:{name}")))),
        )
    }

    /// Tells if `events` selects any event that can occur to an entity of `kind`, or of any kind.
    pub(super) fn has_match(&self, kind: Option<Kind>, events: EventNamePattern<'_>) -> bool {
        let is_of_kind = |known: Kind| kind.is_none_or(|kind| kind == known);
        let mut sources = self
            .sources
            .iter()
            .filter(|(_, kind)| is_of_kind(**kind))
            .map(|(source, _)| source.as_str());
        let is_of_source = match events {
            EventNamePattern::All => sources.next().is_some(),
            EventNamePattern::Prefix(prefix) => sources.any(|source| prefix.starts_with(source)),
            // A name of a configured source is longer than the source's own name and its dot.
            EventNamePattern::Exact(name) => {
                sources.any(|source| name.len() > source.len() && name.starts_with(source))
            }
        };
        is_of_source || self.matching_names(kind, events).next().is_some()
    }

    /// Returns the kind whose erasures are all that `events` selects, if it is a prefix.
    pub(super) fn erased_kind(
        &self,
        kind: Option<Kind>,
        events: EventNamePattern<'_>,
    ) -> Option<Kind> {
        let EventNamePattern::Prefix(prefix) = events else {
            return None;
        };
        let mut matching = self.matching_names(kind, events);
        let (name, kind) = matching.next()?;
        let is_erasure = name.strip_suffix(ERASED_SUFFIX) == Some(kind.as_str());
        let is_alone = matching.next().is_none() && !self.sources.contains_key(prefix);
        (is_erasure && is_alone).then_some(kind)
    }

    /// Counts the known names that a pattern of `kind` and `events` selects; the names of a configured
    /// source are not known.
    #[must_use]
    pub fn count_names(&self, kind: Option<Kind>, events: EventNamePattern<'_>) -> usize {
        self.matching_names(kind, events).count()
    }

    fn matching_names<'a>(
        &'a self,
        kind: Option<Kind>,
        events: EventNamePattern<'a>,
    ) -> impl Iterator<Item = (&'static str, Kind)> + 'a {
        let is_of_kind = move |known: Kind| kind.is_none_or(|kind| kind == known);
        let is_named = move |name: &str| match events {
            EventNamePattern::All => true,
            EventNamePattern::Prefix(prefix) => name.starts_with(prefix),
            EventNamePattern::Exact(exact) => name == exact,
        };
        let names = self.names.iter().map(|(name, kind)| (*name, *kind));
        names.filter(move |(name, known)| is_of_kind(*known) && is_named(name))
    }

    /// Tells if an event can have this `name`.
    #[must_use]
    pub fn knows_event(&self, name: &str) -> bool {
        self.has_match(None, EventNamePattern::Exact(name))
    }

    /// Returns the known event with the most similar name, if it is similar enough; for a single
    /// word, else the name of that event of a configured source.
    #[must_use]
    pub fn suggest_event(&self, name: &str) -> Option<String> {
        if let Some(nearest) = nearest_name(name, self.names.keys().copied()) {
            return Some(nearest.to_owned());
        }
        let source = self.sources.keys().next().filter(|_| !name.contains('.'))?;
        Some(format!("{source}{name}"))
    }

    /// Tells if any event belongs to an entity of the kind `name`.
    pub(super) fn has_kind(&self, name: &str) -> bool {
        self.kinds().any(|kind| kind.as_str() == name)
    }

    /// Returns the known kind with the most similar name, if it is similar enough.
    pub(super) fn suggest_kind(&self, name: &str) -> Option<String> {
        nearest_name(name, self.kinds().map(|kind| kind.to_string()))
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.names.values().chain(self.sources.values()).copied()
    }

    /// Returns the known pattern that is most similar to `text`, if it is similar enough.
    pub(super) fn suggest_pattern(&self, text: &str) -> Option<String> {
        nearest_name(text, self.suggestible_patterns())
    }

    /// Returns the patterns that people write: each name with and without its kind, prefixes of
    /// names, and whole kinds.
    fn suggestible_patterns(&self) -> BTreeSet<String> {
        let mut patterns = BTreeSet::new();
        for (name, kind) in &self.names {
            let prefix = name.split('.').next().unwrap_or(name);
            patterns.extend([
                (*name).to_owned(),
                format!("{kind}:{name}"),
                format!("{prefix}.*"),
                format!("{kind}:*"),
            ]);
        }
        for (source, kind) in &self.sources {
            patterns.extend([format!("{source}*"), format!("{kind}:*")]);
        }
        patterns
    }
}

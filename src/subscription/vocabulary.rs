//! Every event that can happen, so that a pattern that could never match is refused when it is
//! given.

use std::collections::{BTreeMap, BTreeSet};

use super::event_names::{EventNamePattern, INTERNAL_KIND};
use crate::config::SourcesConfig;
use crate::event::{Kind, catalogue};
use crate::suggest::nearest_name;

/// The events of the catalogue and the declared ones of the bus by name, and the configured
/// sources, from which events of any name can come.
#[derive(Clone, Debug)]
pub struct EventVocabulary {
    /// Names, each with the kind of entity that has it.
    names: BTreeMap<&'static str, Kind>,
    /// What the names of a configured source's events begin with, and the kind of its entities.
    sources: BTreeMap<String, Kind>,
}

impl EventVocabulary {
    /// What `sources` and the catalogue know.
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
        let own = Kind::intern_custom(INTERNAL_KIND).expect("a name that fits");
        let built_in =
            catalogue::all_entries().map(|entry| (entry.name, entry.kind.unwrap_or(own)));
        let sources = configured.map(|(name, kind)| (format!("{name}."), kind));
        Self {
            names: declared.chain(built_in).collect(),
            sources: sources.collect(),
        }
    }

    /// That of a node with these configured sources and declared events.
    #[cfg(test)]
    pub(super) fn with_sources(sources: &[&str], declared: &[(&'static str, &str)]) -> Self {
        let kind = |name: &str| Kind::from_store(name).expect("a kind");
        let declared = declared.iter().map(|(name, of)| (*name, kind(of)));
        Self::from_declared(
            declared,
            sources
                .iter()
                .map(|name| (*name, kind(&format!("custom:{name}")))),
        )
    }

    /// Says whether anything that can happen to an entity of `kind`, or of any, is among `events`.
    pub(super) fn has_match(&self, kind: Option<Kind>, events: EventNamePattern<'_>) -> bool {
        let is_of = |known: Kind| kind.is_none_or(|wanted| wanted == known);
        let mut names = self
            .names
            .iter()
            .filter(|(_, kind)| is_of(**kind))
            .map(|(name, _)| *name);
        let mut sources = self
            .sources
            .iter()
            .filter(|(_, kind)| is_of(**kind))
            .map(|(source, _)| source.as_str());
        match events {
            EventNamePattern::All => names.next().is_some() || sources.next().is_some(),
            EventNamePattern::Prefix(beginning) => {
                names.any(|name| name.starts_with(beginning))
                    || sources.any(|source| beginning.starts_with(source))
            }
            EventNamePattern::Exact(name) => {
                names.any(|known| known == name)
                    || sources.any(|source| name.len() > source.len() && name.starts_with(source))
            }
        }
    }

    /// Whether any event is of the kind `name`.
    pub(super) fn has_kind(&self, name: &str) -> bool {
        self.kinds().any(|kind| kind.as_str() == name)
    }

    /// The known kind that is spelt most like `name`, if one is spelt much like it.
    pub(super) fn suggest_kind(&self, name: &str) -> Option<String> {
        nearest_name(name, self.kinds().map(|kind| kind.to_string()))
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.names.values().chain(self.sources.values()).copied()
    }

    /// The known pattern that is spelt most like `text`, if one is spelt much like it.
    pub(super) fn suggest_pattern(&self, text: &str) -> Option<String> {
        nearest_name(text, self.suggestible_patterns())
    }

    /// The patterns that people write: each name, also with its kind, what names begin with, and
    /// whole kinds.
    fn suggestible_patterns(&self) -> BTreeSet<String> {
        let mut patterns = BTreeSet::new();
        for (name, kind) in &self.names {
            let word = name.split('.').next().unwrap_or(name);
            patterns.extend([
                (*name).to_owned(),
                format!("{kind}:{name}"),
                format!("{word}.*"),
                format!("{kind}:*"),
            ]);
        }
        for (source, kind) in &self.sources {
            patterns.extend([format!("{source}*"), format!("{kind}:*")]);
        }
        patterns
    }
}

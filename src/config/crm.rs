//! `[sources.crm]`: the CRM's event bus, its publishers and the events it has beyond the built-in
//! ones.

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::{check_sendable, parse_string};
use crate::event::{InternedName, Kind, catalogue};

/// `[sources.crm]`: the CRM's event bus.
#[derive(Clone, Debug)]
pub struct CrmConfig {
    /// Whether events can be published.
    pub enabled: bool,
    /// Publishers' bearer tokens, any of which is taken.
    pub tokens: Vec<Secret>,
    /// Events beyond the built-in ones.
    pub events: Vec<DeclaredBusEvent>,
}

/// An event that the configuration declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredBusEvent {
    /// Its whole name, such as `invoice.paid`.
    pub name: InternedName,
    /// What its entities are.
    pub kind: Kind,
}

impl ConfigDraft {
    pub(super) fn read_crm(&mut self) -> CrmConfig {
        CrmConfig {
            enabled: self.read_boolean("sources.crm.enabled"),
            tokens: self.read_secrets("sources.crm.tokens", check_sendable),
            events: self.read_list("sources.crm.events", |value| {
                parse_declared_event(parse_string(value)?.expose())
            }),
        }
    }
}

/// Reads a declared name: `<what>.<happened>`, of which the first word is a kind of the bus or
/// becomes one of its own.
fn parse_declared_event(name: &str) -> Result<DeclaredBusEvent, String> {
    let wrong = |why: &str| format!("{name:?} cannot be declared: {why}");
    let (what, happened) = name
        .split_once('.')
        .ok_or_else(|| wrong("expected <what>.<happened>"))?;
    // What may name a kind may name what happened to it.
    let (Some(custom), Some(_)) = (Kind::intern_custom(what), Kind::intern_custom(happened)) else {
        return Err(wrong(
            "each of its two words is 1 to 64 of a-z, 0-9, _ and -",
        ));
    };
    if let Some(known) =
        catalogue::find_entry(name).filter(|known| known.source != Some(catalogue::CRM_SOURCE))
    {
        return Err(wrong(&format!(
            "{} has an event of that name",
            known.source.unwrap_or("the node itself")
        )));
    }
    let kind = match Kind::parse(what) {
        None => custom,
        Some(kind) if catalogue::BUS_KINDS.contains(&kind) => kind,
        Some(kind) => return Err(wrong(&format!("a {kind} belongs to another source"))),
    };
    Ok(DeclaredBusEvent {
        name: InternedName::intern(name),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_event_belongs_to_a_kind_of_the_bus_or_to_one_of_its_own() {
        let kind = |name| parse_declared_event(name).map(|declared| declared.kind);
        assert_eq!(kind("organisation.merged"), Ok(Kind::Organisation));
        assert_eq!(
            kind("invoice.paid"),
            Ok(Kind::intern_custom("invoice").expect("a name"))
        );
        assert_eq!(
            kind("organisation.created"),
            Ok(Kind::Organisation),
            "built in, and no harm done"
        );
    }

    #[test]
    fn no_configured_source_can_be_named_like_the_first_word_of_an_event() {
        for entry in catalogue::all_entries() {
            let word = entry.name.split('.').next().expect("a word");
            let is_taken =
                super::super::custom::RESERVED_NAMES.contains(&word) || Kind::parse(word).is_some();
            assert!(is_taken, "{}", entry.name);
        }
    }

    #[test]
    fn names_that_are_malformed_or_taken_are_refused() {
        for name in [
            "invoice",
            "invoice.",
            ".paid",
            "Invoice.paid",
            "a.b.c",
            "a b.c",
            "ticket.seen",
            "c2s_lead.won",
        ] {
            assert!(parse_declared_event(name).is_err(), "{name}");
        }
        let taken = parse_declared_event("message.received").expect_err("taken");
        assert_eq!(
            taken,
            r#""message.received" cannot be declared: instagram has an event of that name"#
        );
        let operational = parse_declared_event("breaker.opened").expect_err("taken");
        assert_eq!(
            operational,
            r#""breaker.opened" cannot be declared: the node itself has an event of that name"#
        );
    }
}

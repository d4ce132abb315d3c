//! Section `[sources.crm]`: the CRM's event bus, its publishers and declared events.

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::{check_sendable, parse_string};
use crate::event::{InternedName, Kind, catalogue};

/// Section `[sources.crm]`: the CRM's event bus.
#[derive(Clone, Debug)]
pub struct CrmConfig {
    /// Switches the publishing endpoint on.
    pub enabled: bool,
    /// Bearer tokens of publishers. Any of them is accepted, so tokens can be rotated.
    pub tokens: Vec<Secret>,
    /// Events that the operator declares beyond the built-in ones.
    pub events: Vec<DeclaredBusEvent>,
}

/// Bus event that the configuration declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredBusEvent {
    /// Full event name, such as `invoice.paid`.
    pub name: InternedName,
    /// Entity kind of the event: a kind of the bus, or a custom one.
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

/// Parses a declared name `<kind>.<action>`. The first word is a kind of the bus or becomes a
/// custom kind.
fn parse_declared_event(name: &str) -> Result<DeclaredBusEvent, String> {
    let refused = |why: &str| format!("{name:?} cannot be declared: {why}");
    let (kind_name, action) = name
        .split_once('.')
        .ok_or_else(|| refused("expected <kind>.<action>"))?;
    // Both words follow the same rules as the name of a custom kind.
    let (Some(custom), Some(_)) = (Kind::intern_custom(kind_name), Kind::intern_custom(action))
    else {
        return Err(refused(
            "each of its two words is 1 to 64 of a-z, 0-9, _ and -",
        ));
    };

    if let Some(known) =
        catalogue::find_entry(name).filter(|known| known.source != Some(catalogue::CRM_SOURCE))
    {
        return Err(refused(&format!(
            "{} has an event of that name",
            known.source.unwrap_or("the node itself")
        )));
    }

    let kind = match Kind::parse(kind_name) {
        None => custom,
        Some(kind) if catalogue::BUS_KINDS.contains(&kind) => kind,
        Some(kind) => return Err(refused(&format!("a {kind} belongs to another source"))),
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

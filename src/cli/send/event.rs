//! Events that can be sent from outside, the contract of each, and suggestions for unknown names.

use std::fmt::Write;

use super::data::JsonObject;
use crate::config::Config;
use crate::edge::{crm, instagram, leads, support};
use crate::entity::{c2s_lead, conversation};
use crate::event::catalogue::{self, CatalogueEntry};
use crate::suggest::nearest_name;

/// Event that an outside sender can send.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendableEvent {
    pub(super) name: &'static str,
    pub(super) source: SenderContract,
    /// Sample of the event's data; `None` if the configuration declares the event.
    sample: Option<&'static str>,
}

/// Contract by which an event is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum SenderContract {
    Support,
    Leads(&'static leads::LeadEvent),
    C2s,
    Instagram,
    Crm,
}

/// Errors for a name that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum UnknownEventError {
    #[error("unknown event {0:?}; `hookyard send --help` lists all of them")]
    Far(String),
    #[error(
        "unknown event {name:?}, the nearest is `{nearest}`; `hookyard send --help` lists all of \
         them"
    )]
    Near { name: String, nearest: &'static str },
    #[error("`{0}` cannot be sent: the node itself creates it")]
    Own(&'static str),
}

impl SenderContract {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Support => support::SOURCE.as_str(),
            Self::Leads(_) => leads::SOURCE.as_str(),
            Self::C2s => c2s_lead::SOURCE.as_str(),
            Self::Instagram => instagram::SOURCE.as_str(),
            Self::Crm => crm::SOURCE.as_str(),
        }
    }

    /// Finds the contract of `entry`; `None` for events of the node itself.
    fn from_catalogue(entry: &CatalogueEntry) -> Option<Self> {
        let of_leads = leads::LEAD_EVENTS
            .iter()
            .find(|event| event.event_type == entry.name)
            .map(Self::Leads);
        if entry.name == conversation::REPLY_EVENT {
            return None;
        }
        let is_received = entry.name == c2s_lead::RECEIVED_EVENT;
        let others = [Self::Support, Self::Instagram, Self::Crm].into_iter();
        let source = others
            .chain(of_leads)
            .chain(is_received.then_some(Self::C2s));
        source
            .into_iter()
            .find(|source| entry.source == Some(source.name()))
    }

    /// Describes the options for this contract's events, for `--help`.
    const fn describe_options(self) -> &'static str {
        match self {
            Self::Support => "--entity: the ticket [default: SUP-1042]",
            Self::Leads(_) => {
                "--entity: the id returned by its created event, or a customer's code"
            }
            Self::C2s => {
                "--entity: the lead_id; --data: the whole event; no --key, because --at \
                 identifies the event"
            }
            Self::Instagram => {
                "--entity: who writes to the account; --data: the messaging item; --key: the mid"
            }
            Self::Crm => "--entity: the CRM's own id; events of sources.crm.events can be sent too",
        }
    }
}

impl SendableEvent {
    fn from_catalogue(entry: &CatalogueEntry) -> Option<Self> {
        Some(Self {
            name: entry.name,
            source: SenderContract::from_catalogue(entry)?,
            sample: Some(entry.data),
        })
    }

    /// Returns a sample of the event's data; empty for a declared event.
    pub(super) fn sample(&self) -> JsonObject {
        let parse = |text: &str| {
            text.parse()
                .expect("a test of the catalogue parses every example")
        };
        self.sample.map(parse).unwrap_or_default()
    }
}

/// Finds the event `name` in the catalogue or among the events that `config` declares.
pub(super) fn find_sendable_event(
    name: &str,
    config: &Config,
) -> Result<SendableEvent, UnknownEventError> {
    let declared = config
        .sources
        .crm
        .events
        .iter()
        .map(|declared| declared.name.as_str());
    let entry = catalogue::find_entry(name);
    match (
        entry.as_ref().and_then(SendableEvent::from_catalogue),
        entry,
        declared.clone().find(|known| *known == name),
    ) {
        (Some(event), _, _) => Ok(event),
        (None, Some(own), _) => Err(UnknownEventError::Own(own.name)),
        (None, None, Some(name)) => Ok(SendableEvent {
            name,
            source: SenderContract::Crm,
            sample: None,
        }),
        (None, None, None) => Err(suggest_event(name, declared)),
    }
}

/// Suggests the event nearest to `name`: by the catalogue's names, by the senders' own names, or
/// among `declared`.
fn suggest_event(name: &str, declared: impl Iterator<Item = &'static str>) -> UnknownEventError {
    let sendable =
        || catalogue::all_entries().filter(|entry| SenderContract::from_catalogue(entry).is_some());
    let by_wire_name = sendable().filter_map(|entry| Some((entry.wire_name?, entry.name)));
    let by_name = sendable()
        .map(|entry| entry.name)
        .chain(declared)
        .map(|name| (name, name));
    let candidates: Vec<_> = by_name.chain(by_wire_name).collect();
    let nearest = nearest_name(name, candidates.iter().map(|(spelling, _)| *spelling));
    match candidates
        .iter()
        .find(|(spelling, _)| Some(*spelling) == nearest)
    {
        Some((_, nearest)) => UnknownEventError::Near {
            name: name.to_owned(),
            nearest,
        },
        None => UnknownEventError::Far(name.to_owned()),
    }
}

/// Lists all events by source, followed by `examples`.
pub(super) fn format_help(examples: &str) -> String {
    let mut text = "Events and their meaning:\n".to_owned();
    let mut section = "";
    for (entry, source) in catalogue::all_entries()
        .filter_map(|entry| Some((entry, SenderContract::from_catalogue(&entry)?)))
    {
        // Writing to a `String` cannot fail.
        if source.name() != section {
            section = source.name();
            let _ = writeln!(text, "\n  {section} ({})", source.describe_options());
        }
        let _ = writeln!(text, "    {:<26} {}", entry.name, entry.description);
    }
    format!("{text}\n{examples}")
}

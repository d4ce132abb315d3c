//! Which events can be sent from outside, by which source each goes, and what is said of a name
//! that is none of them.

use std::fmt::Write;

use super::data::JsonObject;
use crate::config::Config;
use crate::edge::{crm, instagram, leads, support};
use crate::entity::{c2s_lead, conversation};
use crate::event::catalogue::{self, Entry};
use crate::suggest::nearest_name;

/// An event that an outside sender can send.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendableEvent {
    pub(super) name: &'static str,
    pub(super) source: SenderContract,
    /// An example of its data; `None` if it is declared in the configuration.
    sample: Option<&'static str>,
}

/// The contract that an event is sent by.
#[derive(Clone, Copy, Debug)]
pub(super) enum SenderContract {
    Support,
    Leads(&'static leads::LeadEvent),
    C2s,
    Instagram,
    Crm,
}

/// A name under which nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum UnknownEventError {
    #[error("there is no event {0:?}; `hookyard send --help` lists all of them")]
    Far(String),
    #[error(
        "there is no event {name:?}, the nearest is `{nearest}`; `hookyard send --help` lists all of them"
    )]
    Near { name: String, nearest: &'static str },
    #[error("`{0}` cannot be sent: the node makes it itself, of other events")]
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

    /// By what `entry` is sent; `None` for what the node makes itself.
    fn from_catalogue(entry: &Entry) -> Option<Self> {
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

    /// What the options mean for its events.
    const fn describe_options(self) -> &'static str {
        match self {
            Self::Support => "--entity: the ticket [default: SUP-1042]",
            Self::Leads(_) => {
                "--entity: the number in the answer to its created event; a customer's code will do too"
            }
            Self::C2s => {
                "--entity: the lead_id; --data: the whole event; there is no --key, as --at tells events apart"
            }
            Self::Instagram => {
                "--entity: who writes to the account; --data: the messaging item; --key: the mid"
            }
            Self::Crm => "--entity: the CRM's own id; events of sources.crm.events can be sent too",
        }
    }
}

impl SendableEvent {
    fn from_catalogue(entry: &Entry) -> Option<Self> {
        Some(Self {
            name: entry.name,
            source: SenderContract::from_catalogue(entry)?,
            sample: Some(entry.data),
        })
    }

    /// An example of its data, empty for a declared one.
    pub(super) fn sample(&self) -> JsonObject {
        let parse = |text: &str| {
            text.parse()
                .expect("a test of the catalogue parses every example")
        };
        self.sample.map(parse).unwrap_or_default()
    }
}

/// The event `name` of the catalogue, or of those that `config` declares.
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

/// Says what `name` was most likely meant to be: an event of the catalogue, by its name here or by
/// its source's own, or one of `declared`.
fn suggest_event(name: &str, declared: impl Iterator<Item = &'static str>) -> UnknownEventError {
    let sendable =
        || catalogue::all_entries().filter(|entry| SenderContract::from_catalogue(entry).is_some());
    let by_wire_name = sendable().filter_map(|entry| Some((entry.wire_name?, entry.name)));
    let by_name = sendable()
        .map(|entry| entry.name)
        .chain(declared)
        .map(|name| (name, name));
    let meant: Vec<_> = by_name.chain(by_wire_name).collect();
    let nearest = nearest_name(name, meant.iter().map(|(spelt, _)| *spelt));
    match meant.iter().find(|(spelt, _)| Some(*spelt) == nearest) {
        Some((_, nearest)) => UnknownEventError::Near {
            name: name.to_owned(),
            nearest,
        },
        None => UnknownEventError::Far(name.to_owned()),
    }
}

/// All events, source by source, before `examples`.
pub(super) fn format_help(examples: &str) -> String {
    let mut text = "Events, each with when it happens:\n".to_owned();
    let mut before = "";
    for (entry, source) in catalogue::all_entries()
        .filter_map(|entry| Some((entry, SenderContract::from_catalogue(&entry)?)))
    {
        // Writing to a text cannot fail.
        if source.name() != before {
            before = source.name();
            let _ = writeln!(text, "\n  {before} ({})", source.describe_options());
        }
        let _ = writeln!(text, "    {:<26} {}", entry.name, entry.description);
    }
    format!("{text}\n{examples}")
}

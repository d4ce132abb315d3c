//! Entry of the audit log, and its bytes: a format byte and JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

const FORMAT: u8 = 1;

/// Longest object id or request id of an entry, in bytes; longer ones are cut.
const TEXT_MAX_BYTES: usize = 256;

/// Outcome of a call without an error, and of an act of the node.
pub const SUCCESS: &str = "ok";

/// Way by which a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditChannel {
    /// The HTTP API, which the command line uses too.
    Api,
    /// The pages of the dashboard for people.
    Dashboard,
    /// The node itself, which nobody called.
    Node,
}

impl AuditChannel {
    /// Every channel by which an entry can come.
    pub const ALL: [Self; 3] = [Self::Api, Self::Dashboard, Self::Node];

    /// Returns the channel's name in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Dashboard => "dashboard",
            Self::Node => "node",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == name)
    }
}

/// One call of an operation, or act of the node itself, as the audit log keeps it. It holds no secret
/// and no payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Time at which the call ended.
    pub at: Timestamp,
    /// Name of the token; `None` if the caller has not proved who it is.
    pub who: Option<String>,
    /// Name of the operation, such as `webhooks.pause`.
    pub operation: String,
    /// Id of the object, such as the number of a subscription.
    pub object: Option<String>,
    /// `ok`, or the code of the error.
    pub outcome: String,
    /// Way by which the call came.
    pub channel: AuditChannel,
    /// Address of the client that called; `None` for an act of the node.
    pub client: Option<IpAddr>,
    /// Id of the request, as its answer has it; `None` for an act of the node.
    pub request_id: Option<String>,
    /// Number of refused calls of the same cause before this one that have no entry.
    pub left_out: u64,
}

impl AuditEntry {
    /// Builds the entry of an act of the node itself at `at`.
    #[must_use]
    pub fn of_node(at: Timestamp, operation: &str, object: Option<String>, outcome: &str) -> Self {
        Self {
            at,
            who: Some(AuditChannel::Node.as_str().to_owned()),
            operation: operation.to_owned(),
            object,
            outcome: outcome.to_owned(),
            channel: AuditChannel::Node,
            client: None,
            request_id: None,
            left_out: 0,
        }
    }
}

/// JSON of an entry. The time is microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    outcome: String,
    channel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    left_out: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(super) fn encode_entry(entry: &AuditEntry) -> Vec<u8> {
    let stored = StoredEntry {
        at: entry.at.as_micros(),
        who: entry.who.clone(),
        operation: entry.operation.clone(),
        object: entry.object.as_deref().map(truncate),
        outcome: entry.outcome.clone(),
        channel: entry.channel.as_str().to_owned(),
        client: entry.client,
        request_id: entry.request_id.as_deref().map(truncate),
        left_out: entry.left_out,
    };
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, &stored)
        .expect("its members have JSON texts, and a Vec takes every write");
    bytes
}

pub(super) fn decode_entry(bytes: &[u8]) -> Option<AuditEntry> {
    let (&FORMAT, json) = bytes.split_first()? else {
        return None;
    };
    let stored: StoredEntry = serde_json::from_slice(json).ok()?;
    Some(AuditEntry {
        at: Timestamp::from_micros(stored.at),
        who: stored.who,
        operation: stored.operation,
        object: stored.object,
        outcome: stored.outcome,
        channel: AuditChannel::parse(&stored.channel)?,
        client: stored.client,
        request_id: stored.request_id,
        left_out: stored.left_out,
    })
}

fn truncate(text: &str) -> String {
    let ends = text.char_indices().map(|(at, one)| at + one.len_utf8());
    let end = ends.take_while(|end| *end <= TEXT_MAX_BYTES).last();
    text[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn entry() -> AuditEntry {
        AuditEntry {
            at: Timestamp::from_micros(5),
            who: Some("ci".to_owned()),
            operation: "webhooks.pause".to_owned(),
            object: Some("7".to_owned()),
            outcome: "ok".to_owned(),
            channel: AuditChannel::Dashboard,
            client: Some(IpAddr::from([127, 0, 0, 1])),
            request_id: Some("r-1".to_owned()),
            left_out: 0,
        }
    }

    /// Stores outlive versions: later versions must read these bytes.
    #[test]
    fn the_bytes_of_an_entry_never_change() {
        let json = concat!(
            "\u{1}",
            r#"{"at":5,"who":"ci","operation":"webhooks.pause","object":"7","outcome":"ok","#,
            r#""channel":"dashboard","client":"127.0.0.1","request_id":"r-1"}"#
        );
        let bytes = encode_entry(&entry());
        assert_eq!(std::str::from_utf8(&bytes), Ok(json));
        assert_eq!(decode_entry(&bytes), Some(entry()));
        let at = Timestamp::from_micros(5);
        let act = AuditEntry::of_node(at, "webhooks.disable", Some("7".to_owned()), "ok");
        let json = concat!(
            "\u{1}",
            r#"{"at":5,"who":"node","operation":"webhooks.disable","object":"7","outcome":"ok","channel":"node"}"#
        );
        assert_eq!(std::str::from_utf8(&encode_entry(&act)), Ok(json));
        assert_eq!(decode_entry(json.as_bytes()), Some(act));
        for wrong in [&b""[..], b"\x02{}", b"\x01{}"] {
            assert_eq!(decode_entry(wrong), None);
        }
    }

    #[test]
    fn long_ids_are_cut_between_characters() {
        let long = AuditEntry {
            object: Some("é".repeat(TEXT_MAX_BYTES)),
            ..entry()
        };
        let read = decode_entry(&encode_entry(&long)).expect("just written");
        let object = read.object.expect("an object");
        assert!(object.len() <= TEXT_MAX_BYTES && object.ends_with('é'));
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_entry_is_read_or_refused(bytes in damaged(&[encode_entry(&entry())])) {
            let _ = decode_entry(&bytes);
        }
    }
}

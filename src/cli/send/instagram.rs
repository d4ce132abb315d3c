//! An update of a conversation, as Instagram sends it: the only one of a call, signed with the
//! app's secret.

use serde::Serialize;
use serde_json::{Value, json};

use super::data::JsonObject;
use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::{InstagramConfig, Secret};
use crate::edge::instagram::signature;

const PATH: &str = "/webhooks/instagram";
const KEYS: [&str; 1] = ["sources.instagram.app_secrets"];
/// The two sides of the samples' conversation.
const COUNTERPART: &str = "1234567890";
const ACCOUNT: &str = "0987654321";

#[derive(Serialize)]
struct InstagramSendBody {
    object: &'static str,
    entry: [InstagramSendEntry; 1],
}

#[derive(Serialize)]
struct InstagramSendEntry {
    id: Value,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    messaging: Option<[JsonObject; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<[JsonObject; 1]>,
}

pub(super) fn build_instagram_request(
    mut wanted: EventOptions,
    config: &InstagramConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let Some(secret) = config.app_secrets.first() else {
        return Err(SendCommandError::NoSecrets(&KEYS));
    };
    let time = wanted.now.as_micros() / 1_000;
    let is_sample = wanted.data.is_none();
    let update = wanted.take_data();
    // What is not of a conversation comes as the change of a field.
    let entry = if update.get("field").is_some() {
        let changes = Some([fill_change(&mut wanted, update, is_sample)?]);
        InstagramSendEntry {
            id: ACCOUNT.into(),
            time,
            messaging: None,
            changes,
        }
    } else {
        let item = fill_item(&mut wanted, update, is_sample)?;
        let business = if is_echo(&wanted) {
            "sender"
        } else {
            "recipient"
        };
        let id = item
            .get(business)
            .and_then(|side| side.get("id").cloned())
            .unwrap_or_else(|| ACCOUNT.into());
        InstagramSendEntry {
            id,
            time,
            messaging: Some([item]),
            changes: None,
        }
    };
    let body = to_json(&InstagramSendBody {
        object: "instagram",
        entry: [entry],
    });
    let headers = vec![(
        "X-Hub-Signature-256",
        Secret::new(signature::sign_instagram_body(secret, &body)),
    )];
    Ok(SignedEventRequest {
        path: PATH.to_owned(),
        headers,
        body,
    })
}

fn is_echo(wanted: &EventOptions) -> bool {
    wanted.event.name == "message.echo"
}

/// The change of a field, which is known as the same again by all that it says.
fn fill_change(
    wanted: &mut EventOptions,
    mut change: JsonObject,
    is_sample: bool,
) -> Result<JsonObject, SendCommandError> {
    if wanted.entity.is_some() {
        return Err(SendCommandError::NamelessEntity {
            event: wanted.event.name,
        });
    }
    if is_sample || wanted.key.is_some() {
        set_nested_member(&mut change, "value", "id", wanted.take_key().into());
    }
    Ok(change)
}

/// A messaging item, with what was not said of it.
fn fill_item(
    wanted: &mut EventOptions,
    mut item: JsonObject,
    is_sample: bool,
) -> Result<JsonObject, SendCommandError> {
    let at = wanted
        .at
        .as_ref()
        .map(|at| Value::from(at.time.as_micros() / 1_000));
    if is_sample {
        // Those of the sample would make it one that is known already.
        item.remove("timestamp");
    }
    item.fill("timestamp", at, || (wanted.now.as_micros() / 1_000).into());
    let (theirs, ours) = if is_echo(wanted) {
        ("recipient", "sender")
    } else {
        ("sender", "recipient")
    };
    item.fill(
        theirs,
        wanted.entity.take().map(|id| json!({"id": id})),
        || json!({"id": COUNTERPART}),
    );
    item.fill(ours, None, || json!({"id": ACCOUNT}));
    let is_own = |part: &str| matches!(part, "message" | "postback");
    match message_member(wanted.event.name) {
        // Of a reaction or a read receipt the mid is that of another message.
        Some(part)
            if wanted.key.is_some() || is_own(part) && (is_sample || lacks_mid(&item, part)) =>
        {
            let mid = wanted
                .key
                .take()
                .unwrap_or_else(|| format!("mid_{}", wanted.random));
            set_nested_member(&mut item, part, "mid", mid.into());
        }
        None if wanted.key.is_some() => {
            return Err(SendCommandError::NoKey {
                event: wanted.event.name,
                known_by: "all that it says",
            });
        }
        Some(_) | None => {}
    }
    Ok(item)
}

/// The member of an item of `event` that has a message's id.
fn message_member(event: &str) -> Option<&'static str> {
    match event {
        "message.received" | "message.echo" => Some("message"),
        "message.reaction" => Some("reaction"),
        "message.postback" => Some("postback"),
        "message.read" => Some("read"),
        _ => None,
    }
}

fn lacks_mid(item: &JsonObject, part: &str) -> bool {
    item.get(part)
        .is_some_and(|part| part.is_object() && part["mid"].is_null())
}

/// Gives the object `part` of `item` the member `name`; there may be none in data of the caller's
/// own.
fn set_nested_member(item: &mut JsonObject, part: &str, name: &str, value: Value) {
    if let Some(Value::Object(mut members)) = item.get(part) {
        members.insert(name.to_owned(), value);
        item.set(part, members);
    }
}

//! Builds a call with one update of a conversation as Instagram sends it, signed with the app's
//! secret.

use serde::Serialize;
use serde_json::{Value, json};

use super::data::JsonObject;
use super::error::SendCommandError;
use super::request::{EventOptions, SignedEventRequest, to_json};
use crate::config::{InstagramConfig, Secret};
use crate::edge::instagram::signature;

const PATH: &str = "/webhooks/instagram";
const KEYS: [&str; 1] = ["sources.instagram.app_secrets"];
/// Ids of the two sides in the samples.
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
    mut options: EventOptions,
    config: &InstagramConfig,
) -> Result<SignedEventRequest, SendCommandError> {
    let Some(secret) = config.app_secrets.first() else {
        return Err(SendCommandError::NoSecrets(&KEYS));
    };
    let time = options.now.as_micros() / 1_000;
    let is_sample = options.data.is_none();
    let update = options.take_data();
    // An update outside a conversation is sent as the change of a field.
    let entry = if update.get("field").is_some() {
        let changes = Some([fill_change(&mut options, update, is_sample)?]);
        InstagramSendEntry {
            id: ACCOUNT.into(),
            time,
            messaging: None,
            changes,
        }
    } else {
        let item = fill_item(&mut options, update, is_sample)?;
        let business = if is_echo(&options) {
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

fn is_echo(options: &EventOptions) -> bool {
    options.event.name == "message.echo"
}

/// Completes the change of a field. Its whole content identifies it, so a sample gets a random id.
fn fill_change(
    options: &mut EventOptions,
    mut change: JsonObject,
    is_sample: bool,
) -> Result<JsonObject, SendCommandError> {
    if options.entity.is_some() {
        return Err(SendCommandError::NamelessEntity {
            event: options.event.name,
        });
    }
    if is_sample || options.key.is_some() {
        set_nested_member(&mut change, "value", "id", options.take_key().into());
    }
    Ok(change)
}

/// Completes a messaging item with sender, recipient, time and message id.
fn fill_item(
    options: &mut EventOptions,
    mut item: JsonObject,
    is_sample: bool,
) -> Result<JsonObject, SendCommandError> {
    let at = options
        .at
        .as_ref()
        .map(|at| Value::from(at.time.as_micros() / 1_000));
    if is_sample {
        // The sample's own time would make the item a duplicate.
        item.remove("timestamp");
    }
    item.fill("timestamp", at, || (options.now.as_micros() / 1_000).into());
    let (user_side, account_side) = if is_echo(options) {
        ("recipient", "sender")
    } else {
        ("sender", "recipient")
    };
    item.fill(
        user_side,
        options.entity.take().map(|id| json!({"id": id})),
        || json!({"id": COUNTERPART}),
    );
    item.fill(account_side, None, || json!({"id": ACCOUNT}));
    let has_own_mid = |part: &str| matches!(part, "message" | "postback");
    match message_member(options.event.name) {
        // The mid of a reaction or a read receipt belongs to another message.
        Some(part)
            if options.key.is_some()
                || has_own_mid(part) && (is_sample || lacks_mid(&item, part)) =>
        {
            let mid = options
                .key
                .take()
                .unwrap_or_else(|| format!("mid_{}", options.random));
            set_nested_member(&mut item, part, "mid", mid.into());
        }
        None if options.key.is_some() => {
            return Err(SendCommandError::NoKey {
                event: options.event.name,
                known_by: "its whole content",
            });
        }
        Some(_) | None => {}
    }
    Ok(item)
}

/// Returns the member of an item of `event` that contains the message id.
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

/// Sets the member `name` in the object `part` of `item`; data of the caller may lack the object.
fn set_nested_member(item: &mut JsonObject, part: &str, name: &str, value: Value) {
    if let Some(Value::Object(mut members)) = item.get(part) {
        members.insert(name.to_owned(), value);
        item.set(part, members);
    }
}

//! Builds the body of a message that is forwarded to the CRM of an Instagram account.

use bytes::Bytes;
use serde::Serialize;

use super::classify::{AttemptError, NO_MESSAGE};
use super::outcome::AttemptOutcome;
use crate::account::Account;
use crate::entity::conversation::{IncomingMessage, MessageType, RECEIVED_EVENT};
use crate::event::{Record, Timestamp};

/// Body of a forwarded message; the contract gives the members.
#[derive(Debug, Serialize)]
struct ForwardBody<'a> {
    event: &'static str,
    message_id: &'a str,
    account_id: &'a str,
    sender_id: &'a str,
    /// Always null: Instagram's webhooks do not hold the name.
    sender_username: Option<&'a str>,
    message: Option<&'a str>,
    message_type: MessageType,
    timestamp: String,
    instagram_message_id: &'a str,
    conversation_id: &'a str,
}

/// Builds the body that forwards `record`, an incoming message, to the CRM of `account`.
///
/// # Errors
/// `no_message` if the record is not an incoming message.
pub(super) fn build_forward_body(
    account: &Account,
    record: &Record,
) -> Result<Bytes, AttemptError> {
    let message = IncomingMessage::from_record(record);
    let message = message.ok_or_else(|| AttemptError {
        code: NO_MESSAGE,
        detail: "event is not an incoming message".into(),
    })?;
    let body = ForwardBody {
        event: RECEIVED_EVENT,
        message_id: &message.message_id,
        account_id: &account.id,
        sender_id: &message.sender_id,
        sender_username: None,
        message: message.text.as_deref(),
        message_type: message.message_type,
        timestamp: format_timestamp(record.at),
        instagram_message_id: &message.message_id,
        conversation_id: record.entity.id(),
    };
    Ok(serde_json::to_vec(&body)
        .expect("its members have JSON texts")
        .into())
}

/// Formats `at` as RFC 3339, without a fraction if it is zero, as in the contract's examples.
fn format_timestamp(at: Timestamp) -> String {
    let text = at.to_string();
    text.strip_suffix(".000Z")
        .map(|whole| format!("{whole}Z"))
        .unwrap_or(text)
}

/// Treats 410 Gone as an ordinary refusal: an account exists until it is removed by the API, so no
/// response disables it.
pub(super) fn refine_forward_outcome(outcome: AttemptOutcome) -> AttemptOutcome {
    match outcome {
        AttemptOutcome::Gone { failure } => AttemptOutcome::PermanentFailure { failure },
        other @ (AttemptOutcome::Accepted
        | AttemptOutcome::Dropped
        | AttemptOutcome::TransientFailure { .. }
        | AttemptOutcome::PermanentFailure { .. }) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::event::{EntityKey, Kind, Position};

    /// Builds the body of a message with these members of its change.
    fn body_of(at: &str, content: &str) -> String {
        let account = Account {
            id: "acc_xyz789".into(),
            instagram_account_id: "0987654321".into(),
            crm_webhook_url: None,
            webhook_secret: Secret::new("hush"),
            access_token: None,
            auto_reply: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            from: Position::FIRST,
        };
        let entity =
            EntityKey::try_new(Kind::Conversation, "conv_1234567890_0987654321").expect("an id");
        let at = Timestamp::parse(at).expect("a time");
        let change = format!(
            r#"{{"at":1,"keep":9,"effect":{{"message":{{"sender_id":"1234567890",{content}}}}}}}"#
        );
        let record = Record {
            sequence: Some(1),
            change: change.into(),
            ..Record::new("instagram", entity, RECEIVED_EVENT, at)
        };
        String::from_utf8(
            build_forward_body(&account, &record)
                .expect("a message")
                .to_vec(),
        )
        .expect("text")
    }

    #[test]
    fn the_body_is_that_of_the_contract() {
        let content = r#""message_id":"mid_abc123","text":"Hello! When will my order ship?","message_type":"text""#;
        let expected = r#"{"event":"message.received","message_id":"mid_abc123","account_id":"acc_xyz789","sender_id":"1234567890","sender_username":null,"message":"Hello! When will my order ship?","message_type":"text","timestamp":"2025-11-08T10:30:00Z","instagram_message_id":"mid_abc123","conversation_id":"conv_1234567890_0987654321"}"#;
        assert_eq!(body_of("2025-11-08T10:30:00Z", content), expected);
    }

    #[test]
    fn a_message_without_words_has_none_and_a_fraction_is_kept() {
        let body = body_of(
            "2025-11-08T10:30:00.120Z",
            r#""message_id":"m","text":null,"message_type":"story_mention""#,
        );
        for member in [
            r#""message":null"#,
            r#""message_type":"story_mention""#,
            r#""timestamp":"2025-11-08T10:30:00.120Z""#,
        ] {
            assert!(body.contains(member), "{body}");
        }
    }
}

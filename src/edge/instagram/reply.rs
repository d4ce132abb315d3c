//! Handler of `POST /api/v1/accounts/{account_id}/messages`: a publisher or the admin sends a
//! message to an Instagram user.
//!
//! ```text
//! size ─> token ─> JSON, fields ─> account ─> duplicate? ─> stored ─> 202
//!  413     401      415, 400         404      202, 409       503
//! ```
//!
//! The delivery stage then sends the message, in the order of the conversation.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::context::RequestContext;
use super::super::error::ApiError;
use super::super::fields::FieldErrors;
use super::super::gate::NodeCore;
use super::super::{answer, body, idempotency, raw_json, submit};
use super::SOURCE;
use super::item::PARTICIPANT_MAX_BYTES;
use crate::account::AccountChangeError;
use crate::config::REPLY_MAX_BYTES;
use crate::entity::conversation::ConversationReply;
use crate::entity::{Command, RejectionPolicy};
use crate::event::{EntityKey, Kind, Position, find_members};
use crate::router::Refusal;

/// Receives one message to an Instagram user.
pub(in crate::edge) async fn reply(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let account_id: String = context.parse_path()?;
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota: _,
    } = context;
    let caller = call.caller().ok_or(ApiError::Unauthorized)?;
    caller.check_scope(&SOURCE, Kind::Conversation.as_str())?;
    caller.check_account(&account_id)?;

    let body = edge.read_body(request, payload, edge.body_limits()).await?;
    body::check_json_content_type(request.headers())?;
    // Accounts are independent, so that two of them may use the same key.
    let idempotency_key = idempotency::parse_idempotency_key(request.headers())?
        .map(|key| format!("reply:{account_id}:{key}"));
    let (recipient_id, text) = parse_reply(body::body_text(&body)?)?;

    let core = edge.core()?;
    let accounts = core.accounts.snapshot();
    let account = accounts
        .get(&account_id)
        .ok_or_else(|| ApiError::NotFound(AccountChangeError::NotFound.to_string()))?;
    let reply = ConversationReply {
        account_id,
        recipient_id,
        text,
        is_automatic: false,
    };
    // The length of both ids was checked before.
    let command = reply
        .to_command(&account.instagram_account_id, None)
        .map_err(|_| ApiError::Internal)?;
    let command = Command {
        idempotency_key,
        token: Some(caller.name),
        request_hash: Some(idempotency::request_fingerprint(request, &body)),
        on_rejection: RejectionPolicy::Answer,
        span: call.span().clone(),
        ..command
    };
    submit_reply(&core, command).await
}

/// Makes the schema of the request.
pub(super) fn reply_schema() -> Value {
    json!({"type": "object", "required": ["recipient_id", "text"], "properties": {
        "recipient_id": {"type": ["string", "integer"], "minLength": 1, "maxLength": PARTICIPANT_MAX_BYTES},
        "text": {"type": "string", "minLength": 1, "maxLength": REPLY_MAX_BYTES},
    }})
}

/// Parses the recipient and the text in `json`.
fn parse_reply(json: &str) -> Result<(String, String), ApiError> {
    let [recipient_id, text] = find_members(json, ["recipient_id", "text"])
        .map_err(|error| ApiError::from_json_error(&error))?;
    let mut faults = FieldErrors::default();
    let recipient = recipient_id
        .and_then(raw_json::parse_id)
        .filter(|id| id.len() <= PARTICIPANT_MAX_BYTES);
    match (recipient_id, &recipient) {
        (None, _) => faults.add("recipient_id", "is required"),
        (Some(_), None) => {
            let problem = format!(
                "must be an id of 1 to {PARTICIPANT_MAX_BYTES} bytes, as a string or a whole number"
            );
            faults.add("recipient_id", problem);
        }
        (Some(_), Some(_)) => {}
    }
    let text = faults.read_nonempty_text("text", text);
    let has_control = text
        .chars()
        .any(|character| character.is_control() && character != '\n');
    let is_blank = !text.is_empty() && text.trim().is_empty();
    if is_blank || text.len() > REPLY_MAX_BYTES || has_control {
        let problem = format!(
            "must have 1 to {REPLY_MAX_BYTES} bytes, not only spaces, \
             and no control characters except line ends"
        );
        faults.add("text", problem);
    }
    faults.finish((recipient.unwrap_or_default(), text))
}

#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedReply<'a> {
    status: &'static str,
    delivery_id: &'a str,
    conversation_id: &'a str,
    sequence: Option<u64>,
}

async fn submit_reply(core: &NodeCore, command: Command) -> Result<HttpResponse, ApiError> {
    let (conversation, request_hash) = (command.entity.clone(), command.request_hash);
    match core.router.submit_command(command).await {
        Ok(outcome) => Ok(accepted_reply_response(
            core,
            outcome.position,
            &conversation,
            outcome.sequence,
        )),
        Err(Refusal::Duplicate { position, .. }) => {
            let first = idempotency::load_first_record(core, position, request_hash).await?;
            let mut response =
                accepted_reply_response(core, position, &first.entity, first.sequence);
            idempotency::mark_replay(&mut response);
            Ok(response)
        }
        Err(refusal) => Err(ApiError::from_refusal(refusal, |position| {
            submit::public_event_id(core, position)
        })),
    }
}

fn accepted_reply_response(
    core: &NodeCore,
    position: Position,
    conversation: &EntityKey,
    sequence: Option<u64>,
) -> HttpResponse {
    let event_id = submit::public_event_id(core, position);
    let delivery_id = event_id.to_string();
    let body = AcceptedReply {
        status: "accepted",
        delivery_id: &delivery_id,
        conversation_id: conversation.id(),
        sequence,
    };
    let mut response = answer::json_response(StatusCode::ACCEPTED, &body);
    submit::set_event_headers(&mut response, event_id, sequence);
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn error_details(recipient_id: &Value, text: &Value) -> Vec<String> {
        let body = json!({"recipient_id": recipient_id, "text": text}).to_string();
        let Err(ApiError::InvalidFields(faults)) = parse_reply(&body) else {
            panic!("it is valid: {body}")
        };
        faults.into_iter().map(|fault| fault.detail).collect()
    }

    #[test]
    fn what_is_sent_says_something_and_fits_into_one_message() {
        let longest = "x".repeat(REPLY_MAX_BYTES);
        for text in ["Hi", "Line one\nline two", "é😀", &longest] {
            let body = json!({"recipient_id": 7, "text": text, "more": 1}).to_string();
            assert_eq!(
                parse_reply(&body).expect("valid"),
                ("7".to_owned(), text.to_owned())
            );
        }
        let expected = "text must have 1 to 1000 bytes, not only spaces, \
                        and no control characters except line ends";
        for text in [
            format!("{longest}x"),
            "é".repeat(501),
            " \n ".into(),
            "\u{7}".into(),
            "a\tb".into(),
        ] {
            assert_eq!(
                error_details(&json!("1"), &json!(text)),
                [expected],
                "{text:?}"
            );
        }
        assert_eq!(
            error_details(&json!("1"), &json!("")),
            ["text must not be empty"]
        );
        let Err(ApiError::InvalidFields(faults)) =
            parse_reply(r#"{"recipient_id": "1", "text": "\ud800"}"#)
        else {
            panic!("no text")
        };
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn every_wrong_member_is_named() {
        let recipient =
            "recipient_id must be an id of 1 to 100 bytes, as a string or a whole number";
        for id in [
            json!(null),
            json!(""),
            json!(1.5),
            json!("a\nb"),
            json!("1".repeat(101)),
            json!({}),
        ] {
            assert_eq!(
                error_details(&id, &json!(null)),
                [recipient, "text must be a string, not null"],
                "{id}"
            );
        }
        let Err(ApiError::InvalidFields(faults)) = parse_reply("{}") else {
            panic!("nothing is there")
        };
        assert_eq!(faults.len(), 2);
        assert_eq!(
            parse_reply("[]").expect_err("no object").code(),
            "invalid_json"
        );
    }
}

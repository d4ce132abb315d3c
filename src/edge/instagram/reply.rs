//! `POST /api/v1/accounts/{account_id}/messages`: asks for a message to somebody, for a publisher or the admin.
//!
//! ```text
//! size ─> token ─> JSON, fields ─> account ─> repeated? ─> stored ─> 202, and sent as soon as it is its turn
//!  413     401      415, 400         404      202, 409      503
//! ```

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::super::context::RequestContext;
use super::super::error::Error;
use super::super::fields::Faults;
use super::super::gate::Core;
use super::super::{admin, answer, body, intake, raw, repeat};
use super::item::PARTICIPANT_MAX_BYTES;
use crate::account::Refused;
use crate::config::REPLY_MAX_BYTES;
use crate::entity::conversation::Reply;
use crate::entity::{Command, OnRefusal};
use crate::event::{EntityKey, Position, members};
use crate::router::Refusal;

/// Takes a message to somebody in.
pub(in crate::edge) async fn reply(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let account_id: String = context.parse_path()?;
    let RequestContext { request, payload, edge, call, quota: _ } = context;
    body::check_declared(request, edge.bounds())?;
    let crm = &edge.config.sources.crm;
    admin::authorize_any(request, edge, if crm.enabled { &crm.tokens } else { &[] })?;
    let body = body::read(request, payload, edge.bounds()).await?;
    body::check_is_json(request.headers())?;
    // Two accounts may use one key, as they need not know of each other.
    let key = repeat::key(request.headers())?.map(|key| format!("reply:{account_id}:{key}"));
    let (recipient_id, text) = read(body::text(&body)?)?;
    let core = edge.core()?;
    let known = core.accounts.known();
    let account = known.find(&account_id).ok_or_else(|| Error::NotFound(Refused::NotFound.to_string()))?;
    let reply = Reply { account_id, recipient_id, text, is_automatic: false };
    // Both ids were checked to be short enough.
    let command = reply.command(&account.instagram_account_id, None).map_err(|_| Error::Internal)?;
    let command = Command {
        idempotency_key: key,
        request: Some(repeat::fingerprint(request, &body)),
        refusal: OnRefusal::Answer,
        span: call.span().clone(),
        ..command
    };
    submit(&core, command).await
}

/// The recipient and the text that `json` gives.
fn read(json: &str) -> Result<(String, String), Error> {
    let [recipient_id, text] = members(json, ["recipient_id", "text"]).map_err(|error| Error::not_json(&error))?;
    let mut faults = Faults::default();
    let recipient = recipient_id.and_then(raw::id).filter(|id| id.len() <= PARTICIPANT_MAX_BYTES);
    match (recipient_id, &recipient) {
        (None, _) => faults.add("recipient_id", "is required"),
        (Some(_), None) => {
            let problem = format!("must be an id of 1 to {PARTICIPANT_MAX_BYTES} bytes, as a string or a whole number");
            faults.add("recipient_id", problem);
        }
        (Some(_), Some(_)) => {}
    }
    let text = faults.name("text", text);
    let has_control = text.chars().any(|character| character.is_control() && character != '\n');
    let is_blank = !text.is_empty() && text.trim().is_empty();
    if is_blank || text.len() > REPLY_MAX_BYTES || has_control {
        let problem =
            format!("must say something in at most {REPLY_MAX_BYTES} bytes, without control characters but line ends");
        faults.add("text", problem);
    }
    faults.finish((recipient.unwrap_or_default(), text))
}

#[derive(Serialize)]
struct Accepted<'a> {
    status: &'static str,
    delivery_id: &'a str,
    conversation_id: &'a str,
    sequence: Option<u64>,
}

async fn submit(core: &Core, command: Command) -> Result<HttpResponse, Error> {
    let (conversation, request) = (command.entity.clone(), command.request);
    match core.router.submit(command).await {
        Ok(outcome) => Ok(accepted(core, outcome.position, &conversation, outcome.sequence)),
        Err(Refusal::Duplicate { position, .. }) => {
            let first = repeat::first(core, position, request).await?;
            let mut response = accepted(core, position, &first.entity, first.sequence);
            repeat::mark(&mut response);
            Ok(response)
        }
        Err(refusal) => Err(Error::from_refusal(refusal, |position| intake::event_id(core, position))),
    }
}

fn accepted(core: &Core, position: Position, conversation: &EntityKey, sequence: Option<u64>) -> HttpResponse {
    let event_id = intake::event_id(core, position);
    let delivery_id = event_id.to_string();
    let body = Accepted { status: "accepted", delivery_id: &delivery_id, conversation_id: conversation.id(), sequence };
    let mut response = answer::json(StatusCode::ACCEPTED, &body);
    intake::write_event(&mut response, event_id, sequence);
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wrong(recipient_id: &Value, text: &Value) -> Vec<String> {
        let body = json!({"recipient_id": recipient_id, "text": text}).to_string();
        let Err(Error::Invalid(faults)) = read(&body) else { panic!("it is valid: {body}") };
        faults.into_iter().map(|fault| fault.detail).collect()
    }

    #[test]
    fn what_is_sent_says_something_and_fits_into_one_message() {
        let longest = "x".repeat(REPLY_MAX_BYTES);
        for text in ["Hi", "Line one\nline two", "é😀", &longest] {
            let body = json!({"recipient_id": 7, "text": text, "more": 1}).to_string();
            assert_eq!(read(&body).expect("valid"), ("7".to_owned(), text.to_owned()));
        }
        let expected = "text must say something in at most 1000 bytes, without control characters but line ends";
        for text in [format!("{longest}x"), "é".repeat(501), " \n ".into(), "\u{7}".into(), "a\tb".into()] {
            assert_eq!(wrong(&json!("1"), &json!(text)), [expected], "{text:?}");
        }
        assert_eq!(wrong(&json!("1"), &json!("")), ["text must not be empty"]);
        let Err(Error::Invalid(faults)) = read(r#"{"recipient_id": "1", "text": "\ud800"}"#) else { panic!("no text") };
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn every_wrong_member_is_named() {
        let recipient = "recipient_id must be an id of 1 to 100 bytes, as a string or a whole number";
        for id in [json!(null), json!(""), json!(1.5), json!("a\nb"), json!("1".repeat(101)), json!({})] {
            assert_eq!(wrong(&id, &json!(null)), [recipient, "text must be a string, not null"], "{id}");
        }
        let Err(Error::Invalid(faults)) = read("{}") else { panic!("nothing is there") };
        assert_eq!(faults.len(), 2);
        assert_eq!(read("[]").expect_err("no object").code(), "invalid_json");
    }
}

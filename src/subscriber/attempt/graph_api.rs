//! What Instagram's Graph API is sent, replies of an account, and what its answers mean.
//!
//! Its errors have a number of their own, and most of them come as a 400 or 403, those that pass
//! too:
//!
//! | error | meaning | |
//! |---|---|---|
//! | 1, 2, or marked `is_transient` | something failed over there | tried again |
//! | 4, 17, 32, 341, 613, 80002, 80006 | too many calls | tried again |
//! | 10 | among others: more than 24 hours after the last message | dead letter |
//! | 190 | the access token has expired or was withdrawn | dead letter |
//! | any other, such as 100 or 551 | the reply cannot be sent | dead letter |

use std::borrow::Cow;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::super::AttemptFailure;
use super::AttemptOutcome;
use super::classify::{AttemptError, NO_MESSAGE, NO_TOKEN, STATUS};
use crate::config::Secret;
use crate::entity::conversation::ConversationReply;
use crate::event::Record;

/// As much of an error's message as is shown: they are sentences.
const MESSAGE_MAX_CHARACTERS: usize = 300;

/// The headers that calls with `token` carry.
pub(super) fn build_auth_headers(token: Option<&Secret>) -> HeaderMap {
    // It was checked where it was given.
    let value =
        token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok());
    let header = value.map(|mut value| {
        value.set_sensitive(true);
        (AUTHORIZATION, value)
    });
    header.into_iter().collect()
}

/// The body of the reply that `record` is, to be sent with `token`.
///
/// # Errors
/// [`Broken`] if it is none, or without a token.
pub(super) fn build_reply_body(
    record: &Record,
    token: Option<&Secret>,
) -> Result<Bytes, AttemptError> {
    if token.is_none() {
        let detail =
            "the account has no access_token, and sources.instagram.access_token is not set";
        return Err(AttemptError {
            code: NO_TOKEN,
            detail: detail.into(),
        });
    }
    #[derive(Serialize)]
    struct GraphMessageBody<'a> {
        recipient: GraphRecipient<'a>,
        message: GraphText<'a>,
    }
    #[derive(Serialize)]
    struct GraphRecipient<'a> {
        id: &'a str,
    }
    #[derive(Serialize)]
    struct GraphText<'a> {
        text: &'a str,
    }
    let reply = ConversationReply::from_payload(&record.payload);
    let reply = reply.ok_or_else(|| AttemptError {
        code: NO_MESSAGE,
        detail: "the event is no reply".into(),
    })?;
    let sent = GraphMessageBody {
        recipient: GraphRecipient {
            id: &reply.recipient_id,
        },
        message: GraphText { text: &reply.text },
    };
    Ok(serde_json::to_vec(&sent)
        .expect("its members have JSON texts")
        .into())
}

/// An error as the Graph API words it.
#[derive(Deserialize)]
struct GraphErrorBody<'a> {
    #[serde(borrow)]
    error: GraphError<'a>,
}

#[derive(Deserialize)]
struct GraphError<'a> {
    code: i64,
    error_subcode: Option<i64>,
    #[serde(default)]
    is_transient: bool,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

impl GraphError<'_> {
    /// Whether the same call can succeed later.
    fn is_retryable(&self) -> bool {
        self.is_transient || matches!(self.code, 1 | 2 | 4 | 17 | 32 | 341 | 613 | 80_002 | 80_006)
    }

    fn describe_error(&self, status: u16) -> String {
        let Self {
            code,
            error_subcode,
            message,
            ..
        } = self;
        let subcode = error_subcode
            .map(|subcode| format!(" ({subcode})"))
            .unwrap_or_default();
        let told = |message: &str| {
            format!(
                ": {}",
                message
                    .chars()
                    .take(MESSAGE_MAX_CHARACTERS)
                    .collect::<String>()
            )
        };
        let message = message.as_deref().map(told).unwrap_or_default();
        format!("answered {status}, error {code}{subcode}{message}")
    }
}

/// What `outcome`, as it is by its status alone, is by what the Graph API says.
pub(super) fn refine_reply_outcome(outcome: AttemptOutcome) -> AttemptOutcome {
    match outcome {
        // The message is sent. The rest of the answer is worth no second one, which a person would
        // read.
        AttemptOutcome::TransientFailure {
            failure:
                AttemptFailure {
                    status: Some(200..300),
                    ..
                },
            ..
        } => AttemptOutcome::Accepted,
        AttemptOutcome::PermanentFailure { mut failure } | AttemptOutcome::Gone { mut failure } => {
            let (status, answer) = (failure.status.unwrap_or_default(), failure.answer.clone());
            // What was refused before anything was sent has no answer.
            let told = serde_json::from_slice(&answer)
                .ok()
                .filter(|_| failure.code == STATUS);
            let Some(GraphErrorBody { error }) = told else {
                return AttemptOutcome::PermanentFailure { failure };
            };
            failure.detail = error.describe_error(status);
            if error.is_retryable() {
                AttemptOutcome::TransientFailure {
                    failure,
                    retry_after: None,
                }
            } else {
                AttemptOutcome::PermanentFailure { failure }
            }
        }
        other @ (AttemptOutcome::Accepted | AttemptOutcome::TransientFailure { .. }) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntityKey, Kind, Timestamp};

    fn judged(status: u16, body: &str) -> AttemptOutcome {
        let answer = Bytes::copy_from_slice(body.as_bytes());
        let failure = AttemptFailure {
            status: Some(status),
            code: STATUS,
            detail: format!("answered {status}"),
            answer,
        };
        refine_reply_outcome(AttemptOutcome::PermanentFailure { failure })
    }

    fn error(code: i64, more: &str) -> String {
        format!(
            r#"{{"error": {{"message": "Told.", "type": "IGApiException", "code": {code}, "fbtrace_id": "A"{more}}}}}"#
        )
    }

    #[test]
    fn what_passes_is_tried_again_although_it_is_a_400() {
        for code in [1, 2, 4, 17, 32, 341, 613, 80_002, 80_006] {
            assert!(
                matches!(
                    judged(400, &error(code, "")),
                    AttemptOutcome::TransientFailure { .. }
                ),
                "{code}"
            );
        }
        assert!(matches!(
            judged(403, &error(7, r#", "is_transient": true"#)),
            AttemptOutcome::TransientFailure { .. }
        ));
        for code in [10, 100, 190, 200, 368, 551] {
            assert!(
                matches!(
                    judged(400, &error(code, r#", "is_transient": false"#)),
                    AttemptOutcome::PermanentFailure { .. }
                ),
                "{code}"
            );
        }
        for body in ["", "<html>", "{}", r#"{"error": {"code": "4"}}"#] {
            assert!(
                matches!(judged(400, body), AttemptOutcome::PermanentFailure { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn a_failure_says_what_the_api_said() {
        let outcome = judged(403, &error(10, r#", "error_subcode": 2534022"#));
        assert_eq!(
            outcome.failure().expect("refused").detail,
            "answered 403, error 10 (2534022): Told."
        );
        assert_eq!(
            judged(400, "?").failure().expect("refused").detail,
            "answered 400"
        );
    }

    #[test]
    fn an_account_is_not_gone_and_a_message_that_was_sent_is_not_sent_again() {
        let failure = |status| AttemptFailure {
            status,
            code: STATUS,
            detail: String::new(),
            answer: Bytes::new(),
        };
        assert!(matches!(
            refine_reply_outcome(AttemptOutcome::Gone {
                failure: failure(Some(410))
            }),
            AttemptOutcome::PermanentFailure { .. }
        ));
        let cut_off = AttemptOutcome::TransientFailure {
            failure: failure(Some(200)),
            retry_after: None,
        };
        assert_eq!(refine_reply_outcome(cut_off), AttemptOutcome::Accepted);
        let down = AttemptOutcome::TransientFailure {
            failure: failure(Some(500)),
            retry_after: None,
        };
        assert_eq!(refine_reply_outcome(down.clone()), down);
        let silent = AttemptOutcome::TransientFailure {
            failure: failure(None),
            retry_after: None,
        };
        assert_eq!(refine_reply_outcome(silent.clone()), silent);
    }

    #[test]
    fn a_call_carries_the_token_as_a_secret() {
        let headers = build_auth_headers(Some(&Secret::new("hush")));
        assert_eq!(headers[AUTHORIZATION], "Bearer hush");
        assert!(headers[AUTHORIZATION].is_sensitive() && !format!("{headers:?}").contains("hush"));
        let entity = EntityKey::try_new(Kind::Conversation, "conv_1_9").expect("an id");
        let record = Record::new("instagram", entity, "message.reply", Timestamp::default());
        assert_eq!(
            build_reply_body(&record, None).expect_err("no token").code,
            NO_TOKEN
        );
        assert_eq!(
            build_reply_body(&record, Some(&Secret::new("hush")))
                .expect_err("no reply")
                .code,
            NO_MESSAGE
        );
    }
}

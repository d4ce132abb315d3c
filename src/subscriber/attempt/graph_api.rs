//! Builds replies for Instagram's Graph API, and refines outcomes by the API's error numbers.
//!
//! The API answers most errors with 400 or 403, transient errors too; the error's number tells them
//! apart:
//!
//! | error | meaning | |
//! |---|---|---|
//! | 1, 2, or marked `is_transient` | failure inside the API | retried |
//! | 4, 17, 32, 341, 613, 80002, 80006 | rate limit reached | retried |
//! | 10 | permission denied, or more than 24 hours after the last message | dead letter |
//! | 190 | access token expired or revoked | dead letter |
//! | any other, such as 100 or 551 | the reply cannot be sent | dead letter |

use std::borrow::Cow;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::super::AttemptFailure;
use super::classify::{AttemptError, NO_MESSAGE, NO_TOKEN, STATUS};
use super::outcome::AttemptOutcome;
use crate::config::Secret;
use crate::entity::conversation::ConversationReply;
use crate::event::Record;

/// Characters of an error's message that are shown at most: enough for one sentence.
const MESSAGE_MAX_CHARACTERS: usize = 300;

/// Builds the headers that authenticate a call with `token`.
pub(super) fn build_auth_headers(token: Option<&Secret>) -> HeaderMap {
    // The token was validated when it was configured, so no header is dropped here.
    let value =
        token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok());
    let header = value.map(|mut value| {
        value.set_sensitive(true);
        (AUTHORIZATION, value)
    });
    header.into_iter().collect()
}

/// Builds the request body of the reply in `record`, to be sent with `token`.
///
/// # Errors
/// `no_token` without a token, `no_message` if the record is not a reply.
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
        detail: "event is not a reply".into(),
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

/// Body of an error response of the Graph API.
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
    /// True if the same call can succeed later.
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
        let excerpt = |message: &str| {
            let text: String = message.chars().take(MESSAGE_MAX_CHARACTERS).collect();
            format!(": {text}")
        };
        let message = message.as_deref().map(excerpt).unwrap_or_default();
        format!("answered {status}, error {code}{subcode}{message}")
    }
}

/// Refines `outcome`, which was classified by its status, by the error in the response's body.
pub(super) fn refine_reply_outcome(outcome: AttemptOutcome) -> AttemptOutcome {
    match outcome {
        // The API has sent the message. A retry for an incomplete response would send it twice.
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
            // A failure before the request was sent has no response to parse.
            let parsed = serde_json::from_slice(&answer)
                .ok()
                .filter(|_| failure.code == STATUS);
            let Some(GraphErrorBody { error }) = parsed else {
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
        other @ (AttemptOutcome::Accepted
        | AttemptOutcome::Dropped
        | AttemptOutcome::TransientFailure { .. }) => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};
    use crate::event::{EntityKey, Kind, Timestamp};

    fn refined(status: u16, body: &str) -> AttemptOutcome {
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
                    refined(400, &error(code, "")),
                    AttemptOutcome::TransientFailure { .. }
                ),
                "{code}"
            );
        }
        assert!(matches!(
            refined(403, &error(7, r#", "is_transient": true"#)),
            AttemptOutcome::TransientFailure { .. }
        ));
        for code in [10, 100, 190, 200, 368, 551] {
            assert!(
                matches!(
                    refined(400, &error(code, r#", "is_transient": false"#)),
                    AttemptOutcome::PermanentFailure { .. }
                ),
                "{code}"
            );
        }
        for body in ["", "<html>", "{}", r#"{"error": {"code": "4"}}"#] {
            assert!(
                matches!(refined(400, body), AttemptOutcome::PermanentFailure { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn a_failure_says_what_the_api_said() {
        let outcome = refined(403, &error(10, r#", "error_subcode": 2534022"#));
        assert_eq!(
            outcome.failure().expect("refused").detail,
            "answered 403, error 10 (2534022): Told."
        );
        assert_eq!(
            refined(400, "?").failure().expect("refused").detail,
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

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_answer_of_the_graph_api_is_read_or_refused(
            status in 400_u16..600,
            body in damaged_text(&[&error(190, r#", "error_subcode": 463, "is_transient": true"#), &error(-1, "")]),
        ) {
            let _ = refined(status, &body);
        }
    }
}

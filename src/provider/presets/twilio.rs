//! Twilio signs the URL and, for a form, every field. Another body is covered by its hash, which
//! the URL holds as `bodySHA256`.
//!
//! Names and values of a form are signed without any mark between them. So a captured form also
//! verifies with the letters moved between a name and its value, or into the query of the URL.
//! Twilio offers no other signature, so the same signed bytes are taken with the same fields only.
//!
//! A webhook may be set to `GET`: the fields are in the query then, and the URL alone is signed.
//!
//! Twilio signs the URL with or without its port, so both are tried, as Twilio's own libraries do.
//! Sources: <https://www.twilio.com/docs/usage/webhooks/webhooks-security>,
//! <https://www.twilio.com/docs/errors/12300>,
//! <https://www.twilio.com/docs/voice/twiml#request-parameters>,
//! <https://www.twilio.com/docs/conversations/conversations-webhooks>,
//! <https://www.twilio.com/docs/events/webhook-quickstart>

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::body::DocumentFormat;
use crate::provider::claim_error::ClaimError;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::request::RequestView;
use crate::provider::scheme::require_signatures;
use crate::provider::signature_claim::{SignatureClaim, SignatureSet, SignedContentLayout};
use crate::provider::signed_content::SignedContent;

const HEADER: &str = "x-twilio-signature";

/// Most fields of a form that are sorted before the sender is authenticated. Twilio sends some
/// dozens.
const FIELDS_MAX: usize = 1_000;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "twilio",
    signing: PresetSigning::Own {
        key: VerificationKey::from_secret,
        claim,
    },
    sends_forms: true,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "/ConversationSid",
            "/ConferenceSid",
            "/RoomSid",
            "/TaskSid",
            "/MessageSid",
            "/SmsSid",
            "/CallSid",
            "/RecordingSid",
            "/FaxSid",
            "/VerificationSid",
            "/WorkerSid",
            "/transcript_sid",
            // Of event streams.
            "./data/messageSid",
            "./data/callSid",
            "./data/sid",
            "./source",
            "account:{/AccountSid}",
            "account",
        ],
        event: &[
            "/EventType",
            "/StatusCallbackEvent",
            "/TranscriptionEvent",
            "/StreamEvent",
            "message.{/MessageStatus}",
            "message.{/SmsStatus}",
            "recording.{/RecordingStatus}",
            "call.{/CallStatus}",
            "./type",
            "/event_type",
            "notification",
        ],
        idempotency_key: &[
            "./id",
            "I-Twilio-Idempotency-Token",
            "{/EventType}:{/DeliveryReceiptSid}:{/Status}",
            // A message of a conversation is updated any number of times.
            "{/EventType}:{/MessageSid}:{?/DateUpdated}{?/DateCreated}",
            "{/EventType}:{/ParticipantSid}:{?/DateUpdated}{?/DateCreated}",
            "{/EventType}:{/ConversationSid}:{?/DateUpdated}{?/DateCreated}",
            "{/EventType}:{/ResourceSid}:{/TimestampMs}",
            "{/MessageSid}:{/MessageStatus}",
            "{/MessageSid}:{/SmsStatus}",
            "{/ConferenceSid}:{/SequenceNumber}:{?/StatusCallbackEvent}",
            "{/RoomSid}:{/SequenceNumber}:{?/StatusCallbackEvent}",
            "{/CompositionSid}:{/StatusCallbackEvent}:{?/PercentageDone}",
            "{/TranscriptionSid}:{/SequenceId}",
            "{/StreamSid}:{/StreamEvent}",
            "{/RecordingSid}:{/RecordingStatus}",
            "{/CallSid}:{/SequenceNumber}:{?/CallStatus}",
            // While a call is in progress, it asks again after each input.
            "{/CallSid}:{/CallStatus}:{?/Digits}{?/SpeechResult}",
            "{/event_type}:{/transcript_sid}",
            "/Sid",
        ],
        occurred_at: &[
            "./time",
            "/TimestampMs",
            "/Timestamp",
            "/DateUpdated",
            "/DateCreated",
        ],
        // A call of an event stream is a list of events.
        items: &[""],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    // Anything but TwiML is an error at incoming messages and calls.
    answer: PresetAnswer::Document("text/xml", "<Response/>"),
    facts: PresetFacts {
        sends_by_get: true,
        ..PresetFacts::USUAL
    },
};

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let signatures = require_signatures(request, HEADER, SignatureEncoding::Base64)?;
    let (layout, fields) = match (
        DocumentFormat::from_request(request),
        body_hash(request.url),
    ) {
        // The fields are in the query of the URL, so a body would not be read.
        _ if request.method == "GET" => match request.body.is_empty() {
            true => ("{url}", String::new()),
            false => return Err(ClaimError::UnsignedBody),
        },
        // A URL with a hash belongs to a body that is no form, whatever its unsigned type says.
        (_, Some(hash)) => {
            check_hash(hash, request.body)?;
            ("{url}, with the body's hash in it", String::new())
        }
        (Some(DocumentFormat::Form), None) => {
            ("{url} and the fields by name", sort_fields(request.body)?)
        }
        (Some(DocumentFormat::Json) | None, None) => return Err(ClaimError::UnsignedBody),
    };
    Ok(SignatureClaim {
        header: HEADER,
        proofs: vec![SignatureSet {
            algorithm: SignatureAlgorithm::HmacSha1,
            signatures,
        }],
        layout: SignedContentLayout::Fixed(layout),
        signed: signed_content(request.url.as_bytes().into(), &fields),
        alternatives: respell_port(request.url)
            .map(|url| signed_content(url.into_bytes().into(), &fields))
            .into_iter()
            .collect(),
        time: None,
        covers_body: true,
        others: Vec::new(),
    })
}

fn signed_content<'r>(url: Cow<'r, [u8]>, fields: &str) -> SignedContent<'r> {
    SignedContent::without_cut_check(vec![url, fields.as_bytes().to_vec().into()])
}

/// Returns `url` without its port, or with the standard port of its scheme if it has none.
fn respell_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let with_port = authority.rsplit_once(':').filter(|(_, port)| is_port(port));
    match (with_port, scheme) {
        (Some((host, _)), _) => Some(format!("{scheme}://{host}{path}")),
        (None, "https") => Some(format!("{scheme}://{authority}:443{path}")),
        (None, "http") => Some(format!("{scheme}://{authority}:80{path}")),
        (None, _) => None,
    }
}

/// Returns the hash of the body if `url` ends with it, where Twilio puts it. A hash elsewhere could
/// come from a field of a captured form that was moved into the URL.
fn body_hash(url: &str) -> Option<&str> {
    let (before, hash) = url.rsplit_once("bodySHA256=")?;
    let is_parameter = before.ends_with(['?', '&']);
    (is_parameter && hash.len() == 2 * 32).then_some(hash)
}

fn check_hash(hash: &str, body: &[u8]) -> Result<(), ClaimError> {
    let expected = SignatureEncoding::Hex
        .decode(hash)
        .ok_or(ClaimError::OtherBody)?;
    let is_match = bool::from(Sha256::digest(body).ct_eq(expected.as_slice()));
    if is_match {
        Ok(())
    } else {
        Err(ClaimError::OtherBody)
    }
}

/// Returns the names and values of the form as Twilio signs them: sorted, without separators, each
/// pair once.
fn sort_fields(body: &[u8]) -> Result<String, ClaimError> {
    let mut fields: Vec<_> = form_urlencoded::parse(body).take(FIELDS_MAX + 1).collect();
    if fields.len() > FIELDS_MAX {
        return Err(ClaimError::TooManyFields);
    }
    fields.sort();
    fields.dedup();
    Ok(fields
        .into_iter()
        .flat_map(|(name, value)| [name, value])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_left_out_or_else_the_standard_one_is_added() {
        let table = [
            ("https://a.test:1234/b?c=d:5", "https://a.test/b?c=d:5"),
            ("https://a.test:443/b", "https://a.test/b"),
            ("https://a.test/b:7", "https://a.test:443/b:7"),
            ("http://a.test?b", "http://a.test:80?b"),
            (
                "https://user:secret@a.test/b",
                "https://user:secret@a.test:443/b",
            ),
            ("https://[::1]/b", "https://[::1]:443/b"),
            ("https://[::1]:8/b", "https://[::1]/b"),
        ];
        for (url, expected) in table {
            assert_eq!(respell_port(url).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(respell_port("/b"), None);
    }
}

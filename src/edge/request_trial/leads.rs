//! Checks a request against the contract of leads.

use bytes::Bytes;

use super::finding::{
    NO_KEY, TrialFinding, describe_missing_time, describe_proof, format_line, format_lines,
    not_decoded,
};
use crate::config::{LeadSignatureLayout, LeadsConfig};
use crate::edge::leads::{
    BASE_PATH, DecodedLeadEvent, LEAD_EVENTS, LeadEvent, LeadEventSubject, LeadEventTarget,
    LeadRequestContext, decode_lead_event, signature,
};
use crate::edge::signature::{SignatureVerifier, VerifiedBody};
use crate::provider::RequestView;

const SIGNATURE: &str = "x-webhook-signature";

/// Event and id of a path under [`BASE_PATH`]. The generic endpoint has neither.
type LeadsAddress<'a> = (Option<&'static LeadEvent>, Option<&'a str>);

pub(super) fn check_leads(config: &LeadsConfig, request: &RequestView<'_>) -> [TrialFinding; 2] {
    let verifier = SignatureVerifier::new(&config.secrets);
    let presented = request.header_lines(SIGNATURE).map(str::as_bytes);
    let head = match config.signed {
        LeadSignatureLayout::Body => Vec::new(),
        LeadSignatureLayout::TimePathBody => {
            let time = request.single_header("x-webhook-timestamp");
            signature::signed_head(time.unwrap_or_default().as_bytes(), request.path())
        }
    };
    let body = Bytes::copy_from_slice(request.body);
    let body = signature::verify_lead_body(&verifier, &head, body, presented);
    let result = match verifier.is_empty() {
        true => "not required: the source has no secrets",
        false => describe_proof(body.is_some(), request, SIGNATURE),
    };
    let verification = TrialFinding {
        is_good: body.is_some(),
        text: format_line("signature", result),
    };
    [
        verification,
        body.map_or_else(not_decoded, |body| decode_lead(request, &body)),
    ]
}

fn decode_lead(request: &RequestView<'_>, body: &VerifiedBody) -> TrialFinding {
    let Some((event, id)) = parse_address(request) else {
        return TrialFinding::failed(format!(
            "not a path of leads; the paths are {BASE_PATH} and those below it"
        ));
    };
    let number = id
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|id| id.parse().ok());
    if event.is_some_and(|event| matches!(event.subject, LeadEventSubject::Known(_)))
        && number.is_none()
    {
        return TrialFinding::failed("the id in the path is not a number, so no entity has it");
    }
    // A node generates a random code for a new customer without one; the report needs none.
    let context = LeadRequestContext {
        event,
        id: number,
        new_customer_code: || Some(String::new()),
    };
    decode_lead_event(body, context).map_or_else(TrialFinding::from, |decoded| {
        describe_decoded(&decoded, request)
    })
}

fn describe_decoded(decoded: &DecodedLeadEvent, request: &RequestView<'_>) -> TrialFinding {
    let entity = match &decoded.target {
        LeadEventTarget::New(kind) => format!("a new {kind}"),
        LeadEventTarget::Known(entity) => format!("{} {}", entity.kind(), entity.id()),
        LeadEventTarget::Code(code) => format!("the customer of code {code}"),
    };
    TrialFinding::passed(format_lines(&[
        ("entity", &entity),
        ("event", decoded.event.event_type),
        ("key", request.header("idempotency-key").unwrap_or(NO_KEY)),
        (
            "time",
            &decoded
                .at
                .map_or_else(describe_missing_time, |at| at.to_string()),
        ),
    ]))
}

fn parse_address<'r>(request: &RequestView<'r>) -> Option<LeadsAddress<'r>> {
    let path = request.path();
    let path = path
        .strip_suffix('/')
        .unwrap_or(path)
        .strip_prefix(BASE_PATH)?;
    if path.is_empty() {
        return Some((None, None));
    }
    let path = path.strip_prefix('/')?;
    LEAD_EVENTS.iter().find_map(|event| {
        let Some((before, after)) = event.path?.split_once("{id}") else {
            return (event.path == Some(path)).then_some((Some(event), None));
        };
        let id = path.strip_prefix(before)?.strip_suffix(after)?;
        (!id.contains('/')).then_some((Some(event), Some(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_event_and_entity() {
        let read = |path: &str| {
            let url = format!("https://h{path}");
            parse_address(&RequestView {
                method: "POST",
                url: &url,
                headers: Vec::new(),
                body: b"",
            })
            .map(|(event, id)| (event.map(|event| event.name), id.map(str::to_owned)))
        };
        assert_eq!(read(BASE_PATH), Some((None, None)));
        for event in &LEAD_EVENTS {
            let Some(path) = event.path else { continue };
            let id = path.contains("{id}").then(|| "7".to_owned());
            for end in ["", "/", "?a=b"] {
                let path = format!("{BASE_PATH}/{}{end}", path.replace("{id}", "7"));
                assert_eq!(read(&path), Some((Some(event.name), id.clone())), "{path}");
            }
        }
        for path in [
            "",
            "/",
            "/x",
            "/api/v1/webhooks/incomings",
            "/api/v1/webhooks/incoming/lead/7/8/update",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}

//! A request against the leads contract.

use bytes::Bytes;

use super::{Half, NO_KEY, line, lines, no_time, proof, undecoded};
use crate::config::Leads;
use crate::edge::leads::{BASE, Decoded, EVENTS, Event, Given, Subject, Target, decode, signature};
use crate::edge::signature::{Verified, Verifier};
use crate::provider::Request;

/// What a path under [`BASE`] says: the event that it takes, if it is one only, and the id in it.
type Address<'a> = (Option<&'static Event>, Option<&'a str>);

pub(super) fn judge(config: &Leads, request: &Request<'_>) -> [Half; 2] {
    let verifier = Verifier::new(&config.secrets);
    let given = request.header("x-webhook-signature").map(str::as_bytes);
    let body = signature::verify(&verifier, Bytes::copy_from_slice(request.body), given);
    let word = match verifier.is_empty() {
        true => "none is needed, as the source has no secrets",
        false => proof(body.is_some()),
    };
    let verification = Half { is_good: body.is_some(), text: line("signature", word) };
    [verification, body.map_or_else(undecoded, |body| read(request, &body))]
}

fn read(request: &Request<'_>, body: &Verified) -> Half {
    let Some((event, id)) = address(request.url) else {
        return Half::wrong(format!("there is nothing of leads at this path; it is {BASE}, or one of those under it"));
    };
    let number = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).and_then(|id| id.parse().ok());
    if event.is_some_and(|event| matches!(event.subject, Subject::Known(_))) && number.is_none() {
        return Half::wrong("the id in the path is no number, so there is nobody of that id");
    }
    // A node would make one at random for a customer that is given none.
    let given = Given { event, id: number, new_code: || Some(String::new()) };
    decode(body, given).map_or_else(Half::from, |decoded| found(&decoded, request))
}

fn found(decoded: &Decoded, request: &Request<'_>) -> Half {
    let entity = match &decoded.target {
        Target::New(kind) => format!("a new {kind}"),
        Target::Known(entity) => format!("{} {}", entity.kind(), entity.id()),
        Target::Code(code) => format!("the customer of code {code}"),
    };
    Half::good(lines(&[
        ("entity", &entity),
        ("event", decoded.event.event_type),
        ("key", request.header("idempotency-key").unwrap_or(NO_KEY)),
        ("time", &decoded.at.map_or_else(no_time, |at| at.to_string())),
    ]))
}

fn address(url: &str) -> Option<Address<'_>> {
    let url = url.split(['?', '#']).next()?;
    let path = url.split_once("://").map_or(Some(url), |(_, rest)| rest.find('/').map(|at| &rest[at..]))?;
    let path = path.strip_suffix('/').unwrap_or(path).strip_prefix(BASE)?;
    if path.is_empty() {
        return Some((None, None));
    }
    let path = path.strip_prefix('/')?;
    EVENTS.iter().find_map(|event| {
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
    fn a_path_says_which_event_it_takes_and_whom_it_is_for() {
        let read = |path: &str| {
            let url = format!("https://h{path}");
            address(&url).map(|(event, id)| (event.map(|event| event.name), id.map(str::to_owned)))
        };
        assert_eq!(read(BASE), Some((None, None)));
        for event in &EVENTS {
            let Some(path) = event.path else { continue };
            let id = path.contains("{id}").then(|| "7".to_owned());
            for end in ["", "/", "?a=b"] {
                let path = format!("{BASE}/{}{end}", path.replace("{id}", "7"));
                assert_eq!(read(&path), Some((Some(event.name), id.clone())), "{path}");
            }
        }
        for path in ["", "/", "/x", "/api/v1/webhooks/incomings", "/api/v1/webhooks/incoming/lead/7/8/update"] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}

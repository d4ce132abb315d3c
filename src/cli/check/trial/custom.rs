//! A request against a configured source.

use super::{Half, NO_KEY, line, lines, no_time, subscription};
use crate::config::Custom;
use crate::event::Timestamp;
use crate::provider::{Document, Handshake, Reply, Request, Verdict};

pub(super) fn judge(custom: &Custom, request: &Request<'_>, now: Timestamp) -> [Half; 2] {
    let subscribes = matches!(custom.source.signing.handshake(), Handshake::Subscription);
    if request.method == "GET" && subscribes {
        return subscription(request, &custom.verify_token);
    }
    let explanation = custom.source.explain(request, now);
    let verification = Half { is_good: explanation.verdict == Verdict::Verified, text: explanation.to_string() };
    [verification, decode(custom, request)]
}

fn decode(custom: &Custom, request: &Request<'_>) -> Half {
    let document = match Document::read(request) {
        Ok(document) => document,
        Err(wrong) => return Half { is_good: false, text: line("reason", wrong) },
    };
    if let Some(reply) = custom.source.handshake(&document) {
        let answer = match reply {
            Reply::Challenge(_) => "a question for a challenge, which is the answer; no event",
            Reply::Pong => "a ping; no event",
        };
        return Half { is_good: true, text: line("handshake", answer) };
    }
    // A person may see what a node would only read after it has verified the request.
    match custom.source.fields.extract(request, &document) {
        Ok(found) => Half {
            is_good: true,
            text: lines(&[
                ("entity", &format!("{} {}", custom.kind, found.entity)),
                ("event", &format!("{}.{}", custom.name, found.event)),
                ("key", found.idempotency_key.as_deref().unwrap_or(NO_KEY)),
                ("time", &found.occurred_at.map_or_else(no_time, |at| at.to_string())),
            ]),
        },
        Err(lost) => Half { is_good: false, text: lost.iter().map(|lost| line(lost.field, &lost.problem)).collect() },
    }
}

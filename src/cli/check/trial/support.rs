//! A request against the support contract.

use bytes::Bytes;

use super::{Half, command, lines, proof, undecoded};
use crate::config::Support;
use crate::edge::signature::{Verified, Verifier};
use crate::edge::support::{self, Given};
use crate::event::{Timestamp, members};
use crate::provider::Request;

pub(super) fn judge(config: &Support, request: &Request<'_>, now: Timestamp) -> [Half; 2] {
    let header = |name| request.header(name);
    let in_body = || {
        let [timestamp] = members(std::str::from_utf8(request.body).ok()?, ["timestamp"]).ok()?;
        serde_json::from_str::<String>(timestamp?.get()).ok()
    };
    let timestamp = header("x-crm-timestamp").map(str::to_owned).or_else(in_body).unwrap_or_default();
    let body = Bytes::copy_from_slice(request.body);
    let key = header("x-crm-api-key").unwrap_or_default().as_bytes();
    let is_known = config.api_keys.iter().any(|known| !known.is_empty() && known.matches(key));
    let signature = header("x-crm-signature").unwrap_or_default().as_bytes();
    let verified = Verifier::new(&config.secrets).verify(&body, timestamp.as_bytes(), signature);
    let at = Timestamp::parse(&timestamp);
    let is_fresh = at.is_some_and(|at| at.distance(now) <= config.tolerance);
    let verification = Half {
        is_good: is_known && verified.is_some() && is_fresh,
        text: lines(&[
            ("x-crm-api-key", proof(is_known)),
            ("x-crm-signature", proof(verified.is_some())),
            ("time", &at.map_or_else(|| "not RFC 3339".to_owned(), |at| at.to_string())),
            ("time is near", if is_fresh { "yes" } else { "no" }),
        ]),
    };
    let decoding = match verified {
        Some(body) => decode(config, request, &body, at),
        None => undecoded(),
    };
    [verification, decoding]
}

fn decode(config: &Support, request: &Request<'_>, body: &Verified, at: Option<Timestamp>) -> Half {
    let idempotency_key = request.header("idempotency-key").or_else(|| request.header("x-idempotency-key"));
    let given =
        Given { idempotency_key: idempotency_key.map(str::as_bytes), at, unknown_entity: config.unknown_entity };
    support::decode(body, given, tracing::Span::none()).map_or_else(Half::from, |found| command(&found))
}

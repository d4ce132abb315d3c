//! An event of the CRM's bus, as a publisher sends it: with a bearer token and an idempotency key.

use serde::Serialize;

use super::data::{Data, id};
use super::error::Error;
use super::request::{Request, Wanted, to_json};
use crate::config::{Crm, Secret};

const PATH: &str = "/api/v1/events";
const KEYS: [&str; 1] = ["sources.crm.tokens"];
/// The entity of a declared event that names none; there is no example of its data.
const SAMPLE_ID: u64 = 1;

#[derive(Serialize)]
struct Body {
    event: &'static str,
    timestamp: String,
    data: Data,
}

/// Signs with `admin_token` if there is no publisher's, which is as good.
pub(super) fn request(mut wanted: Wanted, config: &Crm, admin_token: &Secret) -> Result<Request, Error> {
    let token = config.tokens.first().or_else(|| Some(admin_token).filter(|token| !token.is_empty()));
    let Some(token) = token else { return Err(Error::NoSecrets(&KEYS)) };
    let mut data = wanted.take_data();
    let what = wanted.event.name.split('.').next().unwrap_or_default();
    let given = wanted.entity.take().map(|entity| id(&entity));
    if given.is_some() || data.get("id").is_none() {
        data.fill(&format!("{what}_id"), given, || SAMPLE_ID.into());
    }
    let body = to_json(&Body { event: wanted.event.name, timestamp: wanted.at(), data });
    let headers = vec![
        ("Authorization", Secret::new(format!("Bearer {}", token.expose()))),
        ("Idempotency-Key", Secret::new(wanted.take_key())),
    ];
    Ok(Request { path: PATH.to_owned(), headers, body })
}

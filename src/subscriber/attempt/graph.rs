//! What Instagram's Graph API is sent: replies of an account.

use bytes::Bytes;
use reqwest::header::HeaderMap;

use super::judge::{BAD_URL, Broken};
use crate::account::Account;
use crate::event::Record;

/// Where replies of `account` go, and the headers that they carry.
///
/// # Errors
/// [`Broken`] while no address is known.
pub(super) fn call(account: &Account) -> Result<(&str, HeaderMap), Broken> {
    let _ = account;
    Err(Broken { code: BAD_URL, detail: "no address of the Graph API is known".into() })
}

/// The body of the reply that `record` is.
///
/// # Errors
/// [`Broken`] if it is none.
pub(super) fn body(record: &Record) -> Result<Bytes, Broken> {
    Ok(record.payload.clone())
}

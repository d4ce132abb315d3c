//! Errors of changing an account.

use crate::event::Timestamp;
use crate::table_store::TableWriteError;

/// Failure to create, change or remove an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountChangeError {
    /// Another account has the same id.
    #[error("there is an account {0} already")]
    Exists(String),
    /// Another account has the same business account.
    #[error("account {by} has this instagram_account_id already")]
    Claimed {
        /// Id of the other account.
        by: String,
    },
    /// The limit of accounts is reached.
    #[error("there are {0} accounts already; sources.instagram.accounts_max allows no more")]
    TooMany(usize),
    /// No account has this id.
    #[error("there is no such account")]
    NotFound,
    /// Another request changed the account since its caller read it.
    #[error("the account was changed at {0}, after you loaded it")]
    ChangedSince(Timestamp),
    /// The write failed, so the change may or may not be on the disk.
    #[error("it is not known whether the account was stored, look at it and try again")]
    OutcomeUnknown(#[from] TableWriteError),
}

//! Errors of loading the accounts and of changing one.

use crate::table_store::{DefinitionError, TableWriteError};

/// Failure to load the accounts of a store.
#[derive(Debug, thiserror::Error)]
pub enum AccountOpenError {
    /// The store failed, or the encryption key is missing or wrong.
    #[error("cannot read the accounts")]
    Unreadable(#[from] DefinitionError),
    /// A later version wrote an account.
    #[error(
        "account {id} has format {found}, which this version does not read; \
         start the version that wrote it"
    )]
    Format {
        /// Id of the unreadable account.
        id: String,
        /// Format byte of the stored account.
        found: u8,
    },
    /// The bytes of an account are malformed.
    #[error("account {id} cannot be read; restore the data folder from a backup")]
    Corrupt {
        /// Id of the unreadable account.
        id: String,
    },
}

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
    /// The write failed, so the change may or may not be on the disk.
    #[error("it is not known whether the account was stored, look at it and try again")]
    OutcomeUnknown(#[source] TableWriteError),
}

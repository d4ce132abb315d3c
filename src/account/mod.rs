//! Accounts: which business account at Instagram belongs to whom, and where its messages are to go.
//!
//! They are definitions, true in themselves and not derived from any event, so they have a tree of
//! their own in the store. All of them are in memory as well, since every message asks for one.

mod codec;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::config::{AutoReply, EncryptionKey, Secret};
use crate::event::{Position, Timestamp};
use crate::journal::{DataStore, DefinitionError, DefinitionTree, StoreWriteError};

/// The tree of accounts.
const TREE: &str = "accounts";

/// One business account and what is to be done with its messages.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name here.
    pub id: String,
    /// Its id at Instagram.
    pub instagram_account_id: String,
    /// Where its messages go; `None` means where the configuration says.
    pub crm_webhook_url: Option<String>,
    /// What deliveries to that address are signed with.
    pub webhook_secret: Secret,
    /// What replies are sent with; `None` means what the configuration says.
    pub access_token: Option<Secret>,
    /// Its automatic reply; `None` means that of the configuration.
    pub auto_reply: Option<AutoReply>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The first record that can be a message to it: what was written before it claimed its
    /// business account stays unclaimed.
    pub from: Position,
}

/// Why the accounts of a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountOpenError {
    /// The store failed, or its key is missing or another one.
    #[error("cannot read the accounts")]
    Unreadable(#[from] DefinitionError),
    /// A later version wrote one.
    #[error(
        "account {id} has format {found}, which this version does not read; start the version that wrote it"
    )]
    Format {
        /// Which account.
        id: String,
        /// Its format.
        found: u8,
    },
    /// The bytes of one are none of ours.
    #[error("account {id} cannot be read; restore the data folder from a backup")]
    Corrupt {
        /// Which account.
        id: String,
    },
}

/// Why an account was not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum AccountChangeError {
    /// Another account has its name.
    #[error("there is an account {0} already")]
    Exists(String),
    /// Another account has its business account.
    #[error("account {by} has this instagram_account_id already")]
    Claimed {
        /// That account.
        by: String,
    },
    /// There is no room for another.
    #[error("there are {0} accounts already; sources.instagram.accounts_max allows no more")]
    TooMany(usize),
    /// There is no such account.
    #[error("there is no such account")]
    NotFound,
    /// It is not known whether it is on the disk.
    #[error("it is not known whether the account was stored, look at it and try again")]
    OutcomeUnknown(#[source] StoreWriteError),
}

/// All accounts at one moment.
#[derive(Clone, Debug, Default)]
pub struct AccountSnapshot {
    by_id: BTreeMap<String, Arc<Account>>,
    by_business: BTreeMap<String, Arc<Account>>,
}

impl AccountSnapshot {
    /// The account `id`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    /// The account of the business account `instagram_account_id`.
    #[must_use]
    pub fn find_by_business_account(&self, instagram_account_id: &str) -> Option<&Arc<Account>> {
        self.by_business.get(instagram_account_id)
    }

    /// All of them, the one made last first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<&Arc<Account>> {
        let mut accounts: Vec<_> = self.by_id.values().collect();
        accounts.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| b.id.cmp(&a.id))
        });
        accounts
    }

    fn insert(&mut self, account: Arc<Account>) {
        self.by_business
            .insert(account.instagram_account_id.clone(), Arc::clone(&account));
        self.by_id.insert(account.id.clone(), account);
    }

    fn remove(&mut self, id: &str) {
        if let Some(account) = self.by_id.remove(id) {
            self.by_business.remove(&account.instagram_account_id);
        }
    }
}

/// The accounts of one opening of the store.
pub struct AccountRegistry {
    definitions: DefinitionTree,
    snapshot: RwLock<Arc<AccountSnapshot>>,
    /// Held while one is written: changes come one after another.
    writing: Mutex<()>,
    accounts_max: usize,
    failed: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for AccountRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Accounts({})", self.snapshot().by_id.len())
    }
}

impl AccountRegistry {
    /// The accounts in `store`, to which no more are added beyond `accounts_max`, sealed with `key`
    /// if there is one.
    ///
    /// # Errors
    /// [`OpenError`] when one of them cannot be read.
    pub fn open(
        store: Arc<DataStore>,
        accounts_max: usize,
        key: Option<&EncryptionKey>,
    ) -> Result<Self, AccountOpenError> {
        let definitions = DefinitionTree::open(store, TREE, key)?;
        let mut known = AccountSnapshot::default();
        for (key, value) in definitions.read_all()? {
            known.insert(Arc::new(codec::decode_account(&key, &value)?));
        }
        Ok(Self {
            definitions,
            snapshot: RwLock::new(Arc::new(known)),
            writing: Mutex::default(),
            accounts_max,
            failed: watch::Sender::new(None),
        })
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<AccountSnapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// Says why the store has to be opened anew, once a write failed.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Adds `account`, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// [`Refused`]; only [`Refused::Unknown`] can have changed something.
    pub fn create(&self, account: Account) -> Result<Arc<Account>, AccountChangeError> {
        let _writing = self.writing.lock();
        let known = self.snapshot();
        if known.get(&account.id).is_some() {
            return Err(AccountChangeError::Exists(account.id));
        }
        if known.by_id.len() >= self.accounts_max {
            return Err(AccountChangeError::TooMany(known.by_id.len()));
        }
        self.persist(&known, account)
    }

    /// Puts what `change` makes of the account `id` in its place, and returns when that is on the
    /// disk. Blocks.
    ///
    /// # Errors
    /// As [`Accounts::create`].
    pub fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Account),
    ) -> Result<Arc<Account>, AccountChangeError> {
        let _writing = self.writing.lock();
        let known = self.snapshot();
        let mut account = Account::clone(known.get(id).ok_or(AccountChangeError::NotFound)?);
        change(&mut account);
        self.persist(&known, account)
    }

    /// Removes the account `id`, and returns when that is on the disk. Blocks.
    ///
    /// # Errors
    /// As [`Accounts::create`].
    pub fn remove(&self, id: &str) -> Result<(), AccountChangeError> {
        let _writing = self.writing.lock();
        let mut known = AccountSnapshot::clone(&self.snapshot());
        known.get(id).ok_or(AccountChangeError::NotFound)?;
        self.definitions
            .remove(id)
            .map_err(|error| self.report_write_failure(error))?;
        known.remove(id);
        self.publish(known);
        Ok(())
    }

    fn persist(
        &self,
        known: &AccountSnapshot,
        account: Account,
    ) -> Result<Arc<Account>, AccountChangeError> {
        let claimed = known
            .find_by_business_account(&account.instagram_account_id)
            .filter(|other| other.id != account.id);
        if let Some(other) = claimed {
            return Err(AccountChangeError::Claimed {
                by: other.id.clone(),
            });
        }
        self.definitions
            .put(&account.id, &codec::encode_account(&account))
            .map_err(|error| self.report_write_failure(error))?;
        let (mut known, account) = (known.clone(), Arc::new(account));
        known.remove(&account.id);
        known.insert(Arc::clone(&account));
        self.publish(known);
        Ok(account)
    }

    fn publish(&self, known: AccountSnapshot) {
        *self.snapshot.write() = Arc::new(known);
    }

    /// What is on the disk is not known any more: only opening the store anew tells.
    fn report_write_failure(&self, error: StoreWriteError) -> AccountChangeError {
        self.failed
            .send_replace(Some(format!("accounts cannot be written: {error}")));
        AccountChangeError::OutcomeUnknown(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failpoints::NoFailures;

    fn account(id: &str, instagram_account_id: &str) -> Account {
        Account {
            id: id.into(),
            instagram_account_id: instagram_account_id.into(),
            crm_webhook_url: None,
            webhook_secret: Secret::new("hush"),
            access_token: None,
            auto_reply: None,
            created_at: Timestamp::from_micros(1),
            from: Position::FIRST,
        }
    }

    #[test]
    fn a_business_account_has_one_account_and_each_account_one_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        let accounts = AccountRegistry::open(store, 2, None).expect("opens");
        accounts.create(account("a", "1")).expect("room");
        assert!(matches!(
            accounts.create(account("a", "2")),
            Err(AccountChangeError::Exists(_))
        ));
        assert!(
            matches!(accounts.create(account("b", "1")), Err(AccountChangeError::Claimed { by }) if by == "a")
        );
        accounts.create(account("b", "2")).expect("room");
        assert!(matches!(
            accounts.create(account("c", "3")),
            Err(AccountChangeError::TooMany(2))
        ));
        let to = |id: &'static str| {
            move |account: &mut Account| account.instagram_account_id = id.into()
        };
        assert!(matches!(
            accounts.change("b", to("1")),
            Err(AccountChangeError::Claimed { .. })
        ));
        assert!(matches!(
            accounts.change("c", to("3")),
            Err(AccountChangeError::NotFound)
        ));
        accounts.change("b", to("3")).expect("free");
        let known = accounts.snapshot();
        assert!(
            known.find_by_business_account("2").is_none(),
            "what it had is free again"
        );
        assert_eq!(
            known
                .find_by_business_account("3")
                .map(|account| account.id.as_str()),
            Some("b")
        );
        accounts.remove("a").expect("there");
        assert!(accounts.snapshot().find_by_business_account("1").is_none());
        assert!(matches!(
            accounts.remove("a"),
            Err(AccountChangeError::NotFound)
        ));
        assert!(
            known.get("a").is_some(),
            "who looked before keeps what they saw"
        );
    }
}

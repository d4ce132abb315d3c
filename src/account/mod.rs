//! Accounts: which business account at Instagram belongs to whom, and where its messages are to go.
//!
//! They are definitions, true in themselves and not derived from any event, so they have a tree of their own in the store.
//! All of them are in memory as well, since every message asks for one.

mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::config::{AutoReply, EncryptionKey, Secret};
use crate::event::{Position, Timestamp};
use crate::journal::{Definitions, Store, Unreadable, WriteError};

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
    /// The first record that can be a message to it: what was written before it claimed its business account stays unclaimed.
    pub from: Position,
}

/// Why the accounts of a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed, or its key is missing or another one.
    #[error("cannot read the accounts")]
    Unreadable(#[from] Unreadable),
    /// A later version wrote one.
    #[error("account {id} has format {found}, which this version does not read; start the version that wrote it")]
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
pub enum Refused {
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
    Unknown(#[source] WriteError),
}

/// All accounts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Known {
    by_id: BTreeMap<String, Arc<Account>>,
    by_business: BTreeMap<String, Arc<Account>>,
}

impl Known {
    /// The account `id`.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    /// The account of the business account `instagram_account_id`.
    #[must_use]
    pub fn claiming(&self, instagram_account_id: &str) -> Option<&Arc<Account>> {
        self.by_business.get(instagram_account_id)
    }

    /// All of them, the one made last first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<&Arc<Account>> {
        let mut accounts: Vec<_> = self.by_id.values().collect();
        accounts.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        accounts
    }

    fn add(&mut self, account: Arc<Account>) {
        self.by_business.insert(account.instagram_account_id.clone(), Arc::clone(&account));
        self.by_id.insert(account.id.clone(), account);
    }

    fn remove(&mut self, id: &str) {
        if let Some(account) = self.by_id.remove(id) {
            self.by_business.remove(&account.instagram_account_id);
        }
    }
}

/// The accounts of one opening of the store.
pub struct Accounts {
    definitions: Definitions,
    known: RwLock<Arc<Known>>,
    /// Held while one is written: changes come one after another.
    writing: Mutex<()>,
    accounts_max: usize,
    failed: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Accounts({})", self.known().by_id.len())
    }
}

impl Accounts {
    /// The accounts in `store`, to which no more are added beyond `accounts_max`, sealed with `key` if there is one.
    ///
    /// # Errors
    /// [`OpenError`] when one of them cannot be read.
    pub fn open(store: Arc<Store>, accounts_max: usize, key: Option<&EncryptionKey>) -> Result<Self, OpenError> {
        let definitions = Definitions::open(store, TREE, key)?;
        let mut known = Known::default();
        for (key, value) in definitions.all()? {
            known.add(Arc::new(stored::decode(&key, &value)?));
        }
        Ok(Self {
            definitions,
            known: RwLock::new(Arc::new(known)),
            writing: Mutex::default(),
            accounts_max,
            failed: watch::Sender::new(None),
        })
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read())
    }

    /// Says why the store has to be opened anew, once a write failed.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Adds `account`, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// [`Refused`]; only [`Refused::Unknown`] can have changed something.
    pub fn create(&self, account: Account) -> Result<Arc<Account>, Refused> {
        let _writing = self.writing.lock();
        let known = self.known();
        if known.find(&account.id).is_some() {
            return Err(Refused::Exists(account.id));
        }
        if known.by_id.len() >= self.accounts_max {
            return Err(Refused::TooMany(known.by_id.len()));
        }
        self.keep(&known, account)
    }

    /// Puts what `change` makes of the account `id` in its place, and returns when that is on the disk. Blocks.
    ///
    /// # Errors
    /// As [`Accounts::create`].
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Account)) -> Result<Arc<Account>, Refused> {
        let _writing = self.writing.lock();
        let known = self.known();
        let mut account = Account::clone(known.find(id).ok_or(Refused::NotFound)?);
        change(&mut account);
        self.keep(&known, account)
    }

    /// Removes the account `id`, and returns when that is on the disk. Blocks.
    ///
    /// # Errors
    /// As [`Accounts::create`].
    pub fn remove(&self, id: &str) -> Result<(), Refused> {
        let _writing = self.writing.lock();
        let mut known = Known::clone(&self.known());
        known.find(id).ok_or(Refused::NotFound)?;
        self.definitions.remove(id).map_err(|error| self.fail(error))?;
        known.remove(id);
        self.publish(known);
        Ok(())
    }

    fn keep(&self, known: &Known, account: Account) -> Result<Arc<Account>, Refused> {
        let claimed = known.claiming(&account.instagram_account_id).filter(|other| other.id != account.id);
        if let Some(other) = claimed {
            return Err(Refused::Claimed { by: other.id.clone() });
        }
        self.definitions.put(&account.id, &stored::encode(&account)).map_err(|error| self.fail(error))?;
        let (mut known, account) = (known.clone(), Arc::new(account));
        known.remove(&account.id);
        known.add(Arc::clone(&account));
        self.publish(known);
        Ok(account)
    }

    fn publish(&self, known: Known) {
        *self.known.write() = Arc::new(known);
    }

    /// What is on the disk is not known any more: only opening the store anew tells.
    fn fail(&self, error: WriteError) -> Refused {
        self.failed.send_replace(Some(format!("accounts cannot be written: {error}")));
        Refused::Unknown(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::NoFaults;

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
        let store = Store::open(folder.path(), 1 << 20, Arc::new(NoFaults)).expect("opens");
        let accounts = Accounts::open(store, 2, None).expect("opens");
        accounts.create(account("a", "1")).expect("room");
        assert!(matches!(accounts.create(account("a", "2")), Err(Refused::Exists(_))));
        assert!(matches!(accounts.create(account("b", "1")), Err(Refused::Claimed { by }) if by == "a"));
        accounts.create(account("b", "2")).expect("room");
        assert!(matches!(accounts.create(account("c", "3")), Err(Refused::TooMany(2))));
        let to = |id: &'static str| move |account: &mut Account| account.instagram_account_id = id.into();
        assert!(matches!(accounts.change("b", to("1")), Err(Refused::Claimed { .. })));
        assert!(matches!(accounts.change("c", to("3")), Err(Refused::NotFound)));
        accounts.change("b", to("3")).expect("free");
        let known = accounts.known();
        assert!(known.claiming("2").is_none(), "what it had is free again");
        assert_eq!(known.claiming("3").map(|account| account.id.as_str()), Some("b"));
        accounts.remove("a").expect("there");
        assert!(accounts.known().claiming("1").is_none());
        assert!(matches!(accounts.remove("a"), Err(Refused::NotFound)));
        assert!(known.find("a").is_some(), "who looked before keeps what they saw");
    }
}

//! Definitions of Instagram accounts: business account, destination of messages, automatic reply.
//!
//! An account is not derived from events, so accounts have a tree of their own in the store. All
//! accounts are in memory as well, because every message looks up its account.

mod codec;
mod definition;
mod error;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::event::Timestamp;
use crate::table_store::{DefinitionOpenError, DefinitionRegistry, TableStore};

pub use self::definition::Account;
pub use self::error::AccountChangeError;

/// All accounts at one moment, which later changes do not touch.
#[derive(Clone, Debug, Default)]
pub struct AccountSnapshot {
    by_id: BTreeMap<String, Arc<Account>>,
    by_business: BTreeMap<String, Arc<Account>>,
}

impl AccountSnapshot {
    /// Returns the account with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    /// Returns the account that has the business account `instagram_account_id`.
    #[must_use]
    pub fn find_by_business_account(&self, instagram_account_id: &str) -> Option<&Arc<Account>> {
        self.by_business.get(instagram_account_id)
    }

    /// Returns all accounts, the newest first.
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

/// Registry of the accounts in one opening of the store.
pub struct AccountRegistry {
    definitions: DefinitionRegistry<AccountSnapshot>,
    /// Held during a change, so that changes come one after another.
    change_lock: Mutex<()>,
    accounts_max: usize,
}

impl std::fmt::Debug for AccountRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountRegistry({})", self.snapshot().by_id.len())
    }
}

impl AccountRegistry {
    /// Loads the accounts in `tables`. No account is
    /// added beyond `accounts_max`.
    ///
    /// # Errors
    /// [`DefinitionOpenError`] when an account cannot be read.
    pub fn open(
        tables: &Arc<TableStore>,
        accounts_max: usize,
    ) -> Result<Self, DefinitionOpenError> {
        let load = |loaded: &mut AccountSnapshot, id: &str, value: &[u8]| {
            loaded.insert(Arc::new(codec::decode_account(id, value)?));
            Ok(())
        };
        Ok(Self {
            definitions: DefinitionRegistry::open(tables, codec::SORT, load)?,
            change_lock: Mutex::default(),
            accounts_max,
        })
    }

    /// Returns all accounts as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<AccountSnapshot> {
        self.definitions.snapshot()
    }

    /// Watches the number of changes. A change is visible in [`AccountRegistry::snapshot`] before it is
    /// counted.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.definitions.watch_changes()
    }

    /// Watches for a failed write: `Some` with the reason. The store must be reopened then.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.definitions.watch_failure()
    }

    /// Adds `account`, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// [`AccountChangeError`]; only [`AccountChangeError::OutcomeUnknown`] may have changed the
    /// store.
    pub fn create(&self, account: Account) -> Result<Arc<Account>, AccountChangeError> {
        let _change_guard = self.change_lock.lock();
        let snapshot = self.snapshot();
        if snapshot.get(&account.id).is_some() {
            return Err(AccountChangeError::Exists(account.id));
        }
        if snapshot.by_id.len() >= self.accounts_max {
            return Err(AccountChangeError::TooMany(snapshot.by_id.len()));
        }
        self.persist(&snapshot, account)
    }

    /// Applies `change` to the account `id`, unless another change came after `seen`, the time of the
    /// last change that the caller knows. Returns when the result is on the disk. Blocks.
    ///
    /// # Errors
    /// The same as [`AccountRegistry::create`], [`AccountChangeError::NotFound`] and
    /// [`AccountChangeError::ChangedSince`].
    pub fn change(
        &self,
        id: &str,
        seen: Option<Timestamp>,
        change: impl FnOnce(&mut Account),
    ) -> Result<Arc<Account>, AccountChangeError> {
        let _change_guard = self.change_lock.lock();
        let snapshot = self.snapshot();
        let mut account = Account::clone(snapshot.get(id).ok_or(AccountChangeError::NotFound)?);
        if seen.is_some_and(|seen| seen != account.updated_at) {
            return Err(AccountChangeError::ChangedSince(account.updated_at));
        }
        change(&mut account);
        self.persist(&snapshot, account)
    }

    /// Removes the account `id`, and returns when the removal is on the disk. Blocks.
    ///
    /// # Errors
    /// [`AccountChangeError::NotFound`] and [`AccountChangeError::OutcomeUnknown`].
    pub fn remove(&self, id: &str) -> Result<(), AccountChangeError> {
        let _change_guard = self.change_lock.lock();
        let mut snapshot = AccountSnapshot::clone(&self.snapshot());
        snapshot.get(id).ok_or(AccountChangeError::NotFound)?;

        self.definitions.remove(id)?;
        snapshot.remove(id);
        self.definitions.publish(snapshot);
        Ok(())
    }

    fn persist(
        &self,
        snapshot: &AccountSnapshot,
        account: Account,
    ) -> Result<Arc<Account>, AccountChangeError> {
        let claimed = snapshot
            .find_by_business_account(&account.instagram_account_id)
            .filter(|other| other.id != account.id);
        if let Some(other) = claimed {
            return Err(AccountChangeError::Claimed {
                by: other.id.clone(),
            });
        }

        self.definitions
            .put(&account.id, &codec::encode_account(&account))?;

        // The old version goes first, since its business account may have changed.
        let (mut snapshot, account) = (snapshot.clone(), Arc::new(account));
        snapshot.remove(&account.id);
        snapshot.insert(Arc::clone(&account));
        self.definitions.publish(snapshot);
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::event::Position;
    use crate::table_store::open_test_tables;

    fn account(id: &str, instagram_account_id: &str) -> Account {
        Account {
            id: id.into(),
            instagram_account_id: instagram_account_id.into(),
            crm_webhook_url: None,
            webhook_secret: Secret::new("hush"),
            access_token: None,
            auto_reply: None,
            created_at: Timestamp::from_micros(1),
            updated_at: Timestamp::from_micros(1),
            from: Position::FIRST,
        }
    }

    #[test]
    fn a_business_account_has_one_account_and_each_account_one_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tables = open_test_tables(folder.path());
        let accounts = AccountRegistry::open(&tables, 2).expect("opens");
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
            accounts.change("b", None, to("1")),
            Err(AccountChangeError::Claimed { .. })
        ));
        assert!(matches!(
            accounts.change("c", None, to("3")),
            Err(AccountChangeError::NotFound)
        ));
        accounts.change("b", None, to("3")).expect("free");
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

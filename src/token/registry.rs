//! Registry of the named tokens of a store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::codec;
use super::definition::NamedToken;
use super::secret::TokenHash;
use crate::table_store::{DefinitionOpenError, DefinitionRegistry, TableStore, TableWriteError};

/// Failure to create or revoke a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenChangeError {
    /// Another token has the same name.
    #[error("there is a token {0} already; revoke it, or choose another name")]
    Exists(Arc<str>),
    /// The limit of tokens is reached.
    #[error("there are {0} tokens already; admin.tokens_max allows no more")]
    TooMany(usize),
    /// No token has this name.
    #[error("there is no such token")]
    NotFound,
    /// The write failed, so the change may or may not be on the disk.
    #[error("it is not known whether the token was stored, look at it and try again")]
    OutcomeUnknown(#[from] TableWriteError),
}

/// All named tokens at one moment, which later changes do not touch.
#[derive(Clone, Debug, Default)]
pub struct TokenSnapshot {
    by_name: BTreeMap<Arc<str>, Arc<NamedToken>>,
    /// Tokens by the first bytes of their hashes. A caller cannot choose the hash of what it presents,
    /// so the time of this step tells nothing about the secrets.
    by_hash_start: HashMap<[u8; 8], Arc<NamedToken>>,
}

impl TokenSnapshot {
    /// Returns the token with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<NamedToken>> {
        self.by_name.get(name)
    }

    /// Finds the token with this secret; its whole hash is compared in constant time.
    #[must_use]
    pub fn find_by_secret(&self, secret: &[u8]) -> Option<&Arc<NamedToken>> {
        let hash = TokenHash::from_secret(secret);
        let token = self.by_hash_start.get(&hash_start(&hash))?;
        token.hash.matches(&hash).then_some(token)
    }

    /// Returns all tokens, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<NamedToken>> {
        self.by_name.values()
    }

    fn insert(&mut self, token: Arc<NamedToken>) {
        self.by_hash_start
            .insert(hash_start(&token.hash), Arc::clone(&token));
        self.by_name.insert(Arc::clone(&token.name), token);
    }

    fn remove(&mut self, name: &str) {
        if let Some(token) = self.by_name.remove(name) {
            self.by_hash_start.remove(&hash_start(&token.hash));
        }
    }
}

fn hash_start(hash: &TokenHash) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Registry of the named tokens in one opening of the store.
pub struct TokenRegistry {
    definitions: DefinitionRegistry<TokenSnapshot>,
    /// Held during a change, so that changes come one after another.
    change_lock: Mutex<()>,
    tokens_max: usize,
}

impl std::fmt::Debug for TokenRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenRegistry({})", self.snapshot().by_name.len())
    }
}

impl TokenRegistry {
    /// Loads the tokens in `tables`. No token is added
    /// beyond `tokens_max`.
    ///
    /// # Errors
    /// [`DefinitionOpenError`] when a token cannot be read.
    pub fn open(tables: &Arc<TableStore>, tokens_max: usize) -> Result<Self, DefinitionOpenError> {
        let load = |loaded: &mut TokenSnapshot, name: &str, value: &[u8]| {
            loaded.insert(Arc::new(codec::decode_token(name, value)?));
            Ok(())
        };
        Ok(Self {
            definitions: DefinitionRegistry::open(tables, codec::SORT, load)?,
            change_lock: Mutex::default(),
            tokens_max,
        })
    }

    /// Returns all tokens as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<TokenSnapshot> {
        self.definitions.snapshot()
    }

    /// Watches for a failed write: `Some` with the reason. The store must be reopened then.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.definitions.watch_failure()
    }

    /// Adds `token`, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// [`TokenChangeError`]; only [`TokenChangeError::OutcomeUnknown`] may have changed the store.
    pub fn create(&self, token: NamedToken) -> Result<Arc<NamedToken>, TokenChangeError> {
        let _change_guard = self.change_lock.lock();
        let mut snapshot = TokenSnapshot::clone(&self.snapshot());
        if snapshot.get(&token.name).is_some() {
            return Err(TokenChangeError::Exists(token.name));
        }
        if snapshot.by_name.len() >= self.tokens_max {
            return Err(TokenChangeError::TooMany(snapshot.by_name.len()));
        }

        self.definitions
            .put(&token.name, &codec::encode_token(&token))?;
        let token = Arc::new(token);
        snapshot.insert(Arc::clone(&token));
        self.definitions.publish(snapshot);
        Ok(token)
    }

    /// Removes the token `name`, and returns when the removal is on the disk: from then on no request
    /// is admitted by it, after a crash neither. Blocks.
    ///
    /// # Errors
    /// [`TokenChangeError::NotFound`] and [`TokenChangeError::OutcomeUnknown`].
    pub fn revoke(&self, name: &str) -> Result<(), TokenChangeError> {
        let _change_guard = self.change_lock.lock();
        let mut snapshot = TokenSnapshot::clone(&self.snapshot());
        snapshot.get(name).ok_or(TokenChangeError::NotFound)?;

        self.definitions.remove(name)?;
        snapshot.remove(name);
        self.definitions.publish(snapshot);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::table_store::open_test_tables;
    use crate::token::{PublishScope, TokenRole};

    fn token(name: &str, secret: &[u8]) -> NamedToken {
        NamedToken {
            name: name.into(),
            role: TokenRole::Read,
            scope: PublishScope::default(),
            hash: TokenHash::from_secret(secret),
            created_at: Timestamp::from_micros(1),
            created_by: "config:admin".to_owned(),
            expires_at: Some(Timestamp::from_micros(5)),
        }
    }

    #[test]
    fn a_token_is_found_by_its_secret_until_it_is_revoked_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || TokenRegistry::open(&open_test_tables(folder.path()), 2);
        let tokens = open().expect("opens");
        tokens.create(token("a", b"hyt_a")).expect("room");
        tokens.create(token("b", b"hyt_b")).expect("room");
        assert!(
            matches!(tokens.create(token("a", b"hyt_c")), Err(TokenChangeError::Exists(name)) if &*name == "a")
        );
        assert!(matches!(
            tokens.create(token("c", b"hyt_c")),
            Err(TokenChangeError::TooMany(2))
        ));
        tokens.revoke("a").expect("there");
        assert!(matches!(
            tokens.revoke("a"),
            Err(TokenChangeError::NotFound)
        ));
        drop(tokens);

        let known = open().expect("opens").snapshot();
        let name_of = |secret: &[u8]| known.find_by_secret(secret).map(|token| &*token.name);
        assert_eq!((name_of(b"hyt_a"), name_of(b"hyt_b")), (None, Some("b")));
        assert_eq!((name_of(b""), known.iter().count()), (None, 1));
    }

    #[test]
    fn a_token_ends_at_its_time() {
        let token = token("a", b"hyt_a");
        assert!(!token.is_expired(Timestamp::from_micros(4)));
        assert!(token.is_expired(Timestamp::from_micros(5)));
    }
}

//! Definition of one named token.

use std::sync::Arc;

use super::role::TokenRole;
use super::secret::TokenHash;
use crate::event::Timestamp;

/// Longest name of a token, in bytes.
pub const TOKEN_NAME_MAX_BYTES: usize = 64;

/// Named token of the API, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedToken {
    /// Name by which events, calls and the audit log know the token.
    pub name: Arc<str>,
    /// Role, which says what the token may do.
    pub role: TokenRole,
    /// Events that a token with the role `publish` may publish.
    pub scope: PublishScope,
    /// Hash by which the secret is recognised.
    pub hash: TokenHash,
    /// Time at which the token was created.
    pub created_at: Timestamp,
    /// Name of the token that created this one.
    pub created_by: String,
    /// Time from which the token is refused; `None` for a token without end.
    pub expires_at: Option<Timestamp>,
}

impl NamedToken {
    /// Tells if the token is refused at `now` because of its age.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Sources, kinds of entities and accounts that a token may publish to; an empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishScope {
    /// Names of sources, such as `crm`.
    pub sources: Vec<String>,
    /// Names of kinds, such as `task`.
    pub kinds: Vec<String>,
    /// Ids of accounts by which the token may send messages, such as `acc_1`.
    pub accounts: Vec<String>,
}

impl PublishScope {
    /// Tells if events of `source` are in the scope.
    #[must_use]
    pub fn has_source(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|one| one == source)
    }

    /// Tells if events of entities of `kind` are in the scope.
    #[must_use]
    pub fn has_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|one| one == kind)
    }

    /// Tells if messages by `account` are in the scope.
    #[must_use]
    pub fn has_account(&self, account: &str) -> bool {
        self.accounts.is_empty() || self.accounts.iter().any(|one| one == account)
    }

    /// Tells if the scope holds everything.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        self.sources.is_empty() && self.kinds.is_empty() && self.accounts.is_empty()
    }
}

/// Tells if `name` can name a token: 1 to [`TOKEN_NAME_MAX_BYTES`] lower-case letters, digits and
/// `-_.`, the first of them a letter or digit. So it is one word in any log, a part of a path, and
/// never the name of a token of the configuration, which has a colon.
#[must_use]
pub fn is_valid_token_name(name: &str) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=TOKEN_NAME_MAX_BYTES).contains(&name.len())
        && name.as_bytes().first().is_some_and(is_plain)
        && name
            .bytes()
            .all(|byte| is_plain(&byte) || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_plain_word() {
        for name in ["ci", "crm-7.prod_eu", "0"] {
            assert!(is_valid_token_name(name), "{name}");
        }
        for name in ["", "CI", "-ci", ".", "a b", "config:admin", "é", "a/b"] {
            assert!(!is_valid_token_name(name), "{name}");
        }
        assert!(!is_valid_token_name(&"a".repeat(TOKEN_NAME_MAX_BYTES + 1)));
    }

    #[test]
    fn an_empty_list_bounds_nothing() {
        let scope = PublishScope {
            sources: vec!["crm".to_owned()],
            ..PublishScope::default()
        };
        assert!(scope.has_source("crm") && !scope.has_source("instagram"));
        assert!(scope.has_kind("task") && !scope.is_unbounded());
        assert!(PublishScope::default().is_unbounded() && scope.has_account("acc_1"));
    }
}

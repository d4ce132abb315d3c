//! Identity of a caller who has shown a valid token.

use std::sync::Arc;

use super::error::ApiError;
use crate::config::Secret;
use crate::event::Timestamp;
use crate::token::{
    AccessOperation, NamedToken, PublishScope, TokenHash, TokenRole, TokenSnapshot,
};

/// Caller with a valid token.
#[derive(Clone, Debug)]
pub(super) struct CallerIdentity {
    /// Name of the token; one of the configuration begins with `config:`.
    pub(super) name: Arc<str>,
    pub(super) role: TokenRole,
    token: CallerToken,
}

/// Token that the caller has shown.
#[derive(Clone, Debug)]
enum CallerToken {
    /// Hash of a token of the configuration.
    Configured(TokenHash),
    /// Named token, which is in the store.
    Named(Arc<NamedToken>),
}

impl CallerIdentity {
    /// Makes the identity of a token of the configuration.
    pub(super) fn of_config(name: impl Into<Arc<str>>, role: TokenRole, token: &Secret) -> Self {
        Self {
            name: name.into(),
            role,
            token: CallerToken::Configured(TokenHash::from_secret(token.expose().as_bytes())),
        }
    }

    /// Makes the identity of a token of the store.
    ///
    /// # Errors
    /// [`ApiError::TokenExpired`] if the token has ended at `now`.
    pub(super) fn of_named(token: &Arc<NamedToken>, now: Timestamp) -> Result<Self, ApiError> {
        if let Some(end) = token.expires_at.filter(|_| token.is_expired(now)) {
            return Err(ApiError::TokenExpired {
                name: Arc::clone(&token.name),
                end,
            });
        }
        Ok(Self {
            name: Arc::clone(&token.name),
            role: token.role,
            token: CallerToken::Named(Arc::clone(token)),
        })
    }

    /// Tells if the role may do `operation`.
    pub(super) fn may(&self, operation: AccessOperation) -> bool {
        self.role.may(operation)
    }

    /// Checks that the role may do `operation`.
    ///
    /// # Errors
    /// [`ApiError::RoleMissing`].
    pub(super) fn check_role(&self, operation: AccessOperation) -> Result<(), ApiError> {
        if self.may(operation) {
            return Ok(());
        }
        Err(ApiError::RoleMissing {
            operation,
            name: Arc::clone(&self.name),
            role: self.role,
        })
    }

    /// Checks that the token may publish events of `source` about entities of `kind`.
    ///
    /// # Errors
    /// [`ApiError::OutOfScope`].
    pub(super) fn check_scope(&self, source: &str, kind: &str) -> Result<(), ApiError> {
        self.check_bounds(|scope| scope.has_source(source) && scope.has_kind(kind))
    }

    /// Checks that the token may send messages by the account `account_id`.
    ///
    /// # Errors
    /// [`ApiError::OutOfScope`].
    pub(super) fn check_account(&self, account_id: &str) -> Result<(), ApiError> {
        self.check_bounds(|scope| scope.has_account(account_id))
    }

    fn check_bounds(&self, admits: impl FnOnce(&PublishScope) -> bool) -> Result<(), ApiError> {
        let scope = match &self.token {
            CallerToken::Configured(_) => return Ok(()),
            CallerToken::Named(token) => &token.scope,
        };
        match admits(scope) {
            true => Ok(()),
            false => Err(ApiError::OutOfScope(describe_scope(&self.name, scope))),
        }
    }

    /// Tells if the token is still `admin_token` of the configuration, or stands in `tokens` and has not
    /// ended at `now`: a session that it began ends with it.
    pub(super) fn is_valid(
        &self,
        admin_token: &Secret,
        tokens: Option<&TokenSnapshot>,
        now: Timestamp,
    ) -> bool {
        let named = match &self.token {
            CallerToken::Configured(hash) => {
                let current = TokenHash::from_secret(admin_token.expose().as_bytes());
                return hash.matches(&current);
            }
            CallerToken::Named(named) => named,
        };
        let current = tokens.and_then(|tokens| tokens.get(&named.name));
        current.is_some_and(|current| current.hash.matches(&named.hash)) && !named.is_expired(now)
    }
}

fn describe_scope(name: &str, scope: &PublishScope) -> String {
    let list = |what: &str, names: &[String]| match names {
        [] => None,
        names => Some(format!("the {what} {}", names.join(", "))),
    };
    let lists = [
        list("sources", &scope.sources),
        list("kinds", &scope.kinds),
        list("accounts", &scope.accounts),
    ];
    let lists: Vec<_> = lists.into_iter().flatten().collect();
    format!(
        "the token {name} may publish events of {} only",
        lists.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> CallerIdentity {
        let token = NamedToken {
            name: "ci".into(),
            role: TokenRole::Publish,
            scope: PublishScope {
                sources: vec!["crm".to_owned()],
                kinds: vec!["task".to_owned(), "deal".to_owned()],
                accounts: Vec::new(),
            },
            hash: TokenHash::from_bytes([7; 32]),
            created_at: Timestamp::from_micros(1),
            created_by: "config:admin".to_owned(),
            expires_at: Some(Timestamp::from_micros(9)),
        };
        CallerIdentity::of_named(&Arc::new(token), Timestamp::from_micros(8)).expect("valid")
    }

    #[test]
    fn a_token_publishes_within_its_scope_only_and_the_refusal_names_it() {
        let caller = caller();
        assert!(caller.check_scope("crm", "task").is_ok());
        for (source, kind) in [("crm", "note"), ("instagram", "task")] {
            let error = caller.check_scope(source, kind).expect_err("out of scope");
            assert_eq!(
                error.to_string(),
                "the token ci may publish events of the sources crm and the kinds task, deal only"
            );
        }
        let secret = Secret::new("t");
        let admin = CallerIdentity::of_config("config:admin", TokenRole::Admin, &secret);
        assert!(admin.check_scope("instagram", "note").is_ok());
    }

    /// A publisher could send messages by every account of the node.
    #[test]
    fn a_token_sends_messages_by_its_accounts_only() {
        let bounded = |accounts: &[&str]| {
            let scope = PublishScope {
                accounts: accounts.iter().map(|id| (*id).to_owned()).collect(),
                ..PublishScope::default()
            };
            match caller().token {
                CallerToken::Named(token) => {
                    let token = NamedToken {
                        scope,
                        ..NamedToken::clone(&token)
                    };
                    CallerIdentity::of_named(&Arc::new(token), Timestamp::from_micros(8))
                        .expect("valid")
                }
                CallerToken::Configured(_) => panic!("a named token"),
            }
        };
        let of_two = bounded(&["acc_1", "acc_2"]);
        assert!(of_two.check_account("acc_2").is_ok());
        let error = of_two.check_account("acc_3").expect_err("out of scope");
        assert_eq!(
            error.to_string(),
            "the token ci may publish events of the accounts acc_1, acc_2 only"
        );
        assert!(bounded(&[]).check_account("acc_3").is_ok());
    }

    #[test]
    fn a_refusal_names_the_role_that_is_needed() {
        let error = caller().check_role(AccessOperation::WebhooksPause);
        assert_eq!(
            error.expect_err("another role").to_string(),
            "webhooks.pause needs a token with the role operator or admin; \
             the token ci has the role publish"
        );
    }

    #[test]
    fn a_token_that_is_gone_or_has_ended_is_valid_no_longer() {
        let caller = caller();
        let now = Timestamp::from_micros(8);
        let secret = Secret::new("t");
        assert!(!caller.is_valid(&secret, None, now));
        assert!(!caller.is_valid(&secret, Some(&TokenSnapshot::default()), now));
        let admin = CallerIdentity::of_config("config:admin", TokenRole::Admin, &secret);
        assert!(admin.is_valid(&secret, None, now));
        assert!(!admin.is_valid(&Secret::new("other"), None, now));
    }
}

//! Roles of tokens, and the one table of what each role may do. Routes, dashboard and OpenAPI read it.
//!
//! `read` sees everything and changes nothing; `operator` runs what exists; `admin` may do all;
//! `publish` sends events and sees nothing.

/// Role of a token, which says what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRole {
    /// May do everything that there is.
    Admin,
    /// Sees everything, and runs what exists, without changing a definition, a secret or a token.
    Operator,
    /// Sees everything but secrets, and changes nothing.
    Read,
    /// Publishes events, and does nothing else.
    Publish,
}

impl TokenRole {
    /// All roles, the mightiest first.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Read, Self::Publish];

    /// Returns the role's name in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Read => "read",
            Self::Publish => "publish",
        }
    }

    /// Finds the role with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Tells if the role may do `operation`.
    #[must_use]
    pub fn may(self, operation: AccessOperation) -> bool {
        operation.roles().contains(&self)
    }
}

const ADMINS: &[TokenRole] = &[TokenRole::Admin];
const OPERATORS: &[TokenRole] = &[TokenRole::Operator, TokenRole::Admin];
const READERS: &[TokenRole] = &[TokenRole::Read, TokenRole::Operator, TokenRole::Admin];
const PUBLISHERS: &[TokenRole] = &[TokenRole::Publish, TokenRole::Admin];

/// Entries that the calls of an operation leave in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuditRule {
    /// Each call, whatever its outcome: the operation changes something, or takes secrets out.
    Calls,
    /// Refused calls only: the operation changes nothing, or is traffic.
    Refusals,
}

use AuditRule::{Calls, Refusals};

macro_rules! access_table {
    ($($(#[doc = $doc:literal])* $variant:ident: $name:literal, $roles:ident, $audit:ident;)*) => {
        /// Operation of the API or of the dashboard, as roles permit it and the audit log names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AccessOperation {
            $($(#[doc = $doc])* $variant,)*
        }

        impl AccessOperation {
            /// All operations, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the operation's name in the API and in the audit log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the roles that may do the operation, the least first.
            #[must_use]
            pub const fn roles(self) -> &'static [TokenRole] {
                match self {
                    $(Self::$variant => $roles,)*
                }
            }

            const fn audit_rule(self) -> AuditRule {
                match self {
                    $(Self::$variant => $audit,)*
                }
            }
        }
    };
}

access_table! {
    /// Lists and shows events with their outcomes.
    EventsRead: "events.read", READERS, Refusals;
    /// Publishes events to the event bus.
    EventsPublish: "events.publish", PUBLISHERS, Refusals;
    /// Sends a failed event to its entity again.
    EventsReprocess: "events.reprocess", OPERATORS, Calls;
    /// Lists and shows entities, their timelines and erasures.
    EntitiesRead: "entities.read", READERS, Refusals;
    /// Takes out everything of an entity.
    EntitiesExport: "entities.export", READERS, Calls;
    /// Erases an entity's content for good.
    EntitiesErase: "entities.erase", ADMINS, Calls;
    /// Lists and shows rows of the call log.
    CallsRead: "calls.read", READERS, Refusals;
    /// Lists and shows subscriptions, attempts and the catalogue of events.
    WebhooksRead: "webhooks.read", READERS, Refusals;
    /// Reads and acknowledges the events of a pull subscription.
    WebhooksPull: "webhooks.pull", OPERATORS, Refusals;
    /// Creates a subscription, and shows its secret.
    WebhooksCreate: "webhooks.create", ADMINS, Calls;
    /// Creates or changes the subscription with a `uid`.
    WebhooksPut: "webhooks.put", ADMINS, Calls;
    /// Changes the definition of a subscription.
    WebhooksChange: "webhooks.change", ADMINS, Calls;
    /// Deletes a subscription with its backlog.
    WebhooksDelete: "webhooks.delete", ADMINS, Calls;
    /// Replaces the secret of a subscription.
    WebhooksRotateSecret: "webhooks.rotate_secret", ADMINS, Calls;
    /// Pauses a subscription, whose events then wait.
    WebhooksPause: "webhooks.pause", OPERATORS, Calls;
    /// Resumes a subscription that was paused or disabled.
    WebhooksResume: "webhooks.resume", OPERATORS, Calls;
    /// Sends a ping to a subscription's target.
    WebhooksTest: "webhooks.test", OPERATORS, Calls;
    /// Delivers the dead letters of a time range again.
    WebhooksRecover: "webhooks.recover", OPERATORS, Calls;
    /// Delivers the events of a time range again.
    WebhooksReplay: "webhooks.replay", OPERATORS, Calls;
    /// Lists and shows dead letters.
    DeadLettersRead: "dead_letters.read", READERS, Refusals;
    /// Delivers one or several dead letters again.
    DeadLettersRetry: "dead_letters.retry", OPERATORS, Calls;
    /// Discards one or several dead letters.
    DeadLettersDiscard: "dead_letters.discard", OPERATORS, Calls;
    /// Lists and shows jobs with their progress.
    JobsRead: "jobs.read", READERS, Refusals;
    /// Cancels a job that is not over.
    JobsCancel: "jobs.cancel", OPERATORS, Calls;
    /// Lists and shows accounts, without their tokens.
    AccountsRead: "accounts.read", READERS, Refusals;
    /// Creates an account, and shows its secret.
    AccountsCreate: "accounts.create", ADMINS, Calls;
    /// Changes the definition of an account.
    AccountsChange: "accounts.change", ADMINS, Calls;
    /// Deletes an account with its backlog.
    AccountsDelete: "accounts.delete", ADMINS, Calls;
    /// Sends a message by an account.
    MessagesSend: "messages.send", PUBLISHERS, Refusals;
    /// Lists and shows tokens, never their secrets.
    TokensRead: "tokens.read", READERS, Refusals;
    /// Creates a token, and shows its secret.
    TokensCreate: "tokens.create", ADMINS, Calls;
    /// Revokes a token for good.
    TokensRevoke: "tokens.revoke", ADMINS, Calls;
    /// Lists and exports the audit log.
    AuditRead: "audit.read", READERS, Refusals;
    /// Shows the state of the clock.
    ClockRead: "clock.read", READERS, Refusals;
    /// Confirms a jump of the clock.
    ClockConfirm: "clock.confirm", OPERATORS, Calls;
    /// Reads the configuration again and puts it into force.
    ConfigReload: "config.reload", ADMINS, Calls;
    /// Takes out a backup, which holds the secrets of all definitions.
    BackupDownload: "backup.download", ADMINS, Calls;
    /// Reads the metrics, if they are not open to everyone.
    MetricsRead: "metrics.read", READERS, Refusals;
    /// Sees the state, the sources and the settings of the node in the dashboard.
    NodeRead: "node.read", READERS, Refusals;
    /// Begins a session of the dashboard.
    DashboardLogin: "dashboard.login", READERS, Calls;
    /// Ends a session of the dashboard.
    DashboardLogout: "dashboard.logout", READERS, Calls;
}

impl AccessOperation {
    /// Tells if each call leaves an entry in the audit log, not only a refused one.
    #[must_use]
    pub fn is_audited(self) -> bool {
        self.audit_rule() == Calls
    }

    /// Lists the roles that may do the operation for a sentence, such as `operator or admin`.
    #[must_use]
    pub fn role_names(self) -> String {
        let names: Vec<_> = self.roles().iter().map(|role| role.as_str()).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Names of the operations that `role` may do.
    fn permitted(role: TokenRole) -> BTreeSet<&'static str> {
        let all = AccessOperation::ALL.iter();
        all.filter(|operation| role.may(**operation))
            .map(|operation| operation.as_str())
            .collect()
    }

    #[test]
    fn the_admin_may_do_everything_and_names_are_unique() {
        assert_eq!(
            permitted(TokenRole::Admin).len(),
            AccessOperation::ALL.len()
        );
    }

    #[test]
    fn readers_see_and_change_nothing() {
        let mut expected: BTreeSet<_> = AccessOperation::ALL
            .iter()
            .map(|operation| operation.as_str())
            .filter(|name| name.ends_with(".read"))
            .collect();
        expected.extend(["entities.export", "dashboard.login", "dashboard.logout"]);
        assert_eq!(permitted(TokenRole::Read), expected);
    }

    #[test]
    fn operators_run_what_exists_and_change_no_definition_secret_or_token() {
        let operator = permitted(TokenRole::Operator);
        let more: BTreeSet<_> = &operator - &permitted(TokenRole::Read);
        let expected = [
            "clock.confirm",
            "dead_letters.discard",
            "dead_letters.retry",
            "events.reprocess",
            "jobs.cancel",
            "webhooks.pause",
            "webhooks.pull",
            "webhooks.recover",
            "webhooks.replay",
            "webhooks.resume",
            "webhooks.test",
        ];
        assert_eq!(more, BTreeSet::from(expected));
        let forbidden = [
            "create",
            "put",
            "change",
            "delete",
            "rotate_secret",
            "revoke",
            "erase",
            "download",
            "publish",
        ];
        for operation in operator {
            let (_, verb) = operation.split_once('.').expect("an object and a verb");
            assert!(!forbidden.contains(&verb), "{operation}");
        }
    }

    #[test]
    fn publishers_publish_only() {
        let expected = BTreeSet::from(["events.publish", "messages.send"]);
        assert_eq!(permitted(TokenRole::Publish), expected);
    }

    #[test]
    fn every_operation_that_a_reader_may_not_do_is_audited_unless_it_is_traffic() {
        for operation in AccessOperation::ALL {
            let is_traffic = ["events.publish", "messages.send", "webhooks.pull"];
            let changes = !TokenRole::Read.may(*operation);
            if changes && !is_traffic.contains(&operation.as_str()) {
                assert!(operation.is_audited(), "{}", operation.as_str());
            }
        }
    }

    #[test]
    fn roles_are_named_for_a_sentence() {
        assert_eq!(AccessOperation::TokensCreate.role_names(), "admin");
        assert_eq!(
            AccessOperation::EventsRead.role_names(),
            "read, operator or admin"
        );
        for role in TokenRole::ALL {
            assert_eq!(TokenRole::parse(role.as_str()), Some(role));
        }
        assert_eq!(TokenRole::parse("root"), None);
    }
}

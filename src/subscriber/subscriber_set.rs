//! All subscribers by one snapshot of the definitions, with the matcher and the delivery settings of
//! each.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use super::accounts::AccountRecipients;
use super::announce;
use super::delivery_policy::DeliveryPolicy;
use super::subscriber_id::SubscriberId;
use crate::account::AccountSnapshot;
use crate::config::Config;
use crate::event::{Position, Record};
use crate::subscription::{
    FilterExpression, Pattern, PatternIndex, SubscriberInterest, SubscriptionSnapshot,
    SubscriptionState,
};

/// Decides which records one subscriber gets. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum SubscriberMatcher {
    /// Matches by the patterns and the filter of a subscription.
    Subscription(Arc<SubscriberInterest>),
    /// Matches by the Instagram accounts.
    Account(SubscriberId, Arc<AccountRecipients>),
}

impl SubscriberMatcher {
    /// True if the record at `position` matches but for the filter. A record without a sequence
    /// number matches no subscriber.
    pub(super) fn admits(&self, position: Position, record: &Record) -> bool {
        match self {
            Self::Subscription(interest) => interest.admits_names(position, record),
            Self::Account(id, recipients) => {
                record.sequence.is_some() && recipients.is_recipient(id, position, record)
            }
        }
    }

    /// Filter that decides about the records that the names admit.
    pub(super) fn filter(&self) -> Option<&FilterExpression> {
        match self {
            Self::Subscription(interest) => interest.filter.as_ref(),
            Self::Account(..) => None,
        }
    }

    /// Selection of records for a job that delivers again.
    pub(super) fn interest(&self) -> Arc<SubscriberInterest> {
        match self {
            Self::Subscription(interest) => Arc::clone(interest),
            // Jobs for accounts retry dead letters only, and those records have matched before.
            Self::Account(..) => Arc::new(SubscriberInterest {
                patterns: Pattern::from_store("*").into_iter().collect(),
                filter: None,
                from: Position::FIRST,
            }),
        }
    }
}

/// Definition of one subscriber, as the stage uses it.
#[derive(Clone, Debug)]
pub(super) struct SubscriberEntry {
    pub(super) policy: Arc<DeliveryPolicy>,
    pub(super) matcher: SubscriberMatcher,
    /// Position of the first record that the subscriber gets, if its definition has one.
    pub(super) first_position: Option<Position>,
}

/// All subscribers of one snapshot of the definitions.
pub(super) struct SubscriberSet {
    config: Arc<Config>,
    subscriptions: Arc<SubscriptionSnapshot>,
    /// Patterns of the newest set: a set that was [updated](Self::update) hands it on.
    index: Rc<RefCell<PatternIndex>>,
    known_accounts: Arc<AccountSnapshot>,
    accounts: Arc<AccountRecipients>,
    has_accounts: bool,
    are_dead_letters_followed: bool,
}

impl SubscriberSet {
    /// Builds the set and its pattern index from these definitions.
    pub(super) fn from_definitions(
        config: Arc<Config>,
        subscriptions: Arc<SubscriptionSnapshot>,
        known_accounts: Arc<AccountSnapshot>,
    ) -> Self {
        let accounts = AccountRecipients::new(Arc::clone(&known_accounts), Arc::clone(&config));
        let has_accounts = !known_accounts.newest_first().is_empty();
        let index = PatternIndex::new(&subscriptions);
        Self {
            are_dead_letters_followed: announce::are_dead_letters_followed(&index),
            index: Rc::new(RefCell::new(index)),
            config,
            subscriptions,
            known_accounts,
            accounts: Arc::new(accounts),
            has_accounts,
        }
    }

    /// Returns the set of the newer definitions, with the ids of the subscribers whose definitions
    /// differ. It takes over the index, so the cost is that of the changes, however many
    /// subscriptions there are. After a changed configuration all differ.
    pub(super) fn update(
        &self,
        subscriptions: Arc<SubscriptionSnapshot>,
        known_accounts: Arc<AccountSnapshot>,
        config: Arc<Config>,
    ) -> (Self, BTreeSet<SubscriberId>) {
        let mut changed = BTreeSet::new();
        let mut index = self.index.borrow_mut();
        for id in subscriptions.changes_since(&self.subscriptions) {
            let entry = |set: &SubscriptionSnapshot| set.get(id).cloned();
            let (old, new) = (entry(&self.subscriptions), entry(&subscriptions));
            index.update(old.as_deref(), new.as_deref());
            changed.insert(SubscriberId::Webhook(id));
        }
        let are_dead_letters_followed = announce::are_dead_letters_followed(&index);
        drop(index);

        let (mut accounts, mut has_accounts) = (Arc::clone(&self.accounts), self.has_accounts);
        let is_configured_anew = !Arc::ptr_eq(&self.config, &config);
        if is_configured_anew {
            let ids = subscriptions.iter().map(|entry| entry.subscription.id);
            changed.extend(ids.map(SubscriberId::Webhook));
        }
        if is_configured_anew || !Arc::ptr_eq(&self.known_accounts, &known_accounts) {
            let known = Arc::clone(&known_accounts);
            accounts = Arc::new(AccountRecipients::new(known, Arc::clone(&config)));
            has_accounts = !known_accounts.newest_first().is_empty();
            changed.extend(self.accounts.ids().chain(accounts.ids()));
        }
        let set = Self {
            config,
            subscriptions,
            index: Rc::clone(&self.index),
            known_accounts,
            accounts,
            has_accounts,
            are_dead_letters_followed,
        };
        (set, changed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && !self.has_accounts
    }

    /// True if a subscription follows the announcements of dead letters.
    pub(super) fn are_dead_letters_followed(&self) -> bool {
        self.are_dead_letters_followed
    }

    /// Checks if the set was built from these very snapshots and settings.
    pub(super) fn is_built_from(
        &self,
        subscriptions: &Arc<SubscriptionSnapshot>,
        accounts: &Arc<AccountSnapshot>,
        config: &Arc<Config>,
    ) -> bool {
        Arc::ptr_eq(&self.config, config)
            && Arc::ptr_eq(&self.subscriptions, subscriptions)
            && Arc::ptr_eq(&self.known_accounts, accounts)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SubscriberId> {
        let subscriptions = self
            .subscriptions
            .iter()
            .map(|entry| SubscriberId::Webhook(entry.subscription.id));
        subscriptions.chain(self.accounts.ids())
    }

    /// Subscribers that `record` may match; the [`SubscriberMatcher`] of each decides.
    pub(super) fn candidates(&self, record: &Record) -> impl Iterator<Item = SubscriberId> {
        let subscriptions = self
            .index
            .borrow()
            .candidates(record)
            .into_iter()
            .map(SubscriberId::Webhook);
        subscriptions.chain(self.accounts.candidates(record))
    }

    /// Returns the definition of `id`; `None` if there is no such subscriber.
    pub(super) fn entry(&self, id: &SubscriberId) -> Option<SubscriberEntry> {
        match id {
            SubscriberId::Webhook(number) => {
                let entry = self.subscriptions.get(*number)?;
                let policy =
                    DeliveryPolicy::from_subscription(&entry.subscription, &self.config.delivery);
                Some(SubscriberEntry {
                    policy: Arc::new(policy),
                    matcher: SubscriberMatcher::Subscription(Arc::clone(&entry.interest)),
                    first_position: Some(entry.subscription.from),
                })
            }
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                let policy = self.accounts.delivery_policy(id)?;
                Some(SubscriberEntry {
                    policy: Arc::new(policy),
                    matcher: SubscriberMatcher::Account(id.clone(), Arc::clone(&self.accounts)),
                    first_position: None,
                })
            }
        }
    }

    pub(super) fn matcher(&self, id: &SubscriberId) -> Option<SubscriberMatcher> {
        match id {
            SubscriberId::Webhook(number) => self
                .subscriptions
                .get(*number)
                .map(|entry| SubscriberMatcher::Subscription(Arc::clone(&entry.interest))),
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => Some(
                SubscriberMatcher::Account(id.clone(), Arc::clone(&self.accounts)),
            ),
        }
    }

    /// Returns the state of `id`; `None` if there is no such subscriber.
    pub(super) fn subscription_state(&self, id: &SubscriberId) -> Option<SubscriptionState> {
        match id {
            SubscriberId::Webhook(number) => Some(
                self.subscriptions
                    .get(*number)?
                    .subscription
                    .delivery_state(),
            ),
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                self.accounts.delivery_policy(id).map(|policy| policy.state)
            }
        }
    }

    /// Checks if `id` names another account here than in `other`: the account was deleted and created
    /// again between two snapshots. Numbers of subscriptions are never reused.
    pub(super) fn is_replaced(&self, other: &Self, id: &SubscriberId) -> bool {
        let (SubscriberId::Forward(name) | SubscriberId::Replies(name)) = id else {
            return false;
        };
        let created_at = |set: &Self| {
            let account = set.known_accounts.get(name)?;
            Some(account.created_at)
        };
        created_at(self) != created_at(other)
    }
}

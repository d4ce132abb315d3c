//! The roster: everybody who gets deliveries at one moment, what each is interested in, and what
//! its delivery goes by.

use std::sync::Arc;

use super::delivery_policy::DeliveryPolicy;
use super::{SubscriberId, accounts};
use crate::account;
use crate::config::Config;
use crate::event::{Position, Record};
use crate::subscription::{
    InterestMatch, Pattern, PatternIndex, SubscriberInterest, SubscriptionSnapshot,
    SubscriptionState,
};

/// Says which records are for one subscriber. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum SubscriberMatcher {
    /// A subscription: by its patterns and its filter.
    Subscription(Arc<SubscriberInterest>),
    /// Somebody who gets something of the accounts.
    Account(SubscriberId, Arc<accounts::AccountRecipients>),
}

impl SubscriberMatcher {
    /// What `record`, at `position`, is to the subscriber. A record without a number is nobody's.
    pub(super) fn match_record(&self, position: Position, record: &Record) -> InterestMatch {
        match self {
            Self::Subscription(interest) => interest.match_record(position, record),
            Self::Account(id, roster)
                if record.sequence.is_some() && roster.is_recipient(id, position, record) =>
            {
                InterestMatch::Wanted
            }
            Self::Account(..) => InterestMatch::Unwanted,
        }
    }

    /// What a job that delivers again is to know of it.
    pub(super) fn interest(&self) -> Arc<SubscriberInterest> {
        match self {
            Self::Subscription(interest) => Arc::clone(interest),
            // What failed once was wanted, and an account's is never asked for by its time.
            Self::Account(..) => Arc::new(SubscriberInterest {
                patterns: Pattern::from_store("*").into_iter().collect(),
                filter: None,
                from: Position::FIRST,
            }),
        }
    }
}

/// What the stage knows of one subscriber.
#[derive(Clone, Debug)]
pub(super) struct SubscriberEntry {
    pub(super) policy: Arc<DeliveryPolicy>,
    pub(super) matcher: SubscriberMatcher,
    /// The first record that can be for it, if its definition says so.
    pub(super) first_position: Option<Position>,
}

/// Everybody who gets deliveries at one moment.
pub(super) struct SubscriberSet {
    config: Arc<Config>,
    subscriptions: Arc<SubscriptionSnapshot>,
    index: PatternIndex,
    known_accounts: Arc<account::AccountSnapshot>,
    accounts: Arc<accounts::AccountRecipients>,
    is_empty: bool,
}

impl SubscriberSet {
    /// The roster of these definitions.
    pub(super) fn from_definitions(
        config: Arc<Config>,
        subscriptions: Arc<SubscriptionSnapshot>,
        known_accounts: Arc<account::AccountSnapshot>,
    ) -> Self {
        let accounts = Arc::new(accounts::AccountRecipients::new(
            Arc::clone(&known_accounts),
            Arc::clone(&config),
        ));
        let is_empty = subscriptions.is_empty() && known_accounts.newest_first().is_empty();
        Self {
            index: PatternIndex::new(&subscriptions),
            config,
            subscriptions,
            known_accounts,
            accounts,
            is_empty,
        }
    }

    /// Whether there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Whether this is made of the same definitions.
    pub(super) fn is_built_from(
        &self,
        subscriptions: &Arc<SubscriptionSnapshot>,
        accounts: &Arc<account::AccountSnapshot>,
    ) -> bool {
        Arc::ptr_eq(&self.subscriptions, subscriptions)
            && Arc::ptr_eq(&self.known_accounts, accounts)
    }

    /// Whether the accounts are those of `other`.
    fn has_same_accounts(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known_accounts, &other.known_accounts)
    }

    /// Everybody.
    pub(super) fn ids(&self) -> impl Iterator<Item = SubscriberId> {
        let subscriptions = self
            .subscriptions
            .iter()
            .map(|entry| SubscriberId::Webhook(entry.subscription.id));
        subscriptions.chain(self.accounts.ids())
    }

    /// Those who might want `record`; whether they do is each one's [`Judge`]'s to say.
    pub(super) fn candidates(&self, record: &Record) -> impl Iterator<Item = SubscriberId> {
        let subscriptions = self
            .index
            .candidates(record)
            .into_iter()
            .map(SubscriberId::Webhook);
        subscriptions.chain(self.accounts.candidates(record))
    }

    /// What is known of `id`; `None` if there is no such subscriber.
    pub(super) fn entry(&self, id: &SubscriberId) -> Option<SubscriberEntry> {
        match id {
            SubscriberId::Webhook(number) => {
                let entry = self.subscriptions.get(*number)?;
                let judge = SubscriberMatcher::Subscription(Arc::clone(&entry.interest));
                let from = Some(entry.subscription.from);
                Some(SubscriberEntry {
                    policy: Arc::new(DeliveryPolicy::from_subscription(
                        &entry.subscription,
                        &self.config.delivery,
                    )),
                    matcher: judge,
                    first_position: from,
                })
            }
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                let profile = Arc::new(self.accounts.delivery_policy(id)?);
                Some(SubscriberEntry {
                    policy: profile,
                    matcher: SubscriberMatcher::Account(id.clone(), Arc::clone(&self.accounts)),
                    first_position: None,
                })
            }
        }
    }

    /// What says which records are for `id`.
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

    /// Whether anything is delivered to `id`; `None` if there is no such subscriber.
    pub(super) fn subscription_state(&self, id: &SubscriberId) -> Option<SubscriptionState> {
        match id {
            SubscriberId::Webhook(number) => {
                Some(self.subscriptions.get(*number)?.subscription.state.clone())
            }
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => self
                .accounts
                .delivery_policy(id)
                .map(|profile| profile.state),
        }
    }

    /// Whether `id` is the name of another one here than in `other`: an account that was removed,
    /// and made anew before anybody looked. Numbers of subscriptions are never used again.
    pub(super) fn is_replaced(&self, other: &Self, id: &SubscriberId) -> bool {
        let (SubscriberId::Forward(name) | SubscriberId::Replies(name)) = id else {
            return false;
        };
        let made = |roster: &Self| {
            roster
                .known_accounts
                .get(name)
                .map(|account| account.created_at)
        };
        made(self) != made(other)
    }

    /// Whether `id` is defined here as it is in `other`.
    pub(super) fn is_unchanged(&self, other: &Self, id: &SubscriberId) -> bool {
        let SubscriberId::Webhook(number) = id else {
            return self.has_same_accounts(other);
        };
        match (
            self.subscriptions.get(*number),
            other.subscriptions.get(*number),
        ) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

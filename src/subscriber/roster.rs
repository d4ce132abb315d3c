//! The roster: everybody who gets deliveries at one moment, what each is interested in, and what its delivery goes by.

use std::sync::Arc;

use super::profile::Profile;
use super::{SubscriberId, accounts};
use crate::account;
use crate::config::Config;
use crate::event::{Position, Record};
use crate::subscription::{Index, Interest, Judgement, Known, Pattern, State};

/// Says which records are for one subscriber. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Judge {
    /// A subscription: by its patterns and its filter.
    Subscription(Arc<Interest>),
    /// Somebody who gets something of the accounts.
    Account(SubscriberId, Arc<accounts::Recipients>),
}

impl Judge {
    /// What `record`, at `position`, is to the subscriber. A record without a number is nobody's.
    pub(super) fn judge(&self, position: Position, record: &Record) -> Judgement {
        match self {
            Self::Subscription(interest) => interest.judge(position, record),
            Self::Account(id, roster) if record.sequence.is_some() && roster.wants(id, position, record) => {
                Judgement::Wanted
            }
            Self::Account(..) => Judgement::Unwanted,
        }
    }

    /// What a job that delivers again is to know of it.
    pub(super) fn interest(&self) -> Arc<Interest> {
        match self {
            Self::Subscription(interest) => Arc::clone(interest),
            // What failed once was wanted, and an account's is never asked for by its time.
            Self::Account(..) => Arc::new(Interest {
                patterns: Pattern::from_store("*").into_iter().collect(),
                filter: None,
                from: Position::FIRST,
            }),
        }
    }
}

/// What the stage knows of one subscriber.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) profile: Arc<Profile>,
    pub(super) judge: Judge,
    /// The first record that can be for it, if its definition says so.
    pub(super) from: Option<Position>,
}

/// Everybody who gets deliveries at one moment.
pub(super) struct Roster {
    config: Arc<Config>,
    subscriptions: Arc<Known>,
    index: Index,
    known_accounts: Arc<account::Known>,
    accounts: Arc<accounts::Recipients>,
    is_empty: bool,
}

impl Roster {
    /// The roster of these definitions.
    pub(super) fn of(config: Arc<Config>, subscriptions: Arc<Known>, known_accounts: Arc<account::Known>) -> Self {
        let accounts = Arc::new(accounts::Recipients::new(Arc::clone(&known_accounts), Arc::clone(&config)));
        let is_empty = subscriptions.is_empty() && known_accounts.newest_first().is_empty();
        Self { index: Index::new(&subscriptions), config, subscriptions, known_accounts, accounts, is_empty }
    }

    /// Whether there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Whether this is made of the same definitions.
    pub(super) fn is_of(&self, subscriptions: &Arc<Known>, accounts: &Arc<account::Known>) -> bool {
        Arc::ptr_eq(&self.subscriptions, subscriptions) && Arc::ptr_eq(&self.known_accounts, accounts)
    }

    /// Whether the accounts are those of `other`.
    fn has_accounts_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known_accounts, &other.known_accounts)
    }

    /// Everybody.
    pub(super) fn ids(&self) -> impl Iterator<Item = SubscriberId> {
        let subscriptions = self.subscriptions.iter().map(|entry| SubscriberId::Webhook(entry.subscription.id));
        subscriptions.chain(self.accounts.ids())
    }

    /// Those who might want `record`; whether they do is each one's [`Judge`]'s to say.
    pub(super) fn candidates(&self, record: &Record) -> impl Iterator<Item = SubscriberId> {
        let subscriptions = self.index.candidates(record).into_iter().map(SubscriberId::Webhook);
        subscriptions.chain(self.accounts.candidates(record))
    }

    /// What is known of `id`; `None` if there is no such subscriber.
    pub(super) fn find(&self, id: &SubscriberId) -> Option<Listed> {
        match id {
            SubscriberId::Webhook(number) => {
                let entry = self.subscriptions.find(*number)?;
                let judge = Judge::Subscription(Arc::clone(&entry.interest));
                let from = Some(entry.subscription.from);
                Some(Listed {
                    profile: Arc::new(Profile::of_subscription(&entry.subscription, &self.config.delivery)),
                    judge,
                    from,
                })
            }
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                let profile = Arc::new(self.accounts.profile(id)?);
                Some(Listed { profile, judge: Judge::Account(id.clone(), Arc::clone(&self.accounts)), from: None })
            }
        }
    }

    /// What says which records are for `id`.
    pub(super) fn judge(&self, id: &SubscriberId) -> Option<Judge> {
        match id {
            SubscriberId::Webhook(number) => {
                self.subscriptions.find(*number).map(|entry| Judge::Subscription(Arc::clone(&entry.interest)))
            }
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                Some(Judge::Account(id.clone(), Arc::clone(&self.accounts)))
            }
        }
    }

    /// Whether anything is delivered to `id`; `None` if there is no such subscriber.
    pub(super) fn state(&self, id: &SubscriberId) -> Option<State> {
        match id {
            SubscriberId::Webhook(number) => Some(self.subscriptions.find(*number)?.subscription.state.clone()),
            SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                self.accounts.profile(id).map(|profile| profile.state)
            }
        }
    }

    /// Whether `id` is the name of another one here than in `other`: an account that was removed, and made anew before anybody
    /// looked. Numbers of subscriptions are never used again.
    pub(super) fn is_another(&self, other: &Self, id: &SubscriberId) -> bool {
        let (SubscriberId::Forward(name) | SubscriberId::Replies(name)) = id else { return false };
        let made = |roster: &Self| roster.known_accounts.find(name).map(|account| account.created_at);
        made(self) != made(other)
    }

    /// Whether `id` is defined here as it is in `other`.
    pub(super) fn is_same(&self, other: &Self, id: &SubscriberId) -> bool {
        let SubscriberId::Webhook(number) = id else { return self.has_accounts_of(other) };
        match (self.subscriptions.find(*number), other.subscriptions.find(*number)) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

//! What Instagram's accounts get: each its messages and its replies, and all of them together the
//! automatic replies.
//!
//! | record | who gets it |
//! |---|---|
//! | `message.received`, of a business account that an account claims | `forward:<account>`, if it has a URL; `auto_reply`, if it has a text |
//! | `message.reply` | `replies:<account>` |
//!
//! What the account itself wrote, and a message that was taken back, are none of these.

use std::sync::Arc;
use std::time::Duration;

use super::SubscriberId;
use super::delivery_policy::{DeliveryLimits, DeliveryPolicy, DeliveryTarget, RetryPolicy};
use crate::account::{Account, AccountSnapshot};
use crate::config::{AutoReply, Config};
use crate::entity::conversation::{
    ConversationReply, IncomingMessage, RECEIVED_EVENT, REPLY_EVENT,
};
use crate::event::{Position, Record};
use crate::subscription::{DeliveryOrdering, SubscriptionState};

/// How long one attempt may take: by the contract with the CRMs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the first attempt a message or a reply becomes a dead letter, at the latest:
/// Instagram takes no reply later than that after what it replies to.
const DEAD_LETTER_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Longer than any node runs: an account cannot be enabled again, so it is never disabled.
const NEVER_DISABLED: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);

/// The accounts of one moment as subscribers.
#[derive(Clone, Debug)]
pub struct AccountRecipients {
    accounts: Arc<AccountSnapshot>,
    config: Arc<Config>,
}

impl AccountRecipients {
    /// That of `known`.
    #[must_use]
    pub const fn new(accounts: Arc<AccountSnapshot>, config: Arc<Config>) -> Self {
        Self { accounts, config }
    }

    /// Everyone who gets something.
    pub fn ids(&self) -> impl Iterator<Item = SubscriberId> {
        let accounts = self
            .accounts
            .newest_first()
            .into_iter()
            .flat_map(|account| {
                let id: Arc<str> = account.id.as_str().into();
                let forward = self
                    .crm_url(account)
                    .map(|_| SubscriberId::Forward(Arc::clone(&id)));
                forward.into_iter().chain([SubscriberId::Replies(id)])
            });
        accounts
            .collect::<Vec<_>>()
            .into_iter()
            .chain([SubscriberId::AutoReply])
    }

    /// Who gets `record`. Asks one account at most, however many there are.
    #[must_use]
    pub fn candidates(&self, record: &Record) -> Vec<SubscriberId> {
        match record.event_type.as_str() {
            RECEIVED_EVENT => self.message_recipients(record).unwrap_or_default(),
            REPLY_EVENT => self.reply_recipient(record).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether `id` gets `record`, at `position`.
    #[must_use]
    pub fn is_recipient(&self, id: &SubscriberId, position: Position, record: &Record) -> bool {
        let is_of_now = || {
            IncomingMessage::from_record(record)
                .and_then(|message| self.account_claiming(&message, position))
                .is_some()
        };
        self.candidates(record).contains(id) && (record.event_type != RECEIVED_EVENT || is_of_now())
    }

    /// What the delivery to `id` goes by; `None` for who gets nothing, or is no account's.
    #[must_use]
    pub fn delivery_policy(&self, id: &SubscriberId) -> Option<DeliveryPolicy> {
        let instagram = &self.config.sources.instagram;
        let account = |name: &str| self.accounts.get(name).map(Arc::clone);
        let target = match id {
            SubscriberId::Forward(name) => {
                let account = account(name)?;
                let (url, is_checked) = self.crm_url(&account)?;
                DeliveryTarget::Forward {
                    url: url.to_owned(),
                    must_be_public: is_checked,
                    account,
                }
            }
            SubscriberId::Replies(name) => {
                let account = account(name)?;
                let token = account
                    .access_token
                    .clone()
                    .or_else(|| instagram.access_token.clone());
                DeliveryTarget::Reply {
                    url: format!("{}/me/messages", instagram.graph_url),
                    token,
                    account,
                }
            }
            SubscriberId::AutoReply => DeliveryTarget::AutoReply,
            SubscriberId::Webhook(_) => return None,
        };
        let delivery = &self.config.delivery;
        Some(DeliveryPolicy {
            id: id.clone(),
            target,
            state: SubscriptionState::Active,
            ordering: DeliveryOrdering::Entity,
            concurrency: delivery.concurrency,
            rate_limit: None,
            timeout: TIMEOUT,
            retries: RetryPolicy {
                schedule: instagram.retry_schedule.as_slice().into(),
                jitter: delivery.jitter,
                dead_letter_after: delivery.dead_letter_after.min(DEAD_LETTER_AFTER),
            },
            on_exhausted: delivery.on_exhausted,
            breaker: delivery.breaker,
            disable_after: NEVER_DISABLED,
            hold: delivery.hold,
            bounds: DeliveryLimits {
                window_events: delivery.window_events,
                window_bytes: delivery.window_bytes,
                stopped_lanes_max: delivery.stopped_lanes_max,
                dead_letters_max: delivery.dead_letters_max,
            },
        })
    }

    /// The account that `message`, at `position`, was written to.
    fn account_claiming(
        &self,
        message: &IncomingMessage,
        position: Position,
    ) -> Option<&Arc<Account>> {
        self.accounts
            .find_by_business_account(&message.business)
            .filter(|account| position >= account.from)
    }

    /// The account that `message` was written to, and its automatic reply, if it has one.
    #[must_use]
    pub fn auto_reply(&self, message: &IncomingMessage) -> Option<(&Arc<Account>, &AutoReply)> {
        let account = self.accounts.find_by_business_account(&message.business)?;
        let reply = account
            .auto_reply
            .as_ref()
            .unwrap_or(&self.config.sources.instagram.auto_reply);
        (!reply.text.is_empty()).then_some((account, reply))
    }

    fn message_recipients(&self, record: &Record) -> Option<Vec<SubscriberId>> {
        let message = IncomingMessage::from_record(record)?;
        let account = self.accounts.find_by_business_account(&message.business)?;
        let forward = self
            .crm_url(account)
            .map(|_| SubscriberId::Forward(account.id.as_str().into()));
        let auto_reply = self.auto_reply(&message).map(|_| SubscriberId::AutoReply);
        Some(forward.into_iter().chain(auto_reply).collect())
    }

    fn reply_recipient(&self, record: &Record) -> Option<SubscriberId> {
        let reply = ConversationReply::from_payload(&record.payload)?;
        self.accounts.get(&reply.account_id)?;
        Some(SubscriberId::Replies(reply.account_id.into()))
    }

    /// Where messages of `account` go, and whether the API gave that address.
    fn crm_url<'a>(&'a self, account: &'a Account) -> Option<(&'a str, bool)> {
        let own = account.crm_webhook_url.as_deref().map(|url| (url, true));
        own.or_else(|| {
            self.config
                .sources
                .instagram
                .crm_webhook_url
                .as_deref()
                .map(|url| (url, false))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountRegistry;
    use crate::config::{Secret, load_config};
    use crate::event::{EntityKey, Kind, Timestamp};
    use crate::failpoints::NoFailures;
    use crate::journal::DataStore;

    fn account(id: &str, business: &str, url: Option<&str>, reply: Option<&str>) -> Account {
        let auto_reply = reply.map(|text| AutoReply {
            text: text.into(),
            cooldown: Duration::ZERO,
        });
        Account {
            id: id.into(),
            instagram_account_id: business.into(),
            crm_webhook_url: url.map(Into::into),
            webhook_secret: Secret::new("hush"),
            access_token: (id == "own").then(|| Secret::new("its-token")),
            auto_reply,
            created_at: Timestamp::from_micros(1),
            from: Position::new(5),
        }
    }

    /// Three accounts: one with everything of its own, one with nothing, one that wants no
    /// automatic reply.
    fn recipients(keys: &[(&str, &str)]) -> AccountRecipients {
        let named = keys.iter().map(|(key, value)| {
            (
                format!(
                    "HOOKYARD_SOURCES__INSTAGRAM__{}",
                    key.replace('.', "__").to_uppercase()
                ),
                (*value).to_owned(),
            )
        });
        let env = named.chain([("HOOKYARD_ADMIN__TOKEN".to_owned(), "test-token".to_owned())]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        let accounts = AccountRegistry::open(store, 9, None).expect("opens");
        for account in [
            account("own", "9", Some("https://crm.example/own"), Some("Soon.")),
            account("bare", "8", None, None),
            account("quiet", "7", None, Some("")),
        ] {
            accounts.create(account).expect("room");
        }
        AccountRecipients::new(
            accounts.snapshot(),
            Arc::new(load_config(None, env).expect("valid")),
        )
    }

    fn record(event: &str, conversation: &str, content: &str) -> Record {
        let entity = EntityKey::try_new(Kind::Conversation, conversation).expect("an id");
        let change = format!(r#"{{"at":1,"keep":9,"effect":{content}}}"#);
        let at = Timestamp::from_micros(1);
        Record {
            sequence: Some(1),
            change: change.into(),
            ..Record::new("instagram", entity, event, at)
        }
    }

    fn message(conversation: &str, sender: &str, more: &str) -> Record {
        let content = format!(
            r#"{{"message":{{"message_id":"m","sender_id":"{sender}","text":"hi","message_type":"text"{more}}}}}"#
        );
        record(RECEIVED_EVENT, conversation, &content)
    }

    fn names(ids: impl IntoIterator<Item = SubscriberId>) -> Vec<String> {
        ids.into_iter().map(|id| id.to_string()).collect()
    }

    #[test]
    fn a_message_goes_to_the_account_that_claims_its_business_account() {
        let defaults = [
            ("crm_webhook_url", "https://crm.example/all"),
            ("auto_reply.text", "Thanks."),
        ];
        for (keys, business, expected) in [
            (&[][..], "9", &["forward:own", "auto_reply"][..]),
            (&[], "8", &[]),
            (&[], "6", &[]),
            (&defaults, "8", &["forward:bare", "auto_reply"]),
            (&defaults, "7", &["forward:quiet"]),
            (&defaults, "6", &[]),
        ] {
            let record = message(&format!("conv_1_{business}"), "1", "");
            let recipients = recipients(keys);
            assert_eq!(
                names(recipients.candidates(&record)),
                expected,
                "{business}"
            );
            for id in recipients.candidates(&record) {
                assert!(recipients.is_recipient(&id, Position::new(5), &record));
                assert!(
                    !recipients.is_recipient(&id, Position::new(4), &record),
                    "it was written before there was an account"
                );
            }
            assert!(!recipients.is_recipient(
                &SubscriberId::Replies("own".into()),
                Position::new(5),
                &record
            ));
        }
    }

    #[test]
    fn nothing_but_what_somebody_wrote_is_a_message() {
        let recipients = recipients(&[]);
        for record in [
            message("conv_1_9", "1", r#","is_echo":true"#),
            // Its own word without the mark of an echo: the account is the sender.
            message("conv_1_9", "9", ""),
            record(RECEIVED_EVENT, "conv_1_9", r#"{"deleted":"m"}"#),
            record(
                "message.reaction",
                "conv_1_9",
                r#"{"reaction":{"message_id":"m","sender_id":"1","given":null}}"#,
            ),
            record("message.echo", "conv_1_9", "\"nothing\""),
            Record {
                sequence: None,
                ..message("conv_1_9", "1", "")
            },
        ] {
            assert_eq!(recipients.candidates(&record), [], "{record:?}");
        }
    }

    #[test]
    fn a_reply_goes_out_by_the_account_that_it_was_asked_of() {
        let recipients = recipients(&[]);
        let of = |account: &str| {
            let reply = ConversationReply {
                account_id: account.into(),
                recipient_id: "1".into(),
                text: "Hi".into(),
                is_automatic: false,
            };
            let payload = reply.to_command("9", None).expect("an id").payload;
            Record {
                payload,
                ..record(REPLY_EVENT, "conv_1_9", r#"{"reply":{}}"#)
            }
        };
        assert_eq!(names(recipients.candidates(&of("bare"))), ["replies:bare"]);
        assert!(recipients.is_recipient(
            &SubscriberId::Replies("bare".into()),
            Position::FIRST,
            &of("bare")
        ));
        assert!(recipients.candidates(&of("gone")).is_empty());
    }

    #[test]
    fn addresses_and_tokens_are_an_accounts_own_or_those_of_the_configuration() {
        let keys = [
            ("crm_webhook_url", "http://10.0.0.7/all"),
            ("graph_url", "http://g/v1/"),
            ("access_token", "all"),
        ];
        let recipients = recipients(&keys);
        let target = |id: &str| {
            recipients
                .delivery_policy(&SubscriberId::parse(id).expect("an id"))
                .expect("a profile")
                .target
        };
        for (id, address, checked) in [
            ("forward:own", "https://crm.example/own", true),
            ("forward:bare", "http://10.0.0.7/all", false),
        ] {
            let DeliveryTarget::Forward {
                url,
                must_be_public: is_checked,
                ..
            } = target(id)
            else {
                panic!("{id}")
            };
            assert_eq!(
                (url.as_str(), is_checked),
                (address, checked),
                "only what the API was given is checked"
            );
        }
        for (id, expected) in [("replies:own", "its-token"), ("replies:bare", "all")] {
            let DeliveryTarget::Reply { url, token, .. } = target(id) else {
                panic!("{id}")
            };
            assert_eq!(
                (url.as_str(), token.expect("a token").expose()),
                ("http://g/v1/me/messages", expected)
            );
        }
        assert!(
            recipients
                .delivery_policy(&SubscriberId::Forward("gone".into()))
                .is_none()
        );
    }

    #[test]
    fn a_profile_is_that_of_the_contract() {
        let recipients = recipients(&[]);
        let profile = recipients
            .delivery_policy(&SubscriberId::Forward("own".into()))
            .expect("it has a URL");
        assert_eq!(profile.timeout, Duration::from_secs(10));
        assert_eq!(
            *profile.retries.schedule,
            [5, 25, 125, 625, 3_125].map(Duration::from_secs)
        );
        assert_eq!(
            profile.retries.dead_letter_after,
            Duration::from_secs(24 * 3_600)
        );
        assert!(
            recipients
                .delivery_policy(&SubscriberId::Forward("bare".into()))
                .is_none(),
            "it has no URL"
        );
        let ids = [
            "forward:own",
            "replies:bare",
            "replies:own",
            "replies:quiet",
            "auto_reply",
        ];
        let mut all = names(recipients.ids());
        all[..4].sort();
        assert_eq!(all, ids);
    }
}

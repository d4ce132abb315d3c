//! Instagram accounts as subscribers: messages go to each account's CRM, replies go to Instagram, and
//! one common subscriber makes the automatic replies.
//!
//! | record | recipients |
//! |---|---|
//! | `message.received`, of a business account that an account claims | `forward:<account>`, if it has a URL; `auto_reply`, if it has a text |
//! | `message.reply` | `replies:<account>` |
//!
//! Messages that the account itself wrote (echoes), and deleted messages, have no recipient.

use std::sync::Arc;
use std::time::Duration;

use super::delivery_policy::{DeliveryPolicy, DeliveryTarget, RetryPolicy};
use super::subscriber_id::SubscriberId;
use crate::account::{Account, AccountSnapshot};
use crate::config::{AutoReply, Config};
use crate::entity::conversation::{
    ConversationReply, IncomingMessage, RECEIVED_EVENT, REPLY_EVENT,
};
use crate::event::{Position, Record};

/// Time limit of one attempt, by the contract with the CRMs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Latest time after the first attempt at which a message or reply becomes a dead letter. Instagram
/// accepts no reply later than this after the message that it answers.
const DEAD_LETTER_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Longer than any node runs. The API cannot enable an account again, so accounts are never disabled.
const NEVER_DISABLED: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);

/// Recipients by one snapshot of the accounts.
#[derive(Clone, Debug)]
pub(super) struct AccountRecipients {
    accounts: Arc<AccountSnapshot>,
    config: Arc<Config>,
}

impl AccountRecipients {
    pub(super) const fn new(accounts: Arc<AccountSnapshot>, config: Arc<Config>) -> Self {
        Self { accounts, config }
    }

    /// Ids of all subscribers that derive from accounts.
    pub(super) fn ids(&self) -> impl Iterator<Item = SubscriberId> {
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

    /// Subscribers that `record` may be for. Looks at a single account, so it is cheap with many.
    pub(super) fn candidates(&self, record: &Record) -> Vec<SubscriberId> {
        match record.event_type.as_str() {
            RECEIVED_EVENT => self.message_recipients(record).unwrap_or_default(),
            REPLY_EVENT => self.reply_recipient(record).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Checks if `id` gets the record at `position`. Messages from before the account's creation have
    /// no recipient.
    pub(super) fn is_recipient(
        &self,
        id: &SubscriberId,
        position: Position,
        record: &Record,
    ) -> bool {
        let has_account = || {
            IncomingMessage::from_record(record)
                .and_then(|message| self.account_claiming(&message, position))
                .is_some()
        };
        self.candidates(record).contains(id)
            && (record.event_type != RECEIVED_EVENT || has_account())
    }

    /// Delivery settings of `id`; `None` if it has no destination or does not derive from an account.
    pub(super) fn delivery_policy(&self, id: &SubscriberId) -> Option<DeliveryPolicy> {
        let instagram = &self.config.sources.instagram;
        let account = |name: &str| self.accounts.get(name).map(Arc::clone);
        let target = match id {
            SubscriberId::Forward(name) => {
                let account = account(name)?;
                let (url, is_checked) = self.crm_url(&account)?;
                DeliveryTarget::Forward {
                    url: url.to_owned(),
                    is_checked,
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
        let base = DeliveryPolicy::with_defaults(id.clone(), target, delivery);
        Some(DeliveryPolicy {
            timeout: TIMEOUT,
            retries: RetryPolicy {
                schedule: instagram.retry_schedule.as_slice().into(),
                jitter: delivery.jitter,
                dead_letter_after: delivery.dead_letter_after.min(DEAD_LETTER_AFTER),
            },
            disable_after: NEVER_DISABLED,
            ..base
        })
    }

    /// Account that the message at `position` was sent to, if the account existed then.
    fn account_claiming(
        &self,
        message: &IncomingMessage,
        position: Position,
    ) -> Option<&Arc<Account>> {
        self.accounts
            .find_by_business_account(&message.business)
            .filter(|account| position >= account.from)
    }

    /// Account that `message` was sent to, with its automatic reply; `None` if its text is empty.
    pub(super) fn auto_reply(
        &self,
        message: &IncomingMessage,
    ) -> Option<(&Arc<Account>, &AutoReply)> {
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

    /// URL for the messages of `account`, and `true` if it came in by the API.
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
    use crate::table_store::open_test_tables;

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
            updated_at: Timestamp::from_micros(1),
            from: Position::new(5),
        }
    }

    /// Three accounts: `own` with all settings, `bare` with none, `quiet` without automatic reply.
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
        let tables = open_test_tables(folder.path());
        let accounts = AccountRegistry::open(&tables, 9).expect("opens");
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
                    "it was sent before the account was created"
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
    fn echoes_deletions_and_reactions_have_no_recipient() {
        let recipients = recipients(&[]);
        for record in [
            message("conv_1_9", "1", r#","is_echo":true"#),
            // An echo without the mark of one: the account is the sender.
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
    fn a_reply_goes_out_by_the_account_that_it_names() {
        let recipients = recipients(&[]);
        let reply_of = |account: &str| {
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
        assert_eq!(
            names(recipients.candidates(&reply_of("bare"))),
            ["replies:bare"]
        );
        assert!(recipients.is_recipient(
            &SubscriberId::Replies("bare".into()),
            Position::FIRST,
            &reply_of("bare")
        ));
        assert!(recipients.candidates(&reply_of("gone")).is_empty());
    }

    #[test]
    fn urls_and_tokens_are_those_of_the_account_or_else_of_the_configuration() {
        let keys = [
            ("crm_webhook_url", "http://10.0.0.7/all"),
            ("graph_url", "http://g/v1/"),
            ("access_token", "all"),
        ];
        let recipients = recipients(&keys);
        let target = |id: &str| {
            recipients
                .delivery_policy(&SubscriberId::parse(id).expect("an id"))
                .expect("a policy")
                .target
        };
        for (id, address, is_own) in [
            ("forward:own", "https://crm.example/own", true),
            ("forward:bare", "http://10.0.0.7/all", false),
        ] {
            let DeliveryTarget::Forward {
                url, is_checked, ..
            } = target(id)
            else {
                panic!("{id}")
            };
            assert_eq!(
                (url.as_str(), is_checked),
                (address, is_own),
                "only a URL from the API must be public"
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
    fn the_policy_is_that_of_the_contract() {
        let recipients = recipients(&[]);
        let policy = recipients
            .delivery_policy(&SubscriberId::Forward("own".into()))
            .expect("it has a URL");
        assert_eq!(policy.timeout, Duration::from_secs(10));
        assert_eq!(
            *policy.retries.schedule,
            [5, 25, 125, 625, 3_125].map(Duration::from_secs)
        );
        assert_eq!(
            policy.retries.dead_letter_after,
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

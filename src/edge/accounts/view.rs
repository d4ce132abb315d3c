//! Accounts as answers show them: with defaults for unset members, and without the access token.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::answer;
use super::super::state::Edge;
use crate::account::Account;
use crate::config::AutoReply;

#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountView<'a> {
    account_id: &'a str,
    instagram_account_id: &'a str,
    crm_webhook_url: Option<&'a str>,
    /// Set only in the answer to the request that generated the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    webhook_secret: Option<&'a str>,
    auto_reply: Option<AutoReplyView<'a>>,
    /// True if replies can be sent, with the account's token or the configured token.
    has_access_token: bool,
    #[serde(skip)]
    account: &'a Account,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AutoReply)]
struct AutoReplyView<'a> {
    text: &'a str,
    #[schema(value_type = f64)]
    cooldown_s: serde_json::Number,
}

impl<'a> AccountView<'a> {
    pub(super) fn new(account: &'a Account, edge: &'a Edge) -> Self {
        let defaults = &edge.config.sources.instagram;
        let reply = account.auto_reply.as_ref().unwrap_or(&defaults.auto_reply);
        Self {
            account_id: &account.id,
            instagram_account_id: &account.instagram_account_id,
            crm_webhook_url: account
                .crm_webhook_url
                .as_deref()
                .or(defaults.crm_webhook_url.as_deref()),
            webhook_secret: None,
            auto_reply: (!reply.text.is_empty()).then(|| AutoReplyView::new(reply)),
            has_access_token: account.access_token.is_some() || defaults.access_token.is_some(),
            account,
        }
    }

    pub(super) fn with_secret(mut self) -> Self {
        self.webhook_secret = Some(self.account.webhook_secret.expose());
        self
    }
}

impl<'a> AutoReplyView<'a> {
    fn new(reply: &'a AutoReply) -> Self {
        Self {
            text: &reply.text,
            cooldown_s: answer::seconds_as_number(reply.cooldown),
        }
    }
}

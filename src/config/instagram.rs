//! Section `[sources.instagram]`: messages of Instagram business accounts.

use std::time::Duration;

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::{check_not_empty, parse_number, parse_string};
use super::web_url::{URL_MAX_BYTES, is_web_url};

/// Longest text of an automatic reply, in bytes. Source: Instagram's limit for one message.
pub const REPLY_MAX_BYTES: usize = 1_000;
/// Longest cool-down of automatic replies, in seconds (30 days).
pub const COOLDOWN_MAX_S: f64 = 30.0 * 86_400.0;

/// Section `[sources.instagram]`: messages of Instagram business accounts.
#[derive(Clone, Debug)]
pub struct InstagramConfig {
    /// Switches the webhook and the accounts API on.
    pub enabled: bool,
    /// Secrets of the app at Meta. Any of them is accepted, so secrets can be rotated.
    pub app_secrets: Vec<Secret>,
    /// Token that Meta must present in the subscription handshake.
    pub verify_token: Secret,
    /// Webhook URL for accounts without a URL of their own; `None` delivers nothing for them.
    pub crm_webhook_url: Option<String>,
    /// Pauses before the second attempt to send a message or a reply, the third, and so on.
    pub retry_schedule: Vec<Duration>,
    /// Base URL of the Graph API, before `/me/messages` and without a trailing slash.
    pub graph_url: String,
    /// Access token for replies of accounts without a token of their own.
    pub access_token: Option<Secret>,
    /// Most accounts that can be stored.
    pub accounts_max: usize,
    /// Automatic reply of accounts without a reply of their own.
    pub auto_reply: AutoReply,
}

/// Text that is sent automatically to a user who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoReply {
    /// Text of the reply; empty disables automatic replies.
    pub text: String,
    /// Time after an automatic reply in which the conversation gets no second one.
    pub cooldown: Duration,
}

impl ConfigDraft {
    pub(super) fn read_instagram(&mut self) -> InstagramConfig {
        InstagramConfig {
            enabled: self.read_boolean("sources.instagram.enabled"),
            app_secrets: self.read_secrets("sources.instagram.app_secrets", check_not_empty),
            // Any characters are allowed: the token arrives percent-encoded in a URL.
            verify_token: self.read_as("sources.instagram.verify_token", parse_string),
            crm_webhook_url: Some(self.read_text("sources.instagram.crm_webhook_url", |url| {
                let expected =
                    || format!("nothing, or an http or https URL of at most {URL_MAX_BYTES} bytes");
                (url.is_empty() || is_web_url(url))
                    .then_some(())
                    .ok_or_else(expected)
            }))
            .filter(|url| !url.is_empty()),
            retry_schedule: self.read_schedule("sources.instagram.retry_schedule_s"),
            graph_url: self
                .read_text("sources.instagram.graph_url", |url| {
                    let expected = format!(
                        "an http or https URL of at most {URL_MAX_BYTES} bytes, without ? and #"
                    );
                    (is_web_url(url) && !url.contains(['?', '#']))
                        .then_some(())
                        .ok_or(expected)
                })
                .trim_end_matches('/')
                .to_owned(),
            access_token: Some(self.read_secret("sources.instagram.access_token"))
                .filter(|token| !token.is_empty()),
            accounts_max: self.read_integer("sources.instagram.accounts_max", 1..=100_000),
            auto_reply: AutoReply {
                text: self.read_text("sources.instagram.auto_reply.text", |text| {
                    let expected = || format!("at most {REPLY_MAX_BYTES} bytes");
                    (text.len() <= REPLY_MAX_BYTES)
                        .then_some(())
                        .ok_or_else(expected)
                }),
                cooldown: self.read_as("sources.instagram.auto_reply.cooldown_s", |value| {
                    let seconds = parse_number(value, "a number of seconds")?;
                    let expected =
                        || format!("expected 0 to {COOLDOWN_MAX_S} seconds, found {seconds}");
                    let fits = (0.0..=COOLDOWN_MAX_S).contains(&seconds);
                    fits.then(|| Duration::from_secs_f64(seconds))
                        .ok_or_else(expected)
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn with(key: &str, value: &str) -> Result<InstagramConfig, String> {
        let env = [("HOOKYARD_ADMIN__TOKEN", "test-token".to_owned())]
            .map(|(key, value)| (key.to_owned(), value));
        let own = (
            format!("HOOKYARD_SOURCES__INSTAGRAM__{}", key.to_uppercase()),
            value.to_owned(),
        );
        let loaded = load::load_config(None, env.into_iter().chain([own]));
        loaded
            .map(|config| config.sources.instagram)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn replies_go_to_metas_address_and_wrong_settings_are_named() {
        let config = with("accounts_max", "1").expect("valid");
        assert_eq!(config.graph_url, "https://graph.instagram.com/v23.0");
        assert!(config.access_token.is_none());
        assert_eq!(
            config.retry_schedule,
            [5, 25, 125, 625, 3_125].map(Duration::from_secs)
        );
        assert_eq!(
            with("graph_url", "http://127.0.0.1:9/v1/")
                .expect("valid")
                .graph_url,
            "http://127.0.0.1:9/v1"
        );
        for wrong in [
            "",
            "graph.example",
            "https://h/v1?x",
            "https://h/#x",
            "https://u:p@h/",
        ] {
            let problem = with("graph_url", wrong).expect_err("wrong");
            assert!(
                problem.contains("sources.instagram.graph_url: expected an http or https URL"),
                "{problem}"
            );
        }
        let problem = with("auto_reply__cooldown_s", "-1").expect_err("wrong");
        assert!(
            problem.contains("auto_reply.cooldown_s: expected 0 to 2592000 seconds, found -1"),
            "{problem}"
        );
        assert!(
            with("auto_reply__cooldown_s", "0")
                .expect("each message has its own")
                .auto_reply
                .cooldown
                .is_zero()
        );
        let problem = with("access_token", "two words").expect_err("it cannot stand in a header");
        assert!(!problem.contains("two words"), "{problem}");
    }
}

//! `[sources.instagram]`: messages of Instagram's business accounts.

use std::time::Duration;

use super::draft::ConfigDraft;
use super::secret::Secret;
use super::values::{check_not_empty, parse_number, parse_string};

/// The longest address of a webhook, in bytes.
pub const URL_MAX_BYTES: usize = 500;
/// The longest text of an automatic reply, in bytes: Instagram takes no more in one message.
pub const REPLY_MAX_BYTES: usize = 1_000;
/// The longest cool-down of automatic replies, in seconds.
pub const COOLDOWN_MAX_S: f64 = 30.0 * 86_400.0;

/// `[sources.instagram]`
#[derive(Clone, Debug)]
pub struct InstagramConfig {
    /// Whether the endpoints exist.
    pub enabled: bool,
    /// The app's secrets, any of which is taken (rotation).
    pub app_secrets: Vec<Secret>,
    /// What the handshake has to bring.
    pub verify_token: Secret,
    /// Where messages go of accounts that have no address of their own.
    pub crm_webhook_url: Option<String>,
    /// The pauses before the second attempt to bring a message or a reply, the third, and so on.
    pub retry_schedule: Vec<Duration>,
    /// Where replies go: the address before `/me/messages`, without a slash at its end.
    pub graph_url: String,
    /// What replies are sent with of accounts that have no token of their own.
    pub access_token: Option<Secret>,
    /// The most accounts that can be kept.
    pub accounts_max: usize,
    /// The automatic reply of accounts that have none of their own.
    pub auto_reply: AutoReply,
}

/// A text that is sent of itself to whoever writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoReply {
    /// The text; empty means none.
    pub text: String,
    /// How long a conversation gets no second one.
    pub cooldown: Duration,
}

impl ConfigDraft {
    pub(super) fn read_instagram(&mut self) -> InstagramConfig {
        InstagramConfig {
            enabled: self.read_boolean("sources.instagram.enabled"),
            app_secrets: self.read_secrets("sources.instagram.app_secrets", check_not_empty),
            // Compared with what is in a URL, where any character can stand.
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

/// Whether `text` is an absolute address with a host that a request can be sent to, and not longer
/// than is taken.
#[must_use]
pub fn is_web_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let has_host =
        host.is_some_and(|host| !host.is_empty() && !host.starts_with(':') && !host.contains('@'));
    has_host && text.len() <= URL_MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
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

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_shows_no_password() {
        for url in [
            "https://crm.example/hook?a=b",
            "http://127.0.0.1:9000",
            "https://[::1]/x",
        ] {
            assert!(is_web_url(url), "{url}");
        }
        let long = format!("https://h/{}", "x".repeat(URL_MAX_BYTES));
        for url in [
            "",
            "crm.example",
            "ftp://h/",
            "https://",
            "https:///x",
            "https://:1",
            "https://u:p@h/",
            "http://h/ x",
            &long,
        ] {
            assert!(!is_web_url(url), "{url}");
        }
    }
}

//! `[sources.instagram]`: messages of Instagram's business accounts.

use std::time::Duration;

use super::Secret;
use super::draft::Draft;
use super::load::{not_empty, string};

/// The longest address of a webhook, in bytes.
pub const URL_MAX_BYTES: usize = 500;
/// The longest text of an automatic reply, in bytes: Instagram takes no more in one message.
pub const REPLY_MAX_BYTES: usize = 1_000;
/// The longest cool-down of automatic replies, in seconds.
pub const COOLDOWN_MAX_S: f64 = 30.0 * 86_400.0;

/// `[sources.instagram]`
#[derive(Clone, Debug)]
pub struct Instagram {
    /// Whether the endpoints exist.
    pub enabled: bool,
    /// The app's secrets, any of which is taken (rotation).
    pub app_secrets: Vec<Secret>,
    /// What the handshake has to bring.
    pub verify_token: Secret,
    /// Where messages go of accounts that have no address of their own.
    pub crm_webhook_url: Option<String>,
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

impl Draft {
    pub(super) fn instagram(&mut self) -> Instagram {
        Instagram {
            enabled: self.boolean("sources.instagram.enabled"),
            app_secrets: self.secrets("sources.instagram.app_secrets", not_empty),
            // Compared with what is in a URL, where any character can stand.
            verify_token: self.read_as("sources.instagram.verify_token", string),
            crm_webhook_url: Some(self.text("sources.instagram.crm_webhook_url", |url| {
                let expected = || format!("nothing, or an http or https URL of at most {URL_MAX_BYTES} bytes");
                (url.is_empty() || is_web_url(url)).then_some(()).ok_or_else(expected)
            }))
            .filter(|url| !url.is_empty()),
            accounts_max: self.integer("sources.instagram.accounts_max", 1..=100_000),
            auto_reply: AutoReply {
                text: self.text("sources.instagram.auto_reply.text", |text| {
                    let expected = || format!("at most {REPLY_MAX_BYTES} bytes");
                    (text.len() <= REPLY_MAX_BYTES).then_some(()).ok_or_else(expected)
                }),
                cooldown: self.seconds("sources.instagram.auto_reply.cooldown_s", COOLDOWN_MAX_S),
            },
        }
    }
}

/// Whether `text` is an absolute address with a host that a request can be sent to, and not longer than is taken.
#[must_use]
pub fn is_web_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let has_host = host.is_some_and(|host| !host.is_empty() && !host.starts_with(':') && !host.contains('@'));
    has_host && text.len() <= URL_MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_shows_no_password() {
        for url in ["https://crm.example/hook?a=b", "http://127.0.0.1:9000", "https://[::1]/x"] {
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

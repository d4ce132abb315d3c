//! Settings in force with their origins, for people who look for the reason of a behaviour.

use super::draft::ConfigDraft;
use super::restart_keys::needs_restart;
use super::setting::SettingValue;

/// Last parts of the keys whose values are secret.
const SECRET_NAMES: [&str; 14] = [
    "postgres_url",
    "token",
    "tokens",
    "secret",
    "secrets",
    "api_keys",
    "app_secrets",
    "access_token",
    "verify_token",
    "metrics_token",
    "otlp_headers",
    "encryption_key",
    "former_encryption_keys",
    "key",
];

/// Setting in force, as text. The value of a secret is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Key of the setting, such as `server.bind`.
    pub key: String,
    /// Value as text; items of a list are separated by commas.
    pub value: String,
    /// Place that set the value: the defaults, a file with its line, or a variable.
    pub origin: String,
    /// True if the value is the default.
    pub is_default: bool,
    /// True if a running node cannot change the value.
    pub needs_restart: bool,
}

impl ConfigDraft {
    /// Lists all settings in force, sorted by key.
    #[must_use]
    pub fn effective_settings(&self) -> Vec<EffectiveSetting> {
        let settings = self.settings.iter();
        let listed = settings.map(|(key, setting)| EffectiveSetting {
            key: key.clone(),
            value: match describe_value(&setting.value) {
                value if value.is_empty() => value,
                _ if is_secret_key(key) => "…".to_owned(),
                value => mask_login(value),
            },
            origin: setting.origin.to_string(),
            is_default: setting.origin.is_defaults(),
            needs_restart: needs_restart(key),
        });
        listed.collect()
    }
}

/// Returns true if the value of the setting `key`, such as `admin.token`, is secret.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    // The path of a file.
    key != "server.tls.key" && SECRET_NAMES.contains(&name)
}

/// Masks the name and password in a URL, as a proxy's may have.
fn mask_login(value: String) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value;
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => value,
    }
}

fn describe_value(value: &SettingValue) -> String {
    match value {
        SettingValue::Raw(text) | SettingValue::Text(text) => text.expose().to_owned(),
        SettingValue::Integer(number) => number.to_string(),
        SettingValue::Float(number) => number.to_string(),
        SettingValue::Boolean(value) => value.to_string(),
        SettingValue::List(items) => {
            let items = items.iter().map(|item| describe_value(&item.value));
            items.collect::<Vec<_>>().join(", ")
        }
        SettingValue::Other(name) => (*name).to_owned(),
        SettingValue::Taken => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::SECRET_KEYS;
    use super::*;

    #[test]
    fn every_secret_is_masked_and_every_origin_named() {
        for key in SECRET_KEYS {
            assert!(is_secret_key(key), "{key}");
        }
        assert!(!is_secret_key("sources.custom.shop.idempotency_key"));

        let env = [
            ("HOOKYARD_ADMIN__TOKEN", "hush"),
            (
                "HOOKYARD_DELIVERY__PROXY_URL",
                "http://me:proxy@proxy.example:3128/a@b",
            ),
            ("HOOKYARD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8,10.1.0.0/16"),
        ];
        let settings = ConfigDraft::from_toml(None, env).effective_settings();
        let find = |key: &str| {
            let found = settings.iter().find(|setting| setting.key == key);
            let found = found.expect("a known key");
            (
                found.value.as_str(),
                found.origin.as_str(),
                found.is_default,
            )
        };
        assert_eq!(find("admin.token"), ("…", "HOOKYARD_ADMIN__TOKEN", false));
        assert_eq!(
            find("delivery.proxy_url").0,
            "http://…@proxy.example:3128/a@b"
        );
        assert_eq!(find("telemetry.metrics_token"), ("", "default", true));
        assert_eq!(find("server.trusted_proxies").0, "10.0.0.0/8,10.1.0.0/16");
        assert_eq!(find("server.workers"), ("0", "default", true));
    }
}

//! The secrets that a development node makes for itself, and the text of the file that keeps them.

use std::fmt::Write;

use toml::Table;

use super::Secret;

/// A secret that a development node makes.
#[derive(Debug, PartialEq, Eq)]
pub struct DevKey {
    /// The key of the configuration that it is for.
    pub key: &'static str,
    /// What it begins with, so that it is known where it turns up.
    pub prefix: &'static str,
    /// Whether the key holds a list.
    is_list: bool,
    /// Whether every file has it, since the first version.
    is_old: bool,
}

const fn text_secret(key: &'static str, prefix: &'static str) -> DevKey {
    DevKey {
        key,
        prefix,
        is_list: false,
        is_old: false,
    }
}

const fn list_secret(key: &'static str, prefix: &'static str) -> DevKey {
    DevKey {
        is_list: true,
        ..text_secret(key, prefix)
    }
}

/// All of them, those of one section together. The leads take unsigned requests, which are easier
/// to try.
pub const DEV_KEYS: [DevKey; 7] = [
    DevKey {
        is_old: true,
        ..text_secret("admin.token", "dev_token_")
    },
    DevKey {
        is_old: true,
        ..list_secret("sources.support.api_keys", "dev_key_")
    },
    DevKey {
        is_old: true,
        ..list_secret("sources.support.secrets", "whsec_")
    },
    list_secret("sources.c2s.tokens", "dev_c2s_"),
    list_secret("sources.instagram.app_secrets", "dev_app_"),
    text_secret("sources.instagram.verify_token", "dev_verify_"),
    list_secret("sources.crm.tokens", "dev_publisher_"),
];

/// One secret for each of [`DEV_KEYS`], in their order; those that a file of an earlier version
/// lacks are missing until [`DevSecrets::complete`].
#[derive(Clone, Debug)]
pub struct DevSecrets([Option<Secret>; DEV_KEYS.len()]);

/// Text that [`DevSecrets::to_toml`] has not written. Says nothing of the text, which may hold
/// secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a file of development secrets")]
pub struct DevSecretsError;

impl DevSecrets {
    /// New secrets, made by `make`.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn generate<E>(make: impl FnMut(&DevKey) -> Result<Secret, E>) -> Result<Self, E> {
        let mut secrets = Self(Default::default());
        secrets.complete(make)?;
        Ok(secrets)
    }

    /// Makes the secrets that are missing.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn complete<E>(
        &mut self,
        mut make: impl FnMut(&DevKey) -> Result<Secret, E>,
    ) -> Result<(), E> {
        for (key, secret) in DEV_KEYS.iter().zip(&mut self.0) {
            if secret.is_none() {
                *secret = Some(make(key)?);
            }
        }
        Ok(())
    }

    /// Whether none is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }

    /// The secrets there are, each with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static DevKey, &Secret)> {
        DEV_KEYS
            .iter()
            .zip(&self.0)
            .filter_map(|(key, secret)| Some((key, secret.as_ref()?)))
    }

    /// The secret for the key `key` of the configuration.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.iter()
            .find(|(made, _)| made.key == key)
            .map(|(_, secret)| secret)
    }

    /// Reads what [`Self::to_toml`] of this version or an earlier one writes.
    ///
    /// # Errors
    /// [`NotDevSecrets`] for any other text.
    pub fn parse(text: &str) -> Result<Self, DevSecretsError> {
        let table: Table = text.parse().map_err(|_| DevSecretsError)?;
        let mut read = Self(Default::default());
        for (key, secret) in DEV_KEYS.iter().zip(&mut read.0) {
            *secret = key.read_from(&table)?;
        }
        Ok(read)
    }

    /// The text to keep. Each secret stands on a line of its own, so that a shell can pick it out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text =
            "# Made by `hookyard serve --dev`, for this data folder. Delete the file to have new secrets made.\n"
                .to_owned();
        let mut section = "";
        for (key, secret) in self.iter() {
            let (here, name) = key.key.rsplit_once('.').unwrap_or(("", key.key));
            if here != section {
                section = here;
                // Writing to a text cannot fail.
                let _ = write!(text, "\n[{section}]\n");
            }
            let (open, close) = if key.is_list { ("[", "]") } else { ("", "") };
            let _ = writeln!(text, "{name} = {open}\"{}\"{close}", secret.expose());
        }
        text
    }
}

impl DevKey {
    /// Whether the key holds a list.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        self.is_list
    }

    /// The secret in `table`; `None` if it may be missing and is.
    fn read_from(&self, table: &Table) -> Result<Option<Secret>, DevSecretsError> {
        let mut parts = self.key.split('.');
        let first = parts.next().and_then(|part| table.get(part));
        let value = parts.fold(first, |value, part| value?.get(part));
        let value = match value {
            None if !self.is_old => return Ok(None),
            Some(value) if self.is_list => value.get(0),
            value => value,
        };
        let secret = value
            .and_then(toml::Value::as_str)
            .filter(|text| !text.is_empty());
        secret
            .map(|text| Some(Secret::new(text)))
            .ok_or(DevSecretsError)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn make(key: &DevKey) -> Result<Secret, Infallible> {
        Ok(Secret::new(format!("{}x", key.prefix)))
    }

    fn made() -> DevSecrets {
        let Ok(made) = DevSecrets::generate(make);
        made
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = DevSecrets::parse(&made().to_toml()).expect("just written");
        assert!(read.is_complete());
        for key in &DEV_KEYS {
            assert_eq!(
                read.get(key.key).expect("there").expose(),
                format!("{}x", key.prefix),
                "{}",
                key.key
            );
        }
    }

    #[test]
    fn the_file_of_an_earlier_version_is_completed_and_keeps_what_it_has() {
        let old =
            "[admin]\ntoken = \"t\"\n\n[sources.support]\napi_keys = [\"k\"]\nsecrets = [\"s\"]\n";
        let mut read = DevSecrets::parse(old).expect("an older file");
        assert!(!read.is_complete());
        let Ok(()) = read.complete(make);
        assert!(read.is_complete());
        assert_eq!(
            read.get("sources.support.secrets").expect("kept").expose(),
            "s"
        );
        assert_eq!(
            read.get("sources.crm.tokens").expect("made").expose(),
            "dev_publisher_x"
        );
    }

    #[test]
    fn a_file_cut_short_is_refused_and_not_shown() {
        let text = "[admin]\ntoken = \"hunter2\"\n";
        assert_eq!(
            DevSecrets::parse(text).expect_err("no sources").to_string(),
            "not a file of development secrets"
        );
        assert!(DevSecrets::parse("").is_err());
        assert!(
            DevSecrets::parse(&made().to_toml().replace("dev_c2s_x", "")).is_err(),
            "an empty secret"
        );
    }
}

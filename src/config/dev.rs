//! The secrets that a development node makes for itself, and the text of the file that keeps them.

use serde::Deserialize;

use super::Secret;

/// One secret of each sort that a node cannot do without.
#[derive(Clone, Debug)]
pub struct DevSecrets {
    /// For `admin.token`.
    pub admin_token: Secret,
    /// For `sources.support.api_keys`.
    pub support_api_key: Secret,
    /// For `sources.support.secrets`.
    pub support_secret: Secret,
}

/// Text that [`DevSecrets::to_toml`] has not written. Says nothing of the text, which may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a file of development secrets")]
pub struct NotDevSecrets;

/// The file as it stands: a configuration of nothing but secrets.
#[derive(Deserialize)]
struct File {
    admin: Admin,
    sources: Sources,
}

#[derive(Deserialize)]
struct Admin {
    token: String,
}

#[derive(Deserialize)]
struct Sources {
    support: Support,
}

#[derive(Deserialize)]
struct Support {
    api_keys: [String; 1],
    secrets: [String; 1],
}

impl DevSecrets {
    /// Reads what [`Self::to_toml`] writes.
    ///
    /// # Errors
    /// [`NotDevSecrets`] for any other text.
    pub fn parse(text: &str) -> Result<Self, NotDevSecrets> {
        let File { admin, sources: Sources { support } } = toml::from_str(text).map_err(|_| NotDevSecrets)?;
        let ([api_key], [secret]) = (support.api_keys, support.secrets);
        let read = Self {
            admin_token: Secret::new(admin.token),
            support_api_key: Secret::new(api_key),
            support_secret: Secret::new(secret),
        };
        let complete = [&read.admin_token, &read.support_api_key, &read.support_secret].iter().all(|s| !s.is_empty());
        complete.then_some(read).ok_or(NotDevSecrets)
    }

    /// The text to keep. Each secret stands on a line of its own, so that a shell can pick it out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        format!(
            "# Made by `hookyard serve --dev`, for this data folder. Delete the file to have new secrets made.\n\n\
             [admin]\ntoken = \"{}\"\n\n\
             [sources.support]\napi_keys = [\"{}\"]\nsecrets = [\"{}\"]\n",
            self.admin_token.expose(),
            self.support_api_key.expose(),
            self.support_secret.expose(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let made = DevSecrets {
            admin_token: Secret::new("token"),
            support_api_key: Secret::new("key"),
            support_secret: Secret::new("whsec_secret"),
        };
        let read = DevSecrets::parse(&made.to_toml()).expect("just written");
        assert_eq!(read.admin_token.expose(), "token");
        assert_eq!(read.support_api_key.expose(), "key");
        assert_eq!(read.support_secret.expose(), "whsec_secret");
    }

    #[test]
    fn a_file_cut_short_is_refused_and_not_shown() {
        let text = "[admin]\ntoken = \"hunter2\"\n";
        assert_eq!(DevSecrets::parse(text).expect_err("no sources").to_string(), "not a file of development secrets");
        assert!(DevSecrets::parse("").is_err());
    }
}

//! Options of the commands that read the whole configuration, and the configuration they select.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::dev_mode;
use super::error::CliError;
use crate::config::{Config, ConfigDraft, ConfigPurpose, DevSecrets};
use crate::error_chain::format_error_chain;

/// Options that select the configuration.
#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    /// Configuration file (TOML); without it, the defaults and the environment apply
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Development mode: loopback only, every source enabled, secrets generated at the first start
    /// and kept in the data folder
    #[arg(long)]
    pub(super) dev: bool,
}

/// Configuration, with the development secrets if `--dev` is given.
pub(super) struct LoadedConfig {
    pub(super) config: Config,
    pub(super) dev: Option<DevSecrets>,
}

impl ConfigArgs {
    pub(super) fn load(&self, purpose: ConfigPurpose) -> Result<LoadedConfig, CliError> {
        self.load_from(std::env::vars_os(), purpose)
    }

    /// Returns the function by which a running node reads its configuration again.
    pub(super) fn read_again(&self) -> impl Fn() -> ConfigDraft + Send + Sync + 'static {
        let (file, dev) = (self.config.clone(), self.dev);
        move || {
            let mut draft = ConfigDraft::from_toml(file.as_deref(), std::env::vars_os());
            if dev {
                match dev_mode::read_secrets(&draft.store_path()) {
                    Ok(secrets) => draft.apply_dev_mode(&secrets.unwrap_or_default()),
                    Err(error) => draft.report_unreadable_secrets(format_error_chain(&error)),
                }
            }
            draft
        }
    }

    fn load_from(
        &self,
        env: impl Iterator<Item = (OsString, OsString)>,
        purpose: ConfigPurpose,
    ) -> Result<LoadedConfig, CliError> {
        let mut draft = ConfigDraft::from_toml(self.config.as_deref(), env);
        if !self.dev {
            return Ok(LoadedConfig {
                config: draft.finish(purpose)?,
                dev: None,
            });
        }
        let secrets = match dev_mode::read_secrets(&draft.store_path())? {
            Some(mut secrets) => {
                secrets.complete(dev_mode::make_secret)?;
                secrets
            }
            None => DevSecrets::generate(dev_mode::make_secret)?,
        };

        draft.apply_dev_mode(&secrets);
        let config = draft.finish(match purpose {
            ConfigPurpose::Node => ConfigPurpose::Trial,
            ConfigPurpose::Trial | ConfigPurpose::Judgement | ConfigPurpose::Tool => purpose,
        })?;
        for bind in [Some(&config.server.bind), config.admin.bind.as_ref()] {
            bind.map_or(Ok(()), |bind| dev_mode::check_loopback(bind))?;
        }
        Ok(LoadedConfig {
            config,
            dev: Some(secrets),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_refuses_to_listen_beyond_this_machine() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let args = ConfigArgs {
            config: None,
            dev: true,
        };
        let load = |bind: &str| {
            let path = folder.path().to_owned().into_os_string();
            let env = [
                ("HOOKYARD_STORE__PATH".into(), path),
                ("HOOKYARD_SERVER__BIND".into(), bind.into()),
            ];
            args.load_from(env.into_iter(), ConfigPurpose::Node)
        };
        assert!(
            load("127.0.0.1:0")
                .expect("loopback")
                .config
                .sources
                .support
                .enabled
        );
        assert!(load("[::1]:0").is_ok());
        assert!(matches!(
            load("0.0.0.0:8080"),
            Err(CliError::Dev(dev_mode::DevModeError::NotLoopback { .. }))
        ));
    }
}

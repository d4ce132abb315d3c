//! Configuration in force: one immutable value, which a reload replaces as a whole.
//!
//! ```text
//!  file, environment, secret files ──read──> draft ──validate──> problems? nothing changes
//!                                               │
//!      running configuration ── keys that need a restart ──> new value ──> readers of `current`
//! ```

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::delivery::CREDENTIALS_FILE;
use super::draft::ConfigDraft;
use super::problem::{ConfigError, ConfigProblem};
use super::restart_keys::ConfigChanges;
use super::sections::Config;
use crate::event::Timestamp;

/// Function that reads the settings again: the file, the environment and the files of secrets.
type ReadDraftFn = Box<dyn Fn() -> ConfigDraft + Send + Sync>;

/// Function that puts a configuration into force at one place; `false` once that place is gone.
type ApplyFn = Box<dyn Fn(&Arc<Config>) -> bool + Send + Sync>;

/// Holder of the current [`Config`], which can be read again.
pub struct LiveConfig {
    current: watch::Sender<Arc<Config>>,
    read: ReadDraftFn,
    /// Locked by the one reload that is under way.
    appliers: Mutex<Vec<ApplyFn>>,
}

/// Outcome of a reload that put a configuration into force.
#[derive(Clone, Debug)]
pub struct ConfigReload {
    /// Keys whose values have changed.
    pub changes: ConfigChanges,
    /// Weaknesses of the new configuration, which are no problems.
    pub warnings: Vec<ConfigProblem>,
    /// End of the certificate that the node presents from now on; `None` if it is the former one.
    pub certificate_ends_at: Option<Timestamp>,
}

impl fmt::Debug for LiveConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveConfig")
    }
}

impl LiveConfig {
    /// Puts `config` into force; a reload reads its successor by `read`.
    #[must_use]
    pub fn new(
        config: Config,
        read: impl Fn() -> ConfigDraft + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            current: watch::Sender::new(Arc::new(config)),
            read: Box::new(read),
            appliers: Mutex::default(),
        })
    }

    /// Puts `config` into force for good: a reload finds nothing new.
    #[must_use]
    pub fn fixed(config: Config) -> Arc<Self> {
        let written = Arc::clone(&config.written);
        Self::new(config, move || (*written).clone())
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.borrow())
    }

    /// Watches for the next configuration.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// Calls `apply` with the configuration in force, and with each later one before its reload returns,
    /// until it returns `false`. So no reload is lost that came since the caller looked.
    pub fn follow(&self, apply: impl Fn(&Arc<Config>) -> bool + Send + Sync + 'static) {
        let mut appliers = self.appliers.lock();
        if apply(&self.current()) {
            appliers.push(Box::new(apply));
        }
    }

    /// Reads the configuration again and puts it into force, but for the keys that need a restart. Reads
    /// files.
    ///
    /// # Errors
    /// All problems of the new configuration. Nothing has changed then.
    pub fn reload(&self) -> Result<ConfigReload, ConfigError> {
        // One after the other: the last one read is the one in force.
        let mut appliers = self.appliers.lock();
        let former = self.current();
        let (config, mut changes) = former.succeed((self.read)())?;
        if config.delivery.has_other_credentials(&former.delivery) {
            changes.note_live(CREDENTIALS_FILE);
        }
        let (warnings, config) = (config.warnings.clone(), Arc::new(config));
        let end = |config: &Config| config.server.tls.as_ref()?.ends_at;
        let certificate_ends_at = end(&config).filter(|new| end(&former) != Some(*new));
        appliers.retain(|apply| apply(&config));
        self.current.send_replace(config);
        Ok(ConfigReload {
            changes,
            warnings,
            certificate_ends_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::load_config;

    /// A reload between the first look at the configuration and the registration was lost.
    #[test]
    fn a_follower_gets_the_configuration_in_force_and_each_later_one() {
        let env = |workers: usize| {
            let workers = workers.to_string();
            let level = if workers == "1" { "debug" } else { "warn" };
            [
                ("HOOKYARD_ADMIN__TOKEN", "t".to_owned()),
                ("HOOKYARD_TELEMETRY__LEVEL", level.to_owned()),
            ]
        };
        let config = load_config(None, env(0)).expect("valid");
        let reads = AtomicUsize::new(0);
        let live_config = LiveConfig::new(config, move || {
            let reload = reads.fetch_add(1, Ordering::Relaxed);
            ConfigDraft::from_toml(None, env((reload + 1) % 2))
        });
        let level = |config: &Config| format!("{:?}", config.telemetry.level);
        let first = level(&live_config.current());
        live_config.reload().expect("valid");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let follower = Arc::clone(&seen);
        live_config.follow(move |config| {
            follower.lock().push(level(config));
            true
        });
        assert_eq!(seen.lock().len(), 1);
        assert_ne!(seen.lock()[0], first);
        live_config.reload().expect("valid");
        assert_eq!(seen.lock()[1], first);
    }
}

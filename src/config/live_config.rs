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

    /// Calls `apply` with each later configuration, before its reload returns, until it returns `false`.
    pub fn on_change(&self, apply: impl Fn(&Arc<Config>) -> bool + Send + Sync + 'static) {
        self.appliers.lock().push(Box::new(apply));
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

//! Error of the command line, which holds the errors of each command.

use std::io;
use std::path::PathBuf;

use super::admin_client::AdminCallError;
use super::backup::BackupCommandError;
use super::bench::BenchError;
use super::check::RequestTrialError;
use super::cluster::ClusterCommandError;
use super::demo::DemoError;
use super::dev_mode::DevModeError;
use super::doctor::DoctorVerdict;
use super::entity::EntityCommandError;
use super::health::HealthError;
use super::listen::ListenError;
use super::random_secret::RandomBytesError;
use super::restore::RestoreCommandError;
use super::send::SendCommandError;
use super::verify::VerifyError;
use crate::app::NodeError;
use crate::config::ConfigError;

/// Errors of all commands; `main` prints them.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] NodeError),
    #[error(transparent)]
    Dev(#[from] DevModeError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Send(#[from] SendCommandError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    AdminCall(#[from] AdminCallError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("the subscriber did not accept the ping")]
    PingRefused,
    #[error("the job has not delivered everything")]
    JobUnfinished,
    #[error("cannot write the manual pages to {}", folder.display())]
    Man { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Entity(#[from] EntityCommandError),
    #[error(
        "this requires the node's admin token: start `hookyard serve --dev` in this folder first, \
         name the node's configuration with --config, or give --token"
    )]
    NoToken,
    #[error(
        "{} has no admin.token: set HOOKYARD_ADMIN__TOKEN in this shell as for the node, or give --token",
        .0.display()
    )]
    NoTokenInFile(PathBuf),
    #[error(transparent)]
    Trial(#[from] RequestTrialError),
    #[error(transparent)]
    Random(#[from] RandomBytesError),
    #[error(transparent)]
    Cluster(#[from] ClusterCommandError),
    #[error(transparent)]
    Backup(#[from] BackupCommandError),
    #[error(transparent)]
    Restore(#[from] RestoreCommandError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Doctor(#[from] DoctorVerdict),
    #[error("there is no store at {}; check store.path", .0.display())]
    NoStore(PathBuf),
    #[error("cannot start logging")]
    Logging(#[source] Box<dyn std::error::Error + std::marker::Send + Sync>),
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Tells if the command line was wrong. For some arguments this is known only with the
    /// configuration.
    pub(super) fn is_usage_error(&self) -> bool {
        matches!(
            self,
            Self::Send(SendCommandError::Unknown(_)) | Self::Entity(EntityCommandError::NoId(_))
        )
    }
}

//! Command line of the binary, one file for each command.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigDraft, ConfigError, ConfigPurpose, DevSecrets};
use crate::error_chain;

mod check;
mod dev_mode;
mod guide;
mod listen;
mod logging;
mod node_url;
mod openapi;
mod rebuild;
mod secret;
mod send;
mod serve;

/// Exit code for a wrong command line; 0 is success, and 1 any other failure.
const USAGE_EXIT_CODE: u8 = 2;

/// Receives signed webhooks, keeps every entity's events strictly in order, stores them durably and
/// delivers them.
#[derive(Debug, Parser)]
#[command(
    name = "hookyard",
    version,
    after_help = "Try it:\n  hookyard serve --dev"
)]
struct CliArgs {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Serve(serve::ServeCommand),
    Check(check::CheckCommand),
    Send(send::SendCommand),
    Listen(listen::ListenCommand),
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    Rebuild(rebuild::RebuildCommand),
    Openapi(openapi::OpenApiCommand),
    Guide(guide::GuideCommand),
}

/// Options that select the configuration.
#[derive(Args, Debug)]
struct ConfigArgs {
    /// Configuration file (TOML); without it, the defaults and the environment apply
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Development mode: loopback only, every source enabled, secrets generated at the first start
    /// and kept in the data folder
    #[arg(long)]
    dev: bool,
}

/// Configuration, with the development secrets if `--dev` is given.
struct LoadedConfig {
    config: Config,
    dev: Option<DevSecrets>,
}

impl ConfigArgs {
    fn load(&self, purpose: ConfigPurpose) -> Result<LoadedConfig, CliError> {
        self.load_from(std::env::vars_os(), purpose)
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
        let config = draft.finish(purpose)?;
        dev_mode::check_loopback(&config.server.bind)?;
        Ok(LoadedConfig {
            config,
            dev: Some(secrets),
        })
    }
}

/// Errors of all commands; `main` prints them.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] crate::app::NodeError),
    #[error(transparent)]
    Dev(#[from] dev_mode::DevModeError),
    #[error(transparent)]
    Send(#[from] send::SendCommandError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error(transparent)]
    Trial(#[from] check::RequestTrialError),
    #[error(transparent)]
    Random(#[from] secret::RandomBytesError),
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
    fn is_usage_error(&self) -> bool {
        matches!(self, Self::Send(send::SendCommandError::Unknown(_)))
    }
}

/// Runs the command of the process. The exit code is 0 for success, 1 for failure, 2 for a wrong
/// command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match CliArgs::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Ignored: without a terminal there is no reader. `--help` takes this path too, as a
            // success.
            let _ = usage.print();
            return if usage.use_stderr() {
                ExitCode::from(USAGE_EXIT_CODE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let mut out = io::stdout();
    match run_command(cli.command, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as in `hookyard openapi | head`.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Ignored: without a terminal there is no reader.
            let _ = writeln!(
                io::stderr(),
                "error: {}",
                error_chain::format_error_chain(&error)
            );
            if error.is_usage_error() {
                ExitCode::from(USAGE_EXIT_CODE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run_command(command: CliCommand, out: &mut impl Write) -> Result<(), CliError> {
    match command {
        CliCommand::Serve(serve) => serve.run(out),
        CliCommand::Check(check) => check.run(out),
        CliCommand::Send(send) => send.run(out),
        CliCommand::Listen(listen) => listen.run(out),
        CliCommand::Secret(secret) => secret.run(out),
        CliCommand::Rebuild(rebuild) => rebuild.run(out),
        CliCommand::Openapi(openapi) => openapi.run(out),
        CliCommand::Guide(guide) => guide.run(out),
    }
}

/// Formats `number` with the singular `one` or the plural `many`.
fn format_count<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let name = if number == N::from(1) { one } else { many };
    format!("{number} {name}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CliArgs::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("hookyard "),
                "{} has no example",
                command.get_name()
            );
            command
                .get_subcommands()
                .filter(|command| command.get_name() != "help")
                .for_each(check);
        }
        let mut command = CliArgs::command();
        command.build();
        check(&command);
    }

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

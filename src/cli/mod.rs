//! The command line: what can be asked of the binary, one file for each command.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::causes;
use crate::config::{Config, DevSecrets, Draft, Problems, Purpose};

mod check;
mod dev;
mod guide;
mod listen;
mod logging;
mod openapi;
mod rebuild;
mod secret;
mod send;
mod serve;

/// What the process answers to the wrong words on its command line; 0 is success and 1 any other failure.
const USAGE: u8 = 2;

/// Receives signed webhooks, keeps every entity's events strictly in order, and stores them durably.
#[derive(Debug, Parser)]
#[command(name = "hookyard", version, after_help = "Try it:\n  hookyard serve --dev")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Send(send::Send),
    Listen(listen::Listen),
    #[command(subcommand)]
    Secret(secret::Secret),
    Rebuild(rebuild::Rebuild),
    Openapi(openapi::OpenApi),
    Guide(guide::PrintGuide),
}

/// Which configuration a command works with.
#[derive(Args, Debug)]
struct ConfigArgs {
    /// Configuration file (TOML); without it, the defaults and the environment
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Development: loopback only, every source enabled, secrets made on the first start and kept in the data folder
    #[arg(long)]
    dev: bool,
}

/// A configuration, and the development secrets in it, if it is one for development.
struct Loaded {
    config: Config,
    dev: Option<DevSecrets>,
}

impl ConfigArgs {
    fn load(&self, purpose: Purpose) -> Result<Loaded, Error> {
        self.load_from(std::env::vars_os(), purpose)
    }

    fn load_from(&self, env: impl Iterator<Item = (OsString, OsString)>, purpose: Purpose) -> Result<Loaded, Error> {
        let mut draft = Draft::read(self.config.as_deref(), env);
        if !self.dev {
            return Ok(Loaded { config: draft.finish(purpose)?, dev: None });
        }
        let secrets = match dev::read(&draft.store_path())? {
            Some(mut secrets) => {
                secrets.complete(dev::make)?;
                secrets
            }
            None => DevSecrets::generate(dev::make)?,
        };
        draft.set_dev(&secrets);
        let config = draft.finish(purpose)?;
        dev::check_loopback(&config.server.bind)?;
        Ok(Loaded { config, dev: Some(secrets) })
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    App(#[from] crate::app::Error),
    #[error(transparent)]
    Dev(#[from] dev::Error),
    #[error(transparent)]
    Send(#[from] send::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    Trial(#[from] check::TrialError),
    #[error(transparent)]
    Random(#[from] secret::NoRandom),
    #[error("there is no store at {}; check store.path", .0.display())]
    NoStore(PathBuf),
    #[error("logging cannot be started")]
    Logging(#[source] Box<dyn std::error::Error + std::marker::Send + Sync>),
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl Error {
    /// Whether the words on the command line were wrong, which some are only with the configuration at hand.
    fn is_of_usage(&self) -> bool {
        matches!(self, Self::Send(send::Error::Unknown(_)))
    }
}

/// Runs the command that the process was started with: exit code 0 when it succeeds, 1 when it fails, 2 when it is misspelt.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Nothing is left to be told to if the terminal is gone. `--help` comes by here too, as a success.
            let _ = usage.print();
            return if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let mut out = io::stdout();
    match run(cli.command, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough, as in `hookyard openapi | head`.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // As above.
            let _ = writeln!(io::stderr(), "error: {}", causes::in_one_line(&error));
            if error.is_of_usage() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command, out: &mut impl Write) -> Result<(), Error> {
    match command {
        Command::Serve(serve) => serve.run(out),
        Command::Check(check) => check.run(out),
        Command::Send(send) => send.run(out),
        Command::Listen(listen) => listen.run(out),
        Command::Secret(secret) => secret.run(out),
        Command::Rebuild(rebuild) => rebuild.run(out),
        Command::Openapi(openapi) => openapi.run(out),
        Command::Guide(guide) => guide.run(out),
    }
}

/// `number` of something that has these two names.
fn count<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let name = if number == N::from(1) { one } else { many };
    format!("{number} {name}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("hookyard "), "{} has no example", command.get_name());
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&command);
    }

    #[test]
    fn development_refuses_to_listen_beyond_this_machine() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let args = ConfigArgs { config: None, dev: true };
        let load = |bind: &str| {
            let path = folder.path().to_owned().into_os_string();
            let env = [("HOOKYARD_STORE__PATH".into(), path), ("HOOKYARD_SERVER__BIND".into(), bind.into())];
            args.load_from(env.into_iter(), Purpose::Node)
        };
        assert!(load("127.0.0.1:0").expect("loopback").config.sources.support.enabled);
        assert!(load("[::1]:0").is_ok());
        assert!(matches!(load("0.0.0.0:8080"), Err(Error::Dev(dev::Error::NotLoopback { .. }))));
    }
}

//! Command line of the binary, one file for each command.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::error::CliError;
use crate::{error_chain, log_sink};

mod admin_client;
mod audit;
mod backup;
mod bench;
mod check;
mod cluster;
mod compact;
mod config_args;
mod config_print;
mod dead_letters;
mod demo;
mod dev_mode;
mod doctor;
mod entity;
mod error;
mod events;
mod existing_store;
mod guide;
mod health;
mod jobs;
mod listen;
mod logging;
mod node_args;
mod node_url;
mod openapi;
mod plural;
mod progress_line;
mod random_secret;
mod rebuild;
mod reload;
mod restore;
mod secret;
mod selected_node;
mod send;
mod serve;
mod shell_files;
mod stop_signals;
mod temporary_folder;
mod terminal_text;
mod tokens;
mod unfinished_file;
mod verify;
mod webhooks;

/// Exit code for a wrong command line; 0 is success, and 1 any other failure.
const USAGE_EXIT_CODE: u8 = 2;

/// Receives signed webhooks, keeps every entity's events strictly in order, stores them durably and
/// delivers them.
#[derive(Debug, Parser)]
#[command(
    name = "hookyard",
    version,
    after_help = "Try it:\n  hookyard demo\n  hookyard serve --dev"
)]
struct CliArgs {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Demo(demo::DemoCommand),
    Serve(serve::ServeCommand),
    Check(check::CheckCommand),
    Send(send::SendCommand),
    Listen(listen::ListenCommand),
    Health(health::HealthCommand),
    #[command(subcommand)]
    Events(events::EventsCommand),
    #[command(subcommand)]
    Entity(entity::EntityCommand),
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Config(config_print::ConfigCommand),
    Reload(reload::ReloadCommand),
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    Backup(backup::BackupCommand),
    Restore(restore::RestoreCommand),
    Verify(verify::VerifyCommand),
    Doctor(doctor::DoctorCommand),
    Rebuild(rebuild::RebuildCommand),
    Compact(compact::CompactCommand),
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    Bench(bench::BenchCommand),
    Openapi(openapi::OpenApiCommand),
    Guide(guide::GuideCommand),
    Completions(shell_files::CompletionsCommand),
    Man(shell_files::ManCommand),
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
    let result = run_command(cli.command, &mut out);
    log_sink::flush();
    match result {
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
        CliCommand::Demo(demo) => demo.run(out),
        CliCommand::Serve(serve) => serve.run(out),
        CliCommand::Check(check) => check.run(out),
        CliCommand::Send(send) => send.run(out),
        CliCommand::Listen(listen) => listen.run(out),
        CliCommand::Health(health) => health.run(out),
        CliCommand::Events(events) => events.run(out),
        CliCommand::Entity(entity) => entity.run(out),
        CliCommand::Webhooks(webhooks) => webhooks.run(out),
        CliCommand::DeadLetters(dead_letters) => dead_letters.run(out),
        CliCommand::Jobs(jobs) => jobs.run(out),
        CliCommand::Tokens(tokens) => tokens.run(out),
        CliCommand::Audit(audit) => audit.run(out),
        CliCommand::Config(config) => config.run(out),
        CliCommand::Reload(reload) => reload.run(out),
        CliCommand::Secret(secret) => secret.run(out),
        CliCommand::Backup(backup) => backup.run(out),
        CliCommand::Restore(restore) => restore.run(out),
        CliCommand::Verify(verify) => verify.run(out),
        CliCommand::Doctor(doctor) => doctor.run(out),
        CliCommand::Rebuild(rebuild) => rebuild.run(out),
        CliCommand::Compact(compact) => compact.run(out),
        CliCommand::Cluster(cluster) => cluster.run(out),
        CliCommand::Bench(bench) => bench.run(out),
        CliCommand::Openapi(openapi) => openapi.run(out),
        CliCommand::Guide(guide) => guide.run(out),
        CliCommand::Completions(completions) => completions.run(CliArgs::command(), out),
        CliCommand::Man(man) => man.run(CliArgs::command()),
    }
}

#[cfg(test)]
mod tests {
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
}

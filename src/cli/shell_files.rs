//! `hookyard completions` and `hookyard man`: files for a shell and for `man`, made from the
//! definitions of the command line.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use super::error::CliError;

/// Print a shell's completions of this command line
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    hookyard completions bash > ~/.local/share/bash-completion/completions/hookyard\n  \
    hookyard completions zsh > ~/.zfunc/_hookyard\n  \
    hookyard completions fish > ~/.config/fish/completions/hookyard.fish")]
pub(super) struct CompletionsCommand {
    /// Shell to print the completions for
    shell: Shell,
}

/// Write the manual pages, one for each command
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard man ~/.local/share/man/man1")]
pub(super) struct ManCommand {
    /// Folder to write to; it is created if it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl CompletionsCommand {
    pub(super) fn run(
        &self,
        mut command_line: Command,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        // To memory first: the generator panics if it cannot write.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command_line, "hookyard", &mut text);
        out.write_all(&text)?;
        Ok(())
    }
}

impl ManCommand {
    pub(super) fn run(&self, command_line: Command) -> Result<(), CliError> {
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(command_line, &self.folder));
        written.map_err(|source| {
            let folder = self.folder.clone();
            CliError::Man { folder, source }
        })
    }
}

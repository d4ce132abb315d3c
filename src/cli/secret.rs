//! `hookyard secret new`: generates a token, an API key or a signing secret.

use std::io::Write;

use clap::Subcommand;

use super::error::CliError;
use super::random_secret::generate_secret;

/// Generate secrets for the configuration
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  hookyard secret new")]
pub(super) enum SecretCommand {
    /// Print a new random secret
    ///
    /// Prints `whsec_` and 32 random bytes in base64, which suits every token, API key and signing
    /// secret of the configuration. Use a new secret for each key, and give the sender the same
    /// characters. To replace a signing secret, list the new one beside the old one until the
    /// sender has changed.
    #[command(
        after_help = "Example:\n  HOOKYARD_ADMIN__TOKEN=\"$(hookyard secret new)\" hookyard serve"
    )]
    New,
}

impl SecretCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Self::New => writeln!(out, "{}", generate_secret()?.expose())?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_new_secret_is_32_bytes_and_unlike_the_last() {
        let print = || {
            let mut out = Vec::new();
            SecretCommand::New
                .run(&mut out)
                .expect("random bytes and memory to write to");
            String::from_utf8(out).expect("text")
        };
        let (first, second) = (print(), print());
        assert_ne!(first, second);
        let encoded = first.strip_prefix("whsec_").expect("the prefix").trim_end();
        assert_eq!(STANDARD.decode(encoded).expect("base64").len(), 32);
    }
}

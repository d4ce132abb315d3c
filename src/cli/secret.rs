//! `hookyard secret new`: generates a token, an API key or a signing secret.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use super::CliError;
use crate::config;

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

/// The operating system has no random bytes; a command cannot recover from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub(super) struct RandomBytesError(getrandom::Error);

/// Generates a secret of 256 random bits.
pub(super) fn generate_secret() -> Result<config::Secret, RandomBytesError> {
    Ok(config::Secret::new(format!(
        "whsec_{}",
        STANDARD.encode(random_bytes()?)
    )))
}

/// Returns 32 random bytes of the operating system.
pub(super) fn random_bytes() -> Result<[u8; 32], RandomBytesError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(RandomBytesError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
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

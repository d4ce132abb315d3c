//! Random bytes of the operating system, and secrets made from them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::Secret;

/// Lack of random bytes from the operating system; a command cannot recover from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub(super) struct RandomBytesError(getrandom::Error);

/// Generates a secret of 256 random bits.
pub(super) fn generate_secret() -> Result<Secret, RandomBytesError> {
    Ok(Secret::new(format!(
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

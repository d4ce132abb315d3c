//! The signature of a support request: hex HMAC-SHA256 over the body's bytes followed at once by the timestamp's characters.

use super::super::signature;
use crate::config::Secret;

/// Signs `body` sent at `timestamp` (RFC 3339), as `X-CRM-Signature` wants it.
#[must_use]
pub fn sign(secret: &Secret, body: &[u8], timestamp: &str) -> String {
    signature::sign(secret, body, timestamp.as_bytes())
}

//! The signature of a support request: hex HMAC-SHA256 over the body's bytes followed at once by
//! the timestamp's characters.

use super::super::signature;
use crate::config::Secret;

/// Signs `body` sent at `timestamp` (RFC 3339), as `X-CRM-Signature` wants it.
#[must_use]
pub fn sign_support_body(secret: &Secret, body: &[u8], timestamp: &str) -> String {
    signature::hmac_sha256_hex(secret, body, timestamp.as_bytes())
}

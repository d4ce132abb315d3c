//! Signature of a support request: hex HMAC-SHA256 over the body's bytes directly followed by the
//! characters of the timestamp.

use super::super::signature;
use crate::config::Secret;

/// Signs `body` and `timestamp` (RFC 3339) for the header `X-CRM-Signature`.
#[must_use]
pub fn sign_support_body(secret: &Secret, body: &[u8], timestamp: &str) -> String {
    signature::hmac_sha256_hex(secret, body, timestamp.as_bytes())
}

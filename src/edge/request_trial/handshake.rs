//! Checks a subscription handshake, which several contracts share.

use super::finding::{TrialFinding, format_line};
use crate::config::Secret;
use crate::provider::{RequestView, verify_subscription};

/// Checks a subscription handshake: a GET that proves that we own the address.
pub(super) fn check_subscription(request: &RequestView<'_>, token: &Secret) -> [TrialFinding; 2] {
    let verification = match verify_subscription(request.query(), token.expose()) {
        Ok(_) => TrialFinding::passed(format_line(
            "token",
            "hub.verify_token is the configured one",
        )),
        Err(wrong) => TrialFinding::failed(wrong),
    };
    [
        verification,
        TrialFinding::passed(format_line(
            "handshake",
            "a subscription; a node returns the challenge",
        )),
    ]
}

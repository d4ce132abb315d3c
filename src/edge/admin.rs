//! Bearer tokens of the admin and of publishers.

use actix_web::HttpRequest;

use super::error::ApiError;
use super::proof_headers;
use super::source::CRM;
use super::state::Edge;
use crate::config::Secret;
use crate::event::tag_credential;

/// Checks that `request` carries the admin's token.
///
/// # Errors
/// [`ApiError::Unauthorized`], the refusal of a repeated header, or [`ApiError::RateLimited`] when
/// its client failed too often.
pub(super) fn authorize(request: &HttpRequest, edge: &Edge) -> Result<(), ApiError> {
    let token =
        request_token(request).map_err(|repeated| edge.count_auth_failure(request, repeated))?;
    if token.is_some_and(|token| token_matches(&edge.config.admin.token, token)) {
        return Ok(());
    }

    Err(edge.count_auth_failure(request, ApiError::Unauthorized))
}

/// Checks that `request` carries the admin's token or one of `tokens`. All tokens are compared even
/// after a match, so that the time taken says nothing about them. Returns the tag of the token.
///
/// # Errors
/// As for [`authorize`].
pub(super) fn authorize_any(
    request: &HttpRequest,
    edge: &Edge,
    tokens: &[Secret],
) -> Result<u32, ApiError> {
    let token =
        request_token(request).map_err(|repeated| edge.count_auth_failure(request, repeated))?;
    let token = token.unwrap_or_default();
    let accepted = std::iter::once(&edge.config.admin.token).chain(tokens);
    let matching = accepted
        .filter(|secret| token_matches(secret, token))
        .count();

    if matching > 0 {
        Ok(tag_credential(&CRM, token))
    } else {
        Err(edge.count_auth_failure(request, ApiError::Unauthorized))
    }
}

fn request_token(request: &HttpRequest) -> Result<Option<&[u8]>, ApiError> {
    let header = proof_headers::read_credential(request.headers(), "authorization")?;
    Ok(bearer_token(header))
}

/// Returns the token of an `Authorization` header; the case of the scheme does not matter
/// (RFC 9110, 11.1).
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Compares `token` with `secret` in constant time.
pub(super) fn token_matches(secret: &Secret, token: &[u8]) -> bool {
    // An empty secret was never set: it admits nobody.
    secret.matches(token) && !secret.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_from_a_bearer_header_only() {
        assert_eq!(bearer_token(b"Bearer secret"), Some(&b"secret"[..]));
        assert_eq!(bearer_token(b"bearer  secret"), Some(&b"secret"[..]));
        for other in [
            &b"secret"[..],
            b"Basic secret",
            b"Bearer",
            b"Bearersecret",
            b"",
        ] {
            assert_eq!(bearer_token(other), None);
        }
    }

    #[test]
    fn a_token_that_was_never_set_opens_nothing() {
        assert!(token_matches(&Secret::new("t"), b"t"));
        assert!(!token_matches(&Secret::new("t"), b""));
        assert!(!token_matches(&Secret::new(""), b""));
    }
}

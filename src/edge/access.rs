//! Bearer tokens: finds the caller of a request by its token.
//!
//! | token | name | role |
//! |---|---|---|
//! | `admin.token` | `config:admin` | admin |
//! | the nth of `sources.crm.tokens`, if the source is enabled | `config:crm:<n>` | publish |
//! | named token, `hyt_…` | its own | its own |

use actix_web::HttpRequest;

use super::caller::CallerIdentity;
use super::error::ApiError;
use super::proof_headers;
use super::source::CRM;
use super::state::Edge;
use crate::config::Secret;
use crate::event::tag_credential;
use crate::token::{TOKEN_PREFIX, TokenRole};

/// Name of the token `admin.token`.
pub(super) const CONFIG_ADMIN: &str = "config:admin";

/// Finds the caller by the token of `request`.
///
/// # Errors
/// [`ApiError::Unauthorized`], [`ApiError::TokenExpired`], the refusal of a repeated header, or
/// [`ApiError::TooManyFailures`] when its client failed too often; [`ApiError::Unavailable`] for a named
/// token before the first opening of the store.
pub(super) fn authenticate(request: &HttpRequest, edge: &Edge) -> Result<CallerIdentity, ApiError> {
    let found =
        request_token(request).and_then(|token| identify_token(edge, token.unwrap_or_default()));
    found.map_err(|error| match error {
        ApiError::Unavailable => error,
        error => edge.count_auth_failure(request, error),
    })
}

/// Finds the caller who presents `token`. All tokens of the configuration are compared even after a
/// match, so that the time taken says nothing about them.
///
/// # Errors
/// As for [`authenticate`], without a limit.
pub(super) fn identify_token(edge: &Edge, token: &[u8]) -> Result<CallerIdentity, ApiError> {
    let config = &edge.config;
    let is_admin = token_matches(&config.admin.token, token);
    let crm = &config.sources.crm;
    let publishers: &[Secret] = if crm.enabled { &crm.tokens } else { &[] };
    let matching = publishers
        .iter()
        .enumerate()
        .filter(|(_, secret)| token_matches(secret, token))
        .map(|(index, _)| index)
        .collect::<Vec<_>>();
    if is_admin {
        let (name, token) = (CONFIG_ADMIN, &config.admin.token);
        return Ok(CallerIdentity::of_config(name, TokenRole::Admin, token));
    }
    if let Some(index) = matching.first() {
        return Ok(CallerIdentity::of_config(
            publisher_name(*index),
            TokenRole::Publish,
            &publishers[*index],
        ));
    }

    if !token.starts_with(TOKEN_PREFIX.as_bytes()) {
        return Err(ApiError::Unauthorized);
    }
    let tokens = edge.gate.tokens().ok_or(ApiError::Unavailable)?;
    let named = tokens.find_by_secret(token).ok_or(ApiError::Unauthorized)?;
    CallerIdentity::of_named(named, edge.clock.wall())
}

/// Name of the publisher's token at `index` in the configuration.
pub(super) fn publisher_name(index: usize) -> String {
    format!("config:crm:{}", index + 1)
}

/// Checks that `request` carries `token`.
///
/// # Errors
/// As for [`authenticate`].
pub(super) fn carries_token(request: &HttpRequest, token: &Secret) -> Result<bool, ApiError> {
    let found = request_token(request)?;
    Ok(found.is_some_and(|found| token_matches(token, found)))
}

/// Returns the tag of the token in `request`, to which the idempotency keys of its events belong.
pub(super) fn tag_of_token(request: &HttpRequest) -> u32 {
    let token = request_token(request).ok().flatten();
    tag_credential(&CRM, token.unwrap_or_default())
}

fn request_token(request: &HttpRequest) -> Result<Option<&[u8]>, ApiError> {
    let header = proof_headers::read_credential(request.headers(), "authorization")?;
    Ok(bearer_token(header))
}

/// Returns the token of an `Authorization` header; the case of the scheme does not matter
/// (RFC 9110, 11.1).
pub(super) fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Compares `token` with `secret` in constant time.
fn token_matches(secret: &Secret, token: &[u8]) -> bool {
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

//! Who may read: callers with the admin's bearer token.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;

use super::error::Error;
use super::state::Edge;
use crate::config::Secret;

/// Checks that `request` carries the admin's token.
///
/// # Errors
/// [`Error::Unauthorized`], or [`Error::RateLimited`] when its client failed too often.
pub(super) fn authorize(request: &HttpRequest, edge: &Edge) -> Result<(), Error> {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| bearer_token(value.as_bytes()));
    if given.is_some_and(|given| is_token(&edge.config.admin.token, given)) {
        return Ok(());
    }
    Err(edge.count_failure(request, Error::Unauthorized))
}

/// Checks that `request` carries the admin's token or one of `tokens`. All are compared, whichever
/// fits.
///
/// # Errors
/// As [`authorize`].
pub(super) fn authorize_any(
    request: &HttpRequest,
    edge: &Edge,
    tokens: &[Secret],
) -> Result<(), Error> {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| bearer_token(value.as_bytes()))
        .unwrap_or_default();
    let known = std::iter::once(&edge.config.admin.token).chain(tokens);
    let fitting = known.filter(|token| is_token(token, given)).count();
    if fitting > 0 {
        Ok(())
    } else {
        Err(edge.count_failure(request, Error::Unauthorized))
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn is_token(token: &Secret, given: &[u8]) -> bool {
    // An empty token is one that was never set: it opens nothing.
    token.matches(given) && !token.is_empty()
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
        assert!(is_token(&Secret::new("t"), b"t"));
        assert!(!is_token(&Secret::new("t"), b""));
        assert!(!is_token(&Secret::new(""), b""));
    }
}

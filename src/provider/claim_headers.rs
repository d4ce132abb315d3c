//! Headers that a signature claim needs: one that must be there once, and one that is a list.

use super::claim_error::ClaimError;
use super::request::RequestView;
use super::signature_claim::SIGNATURES_MAX;

/// Returns the header `name` of `request` as text, or [`ClaimError::NoHeader`].
///
/// # Errors
/// [`ClaimError::Repeated`] if there are several, since only one of them is signed or checked.
pub(super) fn require_header<'r>(
    request: &RequestView<'r>,
    name: &str,
) -> Result<&'r str, ClaimError> {
    let first = request.header(name);
    let first = first.ok_or_else(|| ClaimError::NoHeader(name.to_owned()))?;
    match request.header_lines(name).count() {
        1 => Ok(first),
        _ => Err(ClaimError::Repeated(name.to_owned())),
    }
}

/// Returns the values of all headers `name`, or [`ClaimError::NoHeader`]. A repeated header is a
/// list (RFC 9110, section 5.3), so a signature on its second line counts too.
pub(super) fn require_header_lines<'r>(
    request: &RequestView<'r>,
    name: &str,
) -> Result<Vec<&'r str>, ClaimError> {
    let lines: Vec<_> = request.header_lines(name).take(SIGNATURES_MAX).collect();
    if lines.is_empty() {
        return Err(ClaimError::NoHeader(name.to_owned()));
    }
    Ok(lines)
}

//! One wrong field of a request, as answers name it.

use std::borrow::Cow;

use serde::Serialize;

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Its path, such as `data.status`.
    pub field: Cow<'static, str>,
    /// The problem, for a person. Never holds what was sent.
    pub detail: String,
}

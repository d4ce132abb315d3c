//! Wrong fields of a request, as answers list them.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

/// Wrong field of a request, with its problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field, such as `data.status`.
    pub field: Cow<'static, str>,
    /// Problem in words. Never repeats the value that was sent.
    pub detail: String,
}

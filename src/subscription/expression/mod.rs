//! Filters and transforms: CEL expressions that select events, and that build the body of a
//! delivery.
//!
//! ```text
//! text ──parse──> AST ──check──> known names, bounded depth, patterns of matches() compiled
//!                  └──meter──> each part reports its cost ──evaluate──> value, or over budget
//! ```
//!
//! An expression reads the members of the standard body: `event`, `timestamp` (a string),
//! `user_id`, `data`, `entity`, `late`. Every CEL expression terminates, but a short one can ask
//! for more time and memory than a node has. So each evaluation has a budget, which grows only with
//! the size of the variables that the expression reads.
//!
//! Whole numbers of JSON up to 64 bits keep every digit. Other numbers (longer, with a fraction or
//! with an exponent) become doubles: they keep about 15 digits, and a transform writes `1.50` as
//! `1.5`. A body without a transform keeps all digits.

mod check;
mod compiled;
mod error;
mod meter;
mod parse_error;
mod text_pattern;
mod values;

use std::sync::Arc;

use cel::common::types::CelBool;

use self::compiled::CompiledExpression;
use crate::event::Record;

pub use self::check::EXPRESSION_MAX_BYTES;
pub use self::error::{CompileError, EvaluationError};
pub use self::values::BODY_MAX_BYTES;

/// Expression that selects the events to deliver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FilterExpression(Arc<CompiledExpression>);

/// Expression that builds the body of a delivery. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TransformExpression(Arc<CompiledExpression>);

impl FilterExpression {
    /// Compiles the text of a filter.
    ///
    /// # Errors
    /// [`CompileError`] when `text` is not an expression, or names an unknown variable or function.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        check::compile_expression(text).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Returns the expression as its author wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Tells if the filter reads any member of the event. One that reads none selects all events, or
    /// none, or fails at each.
    #[must_use]
    pub fn reads_event(&self) -> bool {
        !self.0.variables.is_empty()
    }

    /// Tells if the filter selects `record`.
    ///
    /// # Errors
    /// [`EvaluationError`] when a member is missing, the value is neither true nor false, or the
    /// budget is exceeded.
    pub fn admits(&self, record: &Record) -> Result<bool, EvaluationError> {
        self.0.evaluate(record, |value| {
            let is_selected = value.downcast_ref::<CelBool>().map(|value| *value.inner());
            is_selected.ok_or_else(|| {
                let found = value.get_type().name();
                EvaluationError(format!("evaluates to {found}, not to true or false"))
            })
        })
    }
}

impl TransformExpression {
    /// Compiles the text of a transform.
    ///
    /// # Errors
    /// The same as [`FilterExpression::compile`].
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        check::compile_expression(text).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Returns the expression as its author wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Builds the body for `record`: one JSON text. Members of objects are sorted by name, so that
    /// every attempt sends the same bytes.
    ///
    /// # Errors
    /// [`EvaluationError`] when the evaluation fails or its value has no JSON form.
    pub fn render_body(&self, record: &Record) -> Result<Vec<u8>, EvaluationError> {
        self.0.evaluate(record, values::value_to_json)
    }
}

#[cfg(test)]
mod tests;

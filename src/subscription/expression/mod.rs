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
mod meter;
mod parse_error;
mod values;

use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Value};
use regex::Regex;

use self::meter::MeterError;
use super::envelope;
use crate::event::Record;

/// Longest text of an expression, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 4_096;
/// Longest body that a transform may make, in bytes.
pub const BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// CEL environment without optional values, whose macros can expand a short text into a long
/// program.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(meter::metered_env()));

/// Error in the text of an expression, with its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {detail}")]
pub struct CompileError {
    /// Line of the error, from 1.
    pub line: usize,
    /// Column of the error in characters, from 1.
    pub column: usize,
    /// Description of the error, without its position.
    pub detail: String,
}

/// Failure to evaluate an expression for an event. The text never quotes values of the event, which
/// may be confidential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(pub String);

/// Expression that selects the events to deliver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FilterExpression(Arc<CompiledExpression>);

/// Expression that builds the body of a delivery. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TransformExpression(Arc<CompiledExpression>);

/// Expression that was checked and metered.
struct CompiledExpression {
    /// Text of the expression as its author wrote it.
    text: String,
    metered: IdedExpr,
    /// Compiled patterns of the calls of `matches`.
    patterns: Arc<[Regex]>,
    /// Variables that the expression reads, each once.
    variables: Vec<&'static str>,
}

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
                EvaluationError(format!("evaluates to a {found}, not to true or false"))
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

impl CompiledExpression {
    /// Evaluates the expression for `record`, and calls `then` with the value.
    fn evaluate<T>(
        &self,
        record: &Record,
        then: impl FnOnce(&(dyn Val + '_)) -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        let evaluated = envelope::with_envelope_parts(record, |parts| {
            let read = || {
                let mut context = Context::with_env(Arc::clone(&ENV));
                for name in &self.variables {
                    context.add_variable_as_val(*name, values::read_variable(name, record, parts)?);
                }
                Ok(context)
            };
            meter::run_within_budget(&self.patterns, read, |context| {
                let value = Value::resolve_val(&self.metered, &context)
                    .map_err(|error| self.describe_failure(&error))?;
                then(value.as_ref())
            })
        });
        evaluated.unwrap_or_else(|abort| {
            Err(EvaluationError(match abort {
                MeterError::OverBudget => {
                    "exceeds the time and memory budget for this event".to_owned()
                }
                MeterError::Panicked => "could not be evaluated".to_owned(),
            }))
        })
    }

    /// Describes `error` in terms of the expression, without values of the event.
    fn describe_failure(&self, error: &ExecutionError) -> EvaluationError {
        // Only names from the expression are quoted; others may be values of the event.
        let quote_own = |name: &str| {
            if self.text.contains(name) {
                format!(" {name:?}")
            } else {
                String::new()
            }
        };
        EvaluationError(match error {
            ExecutionError::NoSuchKey(key) => {
                let name = quote_own(key);
                format!("there is no member{name}; test optional members with has()")
            }
            ExecutionError::NoSuchOverload(overload) => {
                let types = overload.argument_types().join(", ");
                let function = overload.function().trim_matches(['_', '@']);
                format!("{function:?} cannot be applied to {types}")
            }
            ExecutionError::UnexpectedType { got, want } => {
                format!("found a {got} where a {want} was expected")
            }
            ExecutionError::UndeclaredReference(name) => format!("unknown name{}", quote_own(name)),
            ExecutionError::IndexOutOfBounds(_) => {
                "a list has fewer items than the expression asks for".to_owned()
            }
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "divides by zero".to_owned()
            }
            ExecutionError::Overflow(..) => "a number became too large".to_owned(),
            ExecutionError::DuplicateKey(_) => {
                "makes an object with two members of the same name".to_owned()
            }
            ExecutionError::ValuesNotComparable(..) => {
                "compares values that cannot be compared".to_owned()
            }
            ExecutionError::UnsupportedKeyType(_) => {
                "uses a value as a member name that cannot be one".to_owned()
            }
            ExecutionError::FunctionError { function, .. } => {
                format!("{function}() does not accept this value")
            }
            // The enum is foreign and grows; texts of other variants may hold values of the event.
            _ => "an operation does not accept this value".to_owned(),
        })
    }
}

impl std::fmt::Debug for CompiledExpression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests;

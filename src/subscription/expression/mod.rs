//! Filters and transforms: CEL expressions that say which events are wanted, and what is sent of
//! them.
//!
//! ```text
//! text ──parse──> AST ──check──> known names, bounded depth, patterns of matches() compiled
//!                  └──meter──> every part that costs something reports it ──evaluate──> value, or broken off
//! ```
//!
//! An expression sees the members of the delivery's body: `event`, `timestamp` (a string),
//! `user_id`, `data`, `entity`, `late`. CEL always ends, but a short expression can ask for more
//! time and memory than a node has; so each evaluation has a budget. It grows with what is read of
//! the event, and no faster.
//!
//! Whole numbers of JSON up to 64 bits keep every digit. Numbers with a fraction or an exponent,
//! and longer ones, are doubles here: they keep about 15 digits, and a transform writes `1.50` as
//! `1.5`. A body without a transform keeps all.

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

/// The longest expression, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 4_096;
/// The longest body that a transform makes, in bytes.
pub const BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// CEL without the library of optional values, whose macros can make a long program of a short
/// text.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(meter::metered_env()));

/// An expression that is refused, and where it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {detail}")]
pub struct CompileError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub detail: String,
}

/// An expression that came to nothing for an event. Says nothing of what is in the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(pub String);

/// Says which events are wanted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FilterExpression(Arc<CompiledExpression>);

/// Makes the body of a delivery. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TransformExpression(Arc<CompiledExpression>);

/// An expression that was checked and can be evaluated.
struct CompiledExpression {
    /// As it was given.
    text: String,
    metered: IdedExpr,
    /// What its calls of `matches` look for.
    patterns: Arc<[Regex]>,
    /// The variables that it reads.
    reads: Vec<&'static str>,
}

impl FilterExpression {
    /// Reads `text`.
    ///
    /// # Errors
    /// [`CompileError`] when it is no expression, or names what does not exist.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        check::compile_expression(text).map(|program| Self(Arc::new(program)))
    }

    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it lets `record` through.
    ///
    /// # Errors
    /// [`Failed`] when it cannot say: something is missing, or what it comes to is neither true nor
    /// false.
    pub fn admits(&self, record: &Record) -> Result<bool, EvaluationError> {
        self.0.evaluate(record, |value| {
            let verdict = value
                .downcast_ref::<CelBool>()
                .map(|verdict| *verdict.inner());
            verdict.ok_or_else(|| {
                EvaluationError(format!(
                    "comes to a {}, not to true or false",
                    value.get_type().name()
                ))
            })
        })
    }
}

impl TransformExpression {
    /// Reads `text`.
    ///
    /// # Errors
    /// As [`FilterExpression::compile`].
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        check::compile_expression(text).map(|program| Self(Arc::new(program)))
    }

    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The body that it makes for `record`: one JSON text, in which the members of objects stand in
    /// the order of their names, so that every attempt sends the same.
    ///
    /// # Errors
    /// [`Failed`] when it makes none.
    pub fn render_body(&self, record: &Record) -> Result<Vec<u8>, EvaluationError> {
        self.0.evaluate(record, values::value_to_json)
    }
}

impl CompiledExpression {
    /// What `then` makes of the value for `record`.
    fn evaluate<T>(
        &self,
        record: &Record,
        then: impl FnOnce(&(dyn Val + '_)) -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        let evaluated = envelope::with_envelope_parts(record, |parts| {
            let read = || {
                let mut context = Context::with_env(Arc::clone(&ENV));
                for name in &self.reads {
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
        evaluated.unwrap_or_else(|broken| {
            Err(EvaluationError(match broken {
                MeterError::OverBudget => {
                    "takes too much time or memory for this event, and was broken off".to_owned()
                }
                MeterError::Panicked => "could not be evaluated".to_owned(),
            }))
        })
    }

    /// What is said of `error`: what the expression asked for, never what it found.
    fn describe_failure(&self, error: &ExecutionError) -> EvaluationError {
        let own = |name: &str| {
            if self.text.contains(name) {
                format!(" {name:?}")
            } else {
                String::new()
            }
        };
        EvaluationError(match error {
            ExecutionError::NoSuchKey(key) => {
                format!(
                    "there is no member{}; use has() for what can be missing",
                    own(key)
                )
            }
            ExecutionError::NoSuchOverload(overload) => {
                let types = overload.argument_types().join(", ");
                let function = overload.function().trim_matches(['_', '@']);
                format!("{function:?} cannot be applied to {types}")
            }
            ExecutionError::UnexpectedType { got, want } => {
                format!("a {got} stands where a {want} was expected")
            }
            ExecutionError::UndeclaredReference(name) => format!("there is no{}", own(name)),
            ExecutionError::IndexOutOfBounds(_) => {
                "a list has fewer items than the expression asks for".to_owned()
            }
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "divides by zero".to_owned()
            }
            ExecutionError::Overflow(..) => "a number became too large".to_owned(),
            ExecutionError::DuplicateKey(_) => {
                "makes an object with two members of one name".to_owned()
            }
            ExecutionError::ValuesNotComparable(..) => {
                "compares what cannot be compared".to_owned()
            }
            ExecutionError::UnsupportedKeyType(_) => "uses as a name what cannot be one".to_owned(),
            ExecutionError::FunctionError { function, .. } => {
                format!("{function}() cannot take what it was given")
            }
            // Foreign and growing; what others say can hold values of the event.
            _ => "an operation cannot be applied to what it was given".to_owned(),
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

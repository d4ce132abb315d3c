//! Compiled form of an expression, and its evaluation for one event within the budget.

use std::sync::{Arc, LazyLock};

use super::super::envelope;
use super::error::EvaluationError;
use super::meter::{self, MeterError};
use super::text_pattern::TextPattern;
use super::values;
use crate::event::Record;
use cel::common::ast::IdedExpr;
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Value};

/// CEL environment without optional values, whose macros can expand a short text into a long
/// program.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(meter::metered_env()));

/// Expression that was checked and metered.
pub(super) struct CompiledExpression {
    /// Text of the expression as its author wrote it.
    pub(super) text: String,
    pub(super) metered: IdedExpr,
    /// Compiled patterns of the calls of `matches`.
    pub(super) patterns: Arc<[TextPattern]>,
    /// Variables that the expression reads, each once.
    pub(super) variables: Vec<&'static str>,
}

impl CompiledExpression {
    /// Evaluates the expression for `record`, and calls `then` with the value.
    pub(super) fn evaluate<T>(
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

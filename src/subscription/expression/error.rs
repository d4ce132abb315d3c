//! Errors of compiling an expression and of evaluating it.

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

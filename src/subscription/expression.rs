//! Filters and transforms: CEL expressions that say which events are wanted, and what is sent of them.

use std::sync::Arc;

use crate::event::Record;

/// The longest expression, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 4_096;

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
pub struct Failed(pub String);

/// Says which events are wanted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Arc<str>,
}

/// Makes the body of a delivery. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transform {
    text: Arc<str>,
}

impl Filter {
    /// Reads `text`.
    ///
    /// # Errors
    /// [`CompileError`] when it is no expression, or one that could take too long.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        Ok(Self { text: text.into() })
    }

    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it lets `record` through.
    ///
    /// # Errors
    /// [`Failed`] when it cannot say: something is missing, or what it comes to is neither true nor false.
    pub fn admits(&self, _record: &Record) -> Result<bool, Failed> {
        Ok(true)
    }
}

impl Transform {
    /// Reads `text`.
    ///
    /// # Errors
    /// As [`Filter::compile`].
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        Ok(Self { text: text.into() })
    }

    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The body that it makes for `record`: one JSON text.
    ///
    /// # Errors
    /// [`Failed`] when it makes none.
    pub fn body(&self, record: &Record) -> Result<Vec<u8>, Failed> {
        Ok(super::envelope::body(record))
    }
}

//! The circuit breaker of one subscriber.

/// Whether attempts are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are.
    Closed,
    /// None is.
    Open,
    /// One is, to see whether the next may be.
    HalfOpen,
}

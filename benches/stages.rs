//! Criterion benches of single stages.

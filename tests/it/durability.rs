//! Durable accept and nothing lost: the real binary, killed at any moment.

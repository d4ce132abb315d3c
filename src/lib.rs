//! Hookyard receives signed webhooks, gives every entity its own actor, applies that entity's events strictly in order,
//! and keeps them in an embedded store.
//!
//! One folder for each stage, in the order in which an event passes them; a stage uses only what comes after it:
//!
//! ```text
//!  sender ──HTTP──> edge ──> router ──> entity ──> journal ──> projection ──> readers
//!                    │          │          │          │             │
//!               authenticate  admit,     decide,   make it      derive what
//!               and decode    no doubles apply     durable      is asked for
//! ```
//!
//! Beside that way: [`exchange`] logs every call and what it was answered, [`account`] knows whose business accounts are
//! whose, and [`enrichment`] works on what was accepted and sends in what it learns.
//!
//! Beside the stages: [`event`] is their common vocabulary, [`provider`] knows how senders sign, [`config`] is what an
//! operator sets, [`clock`] and [`faults`] what tests replace, [`app`] puts all together, and [`cli`] is what a person types.
//! Mechanisms that several of them need have a file of their own: `suggest` (did you mean …?), `retry_after`, `token_bucket` and
//! `crash_window`.

pub mod account;
pub mod app;
pub mod call_log;
pub mod cli;
pub mod clock;
pub mod config;
mod crash_window;
pub mod edge;
pub mod enrichment;
pub mod entity;
mod error_chain;
pub mod event;
pub mod failpoints;
pub mod journal;
pub mod panics;
pub mod projection;
pub mod provider;
mod retry_after;
pub mod router;
pub mod subscriber;
pub mod subscription;
mod suggest;
mod token_bucket;

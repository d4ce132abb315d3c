//! Hookyard receives signed webhooks, gives every entity its own actor, applies that entity's events strictly in order,
//! and keeps them in an embedded store.
//!
//! One folder for each stage, in the order in which an event passes them:
//!
//! ```text
//!  sender ──HTTP──> edge ──> router ──> entity ──> journal ──> projection ──> reads
//!                    │          │          │          │             │
//!               authenticate  admit,     decide,   make it      derive what
//!               and decode    no doubles apply     durable      is asked for
//!                                                     │
//!                                                     └──frames──> subscriber ──HTTP──> your systems
//!                                                                  in order, retries, dead letters
//! ```
//!
//! Imports have an order of their own. Each uses only those after it: [`edge`], [`subscriber`] and [`enrichment`], [`router`],
//! [`entity`], [`projection`], [`journal`].
//!
//! Beside that way: [`exchange`] logs every call with its answer, [`account`] and [`subscription`] are stored definitions of
//! those who get deliveries, and [`enrichment`] works on accepted events and sends in its results through the router.
//!
//! Beside the stages: [`event`] is their common vocabulary, [`provider`] knows how senders sign, [`config`] is what an
//! operator sets, [`clock`] and [`faults`] are replaced by tests, [`panics`] says what a panic ends, [`app`] puts all together,
//! and [`cli`] is what a person types.
//!
//! `src/README.md` follows one event in and one delivery out by file names, and answers "Where is …?".

pub mod account;
pub mod app;
mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod edge;
pub mod enrichment;
pub mod entity;
pub mod event;
pub mod exchange;
pub mod faults;
pub mod journal;
pub mod panics;
pub mod projection;
pub mod provider;
pub mod router;
pub mod subscriber;
pub mod subscription;

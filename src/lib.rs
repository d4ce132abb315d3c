//! Hookyard receives signed webhooks, applies the events of each entity strictly in order, keeps
//! them durably, and delivers them, signed and still in order, to every subscriber.
//!
//! ```text
//!   CRM ──HTTP──> edge ──> router ──> entity ──> journal ──┬──> projection ──> reads
//!                   │         │          │          │      │
//!               verify,    admit,     decide,    write     └──> subscriber ──HTTP──> your systems
//!               decode     dedupe     apply      and sync         match, queue in lanes, attempt, retry
//!
//!   The folders and files of src/; each may use those below it:
//!
//!   main           starts the command line
//!   cli            commands that a person types: serve, check, send, listen …
//!   app            composition root: opens the store, starts the stages, reopens after a failure, stops in order
//!   cluster        several nodes over one PostgreSQL: the shared log, its lease, and the reading of it
//!   edge           HTTP in: limits, authentication and decoding of each contract; the admin API; /docs; the dashboard
//!   erasure        removes an entity's content from all files, for a person who asks for it
//!   alerts         announces conditions that a person should know of, such as a full disk, as events
//!   enrichment     finds the person behind an accepted Contact2Sale event, sends the result in by the router
//!   retention      removes the oldest events from the journal, after copying what is still needed of them
//!   subscriber     HTTP out: matches records to subscribers, delivers in lanes, retries, keeps dead letters
//!   subscription   definitions of who gets which events in which form: patterns, filters, transforms
//!   account        definitions of Instagram accounts
//!   token          named tokens of the API: their secrets, and what each role may do
//!   audit          log of who did what, kept in the journal
//!   call_log       one row for each HTTP call, in and out
//!   router         admission, duplicates, and a supervisor that starts and passivates entity actors
//!   entity         one actor per entity: decides on commands, applies records
//!   projection     follows the journal and derives snapshots, timelines, lists and old claims
//!   table_store    the node's own tables: each change is in the journal, the rows are derived
//!   derived        rows that can be derived again, in sled
//!   journal        the log, the only truth; one commit thread
//!   traces         spans of accepted events, their commits and deliveries, exported over OTLP
//!   config         settings of the operator, read from TOML and environment
//!   metrics        counters and histograms of all stages, in one table
//!   provider       signature schemes of senders, presets
//!   clock, crash_window, damaged_samples, error_chain, failpoints, log_sink, panics, plot_lines, retry_after, shared_reading, suggest, token_bucket, trusted_roots
//!                  small parts that several stages use
//!   event          vocabulary of all stages: records, kinds, names, times, the catalogue of events
//! ```
//!
//! `src/README.md` says which rules hold everywhere, follows one event in and one delivery out by
//! file names, and answers "Where is …?".

pub mod account;
pub mod alerts;
pub mod app;
pub mod audit;
pub mod call_log;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
mod crash_window;
#[cfg(test)]
mod damaged_samples;
pub mod derived;
pub mod edge;
pub mod enrichment;
pub mod entity;
pub mod erasure;
mod error_chain;
pub mod event;
pub mod failpoints;
pub mod journal;
pub mod log_sink;
pub mod metrics;
pub mod panics;
mod plot_lines;
pub mod projection;
pub mod provider;
pub mod retention;
mod retry_after;
pub mod router;
mod shared_reading;
pub mod subscriber;
pub mod subscription;
mod suggest;
pub mod table_store;
pub mod token;
mod token_bucket;
pub mod traces;
mod trusted_roots;

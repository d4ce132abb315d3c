//! Audit log: who did what, when, from where, and with which outcome. It is truth: its entries are in
//! the journal, and an entry is on the disk before its call is answered.

mod entry;
mod log;

pub use entry::{AuditChannel, AuditEntry, SUCCESS};
pub use log::{AuditFilter, AuditLimits, AuditLog, AuditOpenError, AuditPage, EntryClass};

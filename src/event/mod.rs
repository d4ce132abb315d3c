//! The vocabulary of every stage: times, names, positions, and the record that an accepted event becomes.

pub mod catalogue;
mod fingerprint;
mod id;
mod kind;
mod members;
mod name;
mod payload;
mod record;
mod time;

pub use fingerprint::{Fingerprint, fingerprint};
pub use id::{EntityKey, EventId, ID_MAX_BYTES, Incarnation, InvalidId, Position, check_id};
pub use kind::Kind;
pub use members::members;
pub use name::Name;
pub use payload::form_to_json;
pub use record::{Corrupt, Failure, RECORD_MAX_BYTES, Record, Shape};
pub use time::Timestamp;

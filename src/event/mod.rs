//! The vocabulary of every stage: times, names, positions, and the record that an accepted event becomes.

mod fingerprint;
mod id;
mod record;
mod time;

pub use fingerprint::{Fingerprint, fingerprint};
pub use id::{EntityKey, EventId, ID_MAX_BYTES, Incarnation, InvalidId, Kind, Position, check_id};
pub use record::{Corrupt, Failure, Record};
pub use time::Timestamp;

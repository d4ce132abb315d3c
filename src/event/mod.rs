//! Vocabulary of all stages: times, names, positions, and the record that an accepted event
//! becomes.

pub mod catalogue;
mod claim_owner;
mod fingerprint;
mod hops;
mod id;
mod incarnation_history;
mod interned_name;
mod invisible_mark;
mod json_members;
mod kind;
mod payload;
mod readable_json;
mod record;
mod time;
mod trace_context;

pub use claim_owner::{
    ClaimOwner, KeyConflict, KeyReusePolicy, RequestReuseRule, SignedRequest, SignedRequestTag,
    hash_content, join_key_and_content, tag_credential,
};
pub use fingerprint::{FingerprintFn, fingerprint_key};
pub use hops::{HOPS_HEADER, HOPS_MAX, parse_hops};
pub use id::{
    EntityKey, EventId, ID_MAX_BYTES, InvalidId, Position, StoreIncarnation, check_id,
    check_json_id,
};
pub use incarnation_history::IncarnationHistory;
pub use interned_name::InternedName;
pub use invisible_mark::is_invisible_mark;
pub use json_members::find_members;
pub use kind::Kind;
pub use payload::{fields_to_json, form_to_json};
pub use readable_json::{
    NESTING_MAX, NestingError, check_nesting, make_readable, measure_nesting,
    replace_half_surrogates,
};
pub use record::{ErasureMark, EventFailure, PayloadShape, RECORD_MAX_BYTES, Record, RecordError};
pub use time::Timestamp;
pub use trace_context::{TRACEPARENT_HEADER, TraceContext};

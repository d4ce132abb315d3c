//! Tables of the delivery stage in the store. They are not derived from the journal, so no rebuild
//! touches them.
//!
//! | tag | key after the tag | value after the format byte |
//! |---|---|---|
//! | 1 | – | cursor of the dispatcher: position u64 |
//! | 2 | subscriber | read state: 0 live, or 1 and the subscriber's own cursor u64 |
//! | 3 | subscriber, lane | lane: see `lanes` |
//! | 4 | id u64, or 0 u64 | dead letter, or the next free id |
//! | 5 | job u64, or 0 u64 | job, or the next free id |
//! | 5 | job u64, subscriber | progress of the job at that subscriber |
//! | 6 | subscriber | counters: see `counters` |
//!
//! Integers are big-endian. In a key, a text is written with 0 as `0, 255` and ends with `0, 1`, so
//! that no text in a key is the beginning of another one.

mod counters;
pub(super) mod dead_letters;
mod delivery_tables;
pub(super) mod jobs;
mod lanes;
mod read_states;
mod row_decoder;
mod row_key;

pub(super) use counters::SubscriberCounters;
pub(super) use delivery_tables::DeliveryTables;
pub(super) use lanes::{encode_lane, lane_key};
pub(super) use read_states::{ReadState, encode_cursor};
pub(super) use row_key::{RowKey, TableTag};

#[cfg(test)]
mod tests;

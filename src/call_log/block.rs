//! Blocks of consecutive rows of one ring, and the keys and values that store them.
//!
//! ```text
//! key      value
//! 1 | ring u8 | first id u64 BE   block, at most 12 KiB: format u8 = 1 | flags u8 | body
//!                                 flags 1 = lz4, with its size as u32 LE before the body
//! 2 | ring u8 | first id u64 BE   summary: format u8 = 1 | last id u64 BE | 4 × u32 BE, rows of a class
//! 3                               mark: format u8 = 1 | 1 = closed in order | next id u64 BE
//!
//! body   for each row: id as a varint difference to the row before (the first: to the key)
//!        | class u8 | varint length | row
//! ring   0 = kept, 1 = refused
//! class  0 = incoming, refused; 1 = incoming, successful
//!        2 = outgoing, failed;  3 = outgoing, successful
//! ```

use super::row::{CallDirection, CallEntry};
use super::varint;
use crate::derived::VALUE_MAX_BYTES;

const FORMAT: u8 = 1;
const LZ4: u8 = 1;
const HEADER_BYTES: usize = 2;
const SUMMARY_BYTES: usize = 1 + 8 + 4 * 4;

/// Upper bound of a body that is unpacked: blocks are sealed long before.
const BODY_MAX_BYTES: usize = 256 * 1024;

/// Largest body that fits into one value even if it does not compress.
pub(super) const FITS_BYTES: usize = VALUE_MAX_BYTES - HEADER_BYTES;

/// Key of the mark, which tells the next id and if the log was closed in order.
pub(super) const MARK: [u8; 1] = [3];

const CLASSES: usize = 4;

/// Direction and success of a row, the two properties that lists filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallClass(u8);

impl CallClass {
    pub(super) fn from_entry(entry: &CallEntry<'_>) -> Self {
        let outgoing = match entry.direction {
            CallDirection::Incoming => 0,
            CallDirection::Outgoing => 2,
        };
        Self(outgoing + u8::from(entry.is_successful()))
    }

    fn from_byte(byte: u8) -> Option<Self> {
        (usize::from(byte) < CLASSES).then_some(Self(byte))
    }

    pub(super) fn direction(self) -> CallDirection {
        if self.0 & 2 == 0 {
            CallDirection::Incoming
        } else {
            CallDirection::Outgoing
        }
    }

    pub(super) fn is_successful(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Selection of rows for a list. A member that is `None` selects every row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// Only calls in this direction, received or made.
    pub direction: Option<CallDirection>,
    /// Only calls that succeeded (`true`) or failed (`false`).
    pub is_successful: Option<bool>,
}

impl CallFilter {
    pub(super) fn passes(self, class: CallClass) -> bool {
        self.direction
            .is_none_or(|direction| direction == class.direction())
            && self
                .is_successful
                .is_none_or(|is_successful| is_successful == class.is_successful())
    }
}

/// Number of rows of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClassCounts([u64; CLASSES]);

impl ClassCounts {
    pub(super) fn add(&mut self, class: CallClass) {
        self.0[usize::from(class.0)] += 1;
    }

    pub(super) fn add_counts(self, other: Self) -> Self {
        Self(std::array::from_fn(|class| self.0[class] + other.0[class]))
    }

    /// Subtracts `other`, whose rows must be a part of these.
    pub(super) fn subtract_counts(self, other: Self) -> Self {
        Self(std::array::from_fn(|class| self.0[class] - other.0[class]))
    }

    /// Returns the number of rows that pass `filter`.
    pub(super) fn count_passing(self, filter: CallFilter) -> u64 {
        let passes = |class: u8| filter.passes(CallClass(class));
        self.0
            .iter()
            .zip(0..)
            .filter(|(_, class)| passes(*class))
            .map(|(count, _)| count)
            .sum()
    }
}

/// Ids and row counts of a block, known without reading the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockSummary {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) counts: ClassCounts,
}

impl BlockSummary {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SUMMARY_BYTES);
        out.push(FORMAT);
        out.extend_from_slice(&self.last.to_be_bytes());
        for count in self.counts.0 {
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        out
    }

    /// Decodes the summary of the block that begins with `first`. Returns `None` for malformed
    /// bytes.
    pub(super) fn decode(first: u64, value: &[u8]) -> Option<Self> {
        let (format, rest) = value.split_first()?;
        let (last, counts) = rest.split_first_chunk()?;
        let (counts, after) = counts.as_chunks::<4>();
        let counts: [[u8; 4]; CLASSES] = counts.try_into().ok()?;
        let summary = Self {
            first,
            last: u64::from_be_bytes(*last),
            counts: ClassCounts(counts.map(|count| u32::from_be_bytes(count).into())),
        };
        (*format == FORMAT && after.is_empty() && summary.last >= first).then_some(summary)
    }
}

/// Returns the key of the block of ring `ring` that begins with the id `first`.
pub(super) fn block_key(ring: u8, first: u64) -> [u8; 10] {
    build_key(1, ring, first)
}

/// Returns the key of the summary of that block.
pub(super) fn summary_key(ring: u8, first: u64) -> [u8; 10] {
    build_key(2, ring, first)
}

/// Returns the common prefix of the keys of all summaries of ring `ring`.
pub(super) fn summary_prefix(ring: u8) -> [u8; 2] {
    [2, ring]
}

/// Returns the common prefix of the keys of all blocks of ring `ring`.
pub(super) fn block_prefix(ring: u8) -> [u8; 2] {
    [1, ring]
}

/// Parses the first id out of the key of a block or summary.
pub(super) fn parse_first_id(key: &[u8]) -> Option<u64> {
    let (_, first) = key.split_first_chunk::<2>()?;
    first.try_into().ok().map(u64::from_be_bytes)
}

fn build_key(tag: u8, ring: u8, first: u64) -> [u8; 10] {
    let mut key = [tag, ring, 0, 0, 0, 0, 0, 0, 0, 0];
    key[2..].copy_from_slice(&first.to_be_bytes());
    key
}

/// Encodes the mark.
///
/// `is_closed` tells if the log was closed in order, `next` is the id of the next row.
pub(super) fn encode_mark(is_closed: bool, next: u64) -> Vec<u8> {
    [&[FORMAT, u8::from(is_closed)], &next.to_be_bytes()[..]].concat()
}

/// Decodes the mark into `is_closed` and `next`, see [`encode_mark`].
pub(super) fn decode_mark(value: &[u8]) -> Option<(bool, u64)> {
    let ([format, is_closed], next) = value.split_first_chunk()?;
    let next = u64::from_be_bytes(next.try_into().ok()?);
    (*format == FORMAT && *is_closed <= 1).then_some((*is_closed == 1, next))
}

/// Block that still takes rows.
#[derive(Clone, Debug)]
pub(super) struct BlockBuilder {
    pub(super) summary: BlockSummary,
    pub(super) rows: usize,
    pub(super) body: Vec<u8>,
}

impl BlockBuilder {
    /// Returns a block without rows; its first row will have the id `first`.
    pub(super) fn new(first: u64, capacity: usize) -> Self {
        let summary = BlockSummary {
            first,
            last: first,
            counts: ClassCounts::default(),
        };
        Self {
            summary,
            rows: 0,
            body: Vec::with_capacity(capacity),
        }
    }

    /// Appends the row `id`, which must be higher than all ids before.
    pub(super) fn push(&mut self, id: u64, class: CallClass, row: &[u8]) {
        varint::put_varint(&mut self.body, id - self.summary.last);
        self.body.push(class.0);
        varint::put_prefixed_bytes(&mut self.body, row);
        self.summary.last = id;
        self.summary.counts.add(class);
        self.rows += 1;
    }
}

/// Encoded row inside the body of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedRow<'a> {
    pub(super) id: u64,
    pub(super) class: CallClass,
    pub(super) row: &'a [u8],
}

/// Splits the body of the block that begins with `first` into its rows, oldest first. Returns
/// `None` for malformed bytes.
pub(super) fn split_rows(first: u64, mut body: &[u8]) -> Option<Vec<EncodedRow<'_>>> {
    let (mut rows, mut id) = (Vec::new(), first);
    while !body.is_empty() {
        id = id.checked_add(varint::take_varint(&mut body)?)?;
        let (class, rest) = body.split_first()?;
        body = rest;
        rows.push(EncodedRow {
            id,
            class: CallClass::from_byte(*class)?,
            row: varint::take_prefixed_bytes(&mut body)?,
        });
    }
    Some(rows)
}

/// Encodes a body into values with their summaries: one value, or several if the body does not
/// compress well enough to fit into one.
pub(super) fn encode_blocks(summary: BlockSummary, body: &[u8]) -> Vec<(BlockSummary, Vec<u8>)> {
    let packed = lz4_flex::compress_prepend_size(body);
    if packed.len().min(body.len()) <= FITS_BYTES {
        let (flags, bytes) = if packed.len() < body.len() {
            (LZ4, &packed[..])
        } else {
            (0, body)
        };
        return vec![(summary, [&[FORMAT, flags], bytes].concat())];
    }

    // Too large even packed: each half becomes blocks of its own.
    let rows = split_rows(summary.first, body).expect("the body was built by this process");
    let (older, newer) = rows.split_at(rows.len() / 2);
    [older, newer]
        .into_iter()
        .flat_map(|half| {
            let first = half
                .first()
                .expect("one row fits into a value, so the body has two or more rows")
                .id;
            let mut part = BlockBuilder::new(first, body.len());
            half.iter()
                .for_each(|row| part.push(row.id, row.class, row.row));
            encode_blocks(part.summary, &part.body)
        })
        .collect()
}

/// Decodes and unpacks the body in a block's value. Returns `None` for malformed bytes.
pub(super) fn decode_body(value: &[u8]) -> Option<Vec<u8>> {
    let ([format, flags], bytes) = value.split_first_chunk()?;
    if *format != FORMAT || *flags > LZ4 {
        return None;
    }
    if *flags == 0 {
        return Some(bytes.to_vec());
    }
    let size = u32::from_le_bytes(*bytes.first_chunk()?);
    // A damaged size must not become an allocation.
    (usize::try_from(size).ok()? <= BODY_MAX_BYTES)
        .then(|| lz4_flex::decompress_size_prepended(bytes).ok())?
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::row::{ROW_MAX_BYTES, tests::entry};
    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases};

    pub(in crate::call_log) fn class(number: u8) -> CallClass {
        CallClass::from_byte(number).expect("one of four")
    }

    fn gathered(first: u64, rows: &[(u64, u8, Vec<u8>)]) -> BlockBuilder {
        let mut gathering = BlockBuilder::new(first, 0);
        let mut id = first;
        for (index, (step, class, row)) in rows.iter().enumerate() {
            id += if index == 0 { 0 } else { step + 1 };
            gathering.push(id, CallClass(*class), row);
        }
        gathering
    }

    fn flat(first: u64, body: &[u8]) -> Vec<(u64, u8, Vec<u8>)> {
        split_rows(first, body)
            .expect("a body")
            .iter()
            .map(|slot| (slot.id, slot.class.0, slot.row.to_vec()))
            .collect()
    }

    /// Stores outlive versions: if these bytes change, the format number has to change.
    #[test]
    fn keys_and_values_never_change() {
        assert_eq!(hex::encode(block_key(1, 7)), "01010000000000000007");
        assert_eq!(hex::encode(summary_key(0, 258)), "02000000000000000102");
        assert_eq!(hex::encode(encode_mark(true, 9)), "01010000000000000009");
        let gathering = gathered(7, &[(0, 1, b"abc".to_vec()), (299, 2, b"d".to_vec())]);
        let summary = "010000000000000133000000000000000100000001 00000000";
        assert_eq!(
            hex::encode(gathering.summary.encode()),
            summary.replace(' ', "")
        );
        let values = encode_blocks(gathering.summary, &gathering.body);
        assert_eq!(hex::encode(&values[0].1), "0100000103616263ac02020164");
    }

    /// Only reading is tested: another version of lz4 may pack the same body differently.
    #[test]
    fn a_packed_value_stays_readable() {
        let gathering = gathered(7, &[(0, 1, vec![b'a'; 60])]);
        let value = hex::decode("01013f0000004f00013c6101002260616161616161").expect("hex");
        assert_eq!(decode_body(&value), Some(gathering.body));
    }

    #[test]
    fn a_class_is_who_called_whom_and_with_what_success() {
        for (status, direction, number) in [
            (Some(404), CallDirection::Incoming, 0),
            (Some(202), CallDirection::Incoming, 1),
            (None, CallDirection::Outgoing, 2),
            (Some(200), CallDirection::Outgoing, 3),
        ] {
            let class = CallClass::from_entry(&CallEntry {
                status,
                direction,
                ..entry(0)
            });
            assert_eq!(
                (class.0, class.direction(), class.is_successful()),
                (number, direction, number % 2 == 1)
            );
        }
        let broken = CallEntry {
            direction: CallDirection::Outgoing,
            code: Some("broken_off"),
            ..entry(200)
        };
        assert!(
            !CallClass::from_entry(&broken).is_successful(),
            "half an answer is none"
        );
    }

    /// Pseudo-random bytes, which do not compress.
    pub(in crate::call_log) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_are_read_back_and_no_value_is_too_large(
            rows in prop::collection::vec((0_u64..400, 0_u8..4, 0..ROW_MAX_BYTES), 1..40), first in 1_u64..u64::MAX / 2,
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(step, class, size)| (step, class, noise(size, step))).collect();
            let gathering = gathered(first, &rows);
            let values = encode_blocks(gathering.summary, &gathering.body);
            prop_assert!(values.iter().all(|(_, value)| value.len() <= VALUE_MAX_BYTES));
            let mut read = Vec::new();
            let mut counts = ClassCounts::default();
            for (summary, value) in &values {
                let rows = flat(summary.first, &decode_body(value).expect("a value"));
                prop_assert_eq!((summary.first, summary.last), (rows[0].0, rows[rows.len() - 1].0));
                prop_assert_eq!(BlockSummary::decode(summary.first, &summary.encode()), Some(*summary));
                counts = counts.add_counts(summary.counts);
                read.extend(rows);
            }
            prop_assert_eq!(read, flat(first, &gathering.body));
            prop_assert_eq!(counts, gathering.summary.counts);
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_block_of_calls_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_body(&bytes).and_then(|body| split_rows(1, &body).map(|slots| slots.len()));
            let _ = (BlockSummary::decode(1, &bytes), decode_mark(&bytes), parse_first_id(&bytes), split_rows(u64::MAX, &bytes));
        }
    }
}

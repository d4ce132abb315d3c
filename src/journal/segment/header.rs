//! Header of a segment file.
//!
//! ```text
//! magic "HOOKYSEG" | format u32 = 2 | incarnation u32 | number u64 | first position u64
//! | first change number u64 | end of the previous segment u64 | checksum of its last block u32
//! | generation u32 | CRC-32C u32 | zeros up to 64 bytes
//! ```
//!
//! The CRC-32C continues the store's checksum seed, so that no file of another store passes.
//!
//! Integers are big-endian. "End" is the length of the previous segment's valid content: what comes
//! after it in that file was never acknowledged. The generation counts how often the segment was
//! rewritten; a rewritten one ends at the end of its file, and the next header names the end and
//! checksum of the original. A prepared file that is not in use yet has zeros in place of the
//! header.

use bytes::{Buf, BufMut};

use crate::event::{Position, StoreIncarnation};
use crate::journal::log_place::LogPlace;

/// Length of the header, and offset of a segment's first frame.
pub(in crate::journal) const HEADER_BYTES: u64 = 64;

const MAGIC: &[u8; 8] = b"HOOKYSEG";
const FORMAT: u32 = 2;
/// Bytes that the checksum covers, which it follows.
const CHECKED_BYTES: usize = 56;

/// Place of a segment in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct SegmentHeader {
    /// Checksum seed of the store, which is not in the file.
    pub(in crate::journal) seed: u32,
    /// Incarnation of the store, so that a file of another store is noticed.
    pub(in crate::journal) incarnation: StoreIncarnation,
    /// Number of the segment, from 1.
    pub(in crate::journal) number: u64,
    /// Position of the first record in or after this segment.
    pub(in crate::journal) first_position: Position,
    /// Number of the first group of table changes in or after this segment.
    pub(in crate::journal) first_change: u64,
    /// Length of the previous segment's valid content; 0 if there is no previous segment.
    pub(in crate::journal) previous_end: u64,
    /// Checksum of the last valid block of the previous segment, or of its header.
    pub(in crate::journal) previous_checksum: u32,
    /// Number of times that the segment was rewritten.
    pub(in crate::journal) generation: u32,
}

/// Content at the start of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum HeaderContent {
    /// The file is in use.
    Header(SegmentHeader),
    /// The file is prepared, and nothing was written to it.
    Blank,
    /// The header is of the store with this incarnation, which has another checksum seed.
    Foreign(StoreIncarnation),
    /// The bytes are no header.
    Broken,
}

impl SegmentHeader {
    /// Returns the place before the segment's first block.
    pub(in crate::journal) fn place(&self) -> LogPlace {
        LogPlace {
            position: self.first_position,
            change: self.first_change,
        }
    }

    /// Encodes the header in the layout of this module.
    pub(in crate::journal) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.put_slice(MAGIC);
        bytes.put_u32(FORMAT);
        bytes.put_u32(self.incarnation.get());
        bytes.put_u64(self.number);
        bytes.put_u64(self.first_position.get());
        bytes.put_u64(self.first_change);
        bytes.put_u64(self.previous_end);
        bytes.put_u32(self.previous_checksum);
        bytes.put_u32(self.generation);
        debug_assert_eq!(bytes.len(), CHECKED_BYTES);
        bytes.put_u32(crc32c::crc32c_append(self.seed, &bytes));
        bytes.resize(HEADER_BYTES as usize, 0);
        bytes
    }

    /// Returns the header's checksum, which the first block of the segment continues.
    pub(in crate::journal) fn checksum(&self) -> u32 {
        crc32c::crc32c_append(self.seed, &self.encode()[..CHECKED_BYTES])
    }

    /// Decodes the first [`HEADER_BYTES`] bytes of a file in the store with the checksum seed
    /// `seed`. A header with a wrong checksum counts as one of another store.
    pub(in crate::journal) fn decode(bytes: &[u8], seed: u32) -> HeaderContent {
        if bytes.iter().all(|byte| *byte == 0) {
            return HeaderContent::Blank;
        }
        let Some((checked, mut checksum)) = bytes.split_at_checked(CHECKED_BYTES) else {
            return HeaderContent::Broken;
        };
        let expected = crc32c::crc32c_append(seed, checked);
        let mut fields = &checked[MAGIC.len()..];
        if !checked.starts_with(MAGIC) || fields.get_u32() != FORMAT {
            return HeaderContent::Broken;
        }
        if checksum.try_get_u32() != Ok(expected) {
            return HeaderContent::Foreign(StoreIncarnation::new(fields.get_u32()));
        }
        HeaderContent::Header(Self {
            seed,
            incarnation: StoreIncarnation::new(fields.get_u32()),
            number: fields.get_u64(),
            first_position: Position::new(fields.get_u64()),
            first_change: fields.get_u64(),
            previous_end: fields.get_u64(),
            previous_checksum: fields.get_u32(),
            generation: fields.get_u32(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            seed: 8,
            incarnation: StoreIncarnation::new(0x3f9a_2c41),
            number: 2,
            first_position: Position::new(3),
            first_change: 4,
            previous_end: 5,
            previous_checksum: 6,
            generation: 7,
        }
    }

    #[test]
    fn the_bytes_of_a_header_never_change() {
        let bytes = sample().encode();
        assert_eq!(
            hex::encode(&bytes),
            "484f4f4b59534547000000023f9a2c4100000000000000020000000000000003000000000000000400000000\
             0000000500000006000000074054737800000000"
        );
        assert_eq!(
            SegmentHeader::decode(&bytes, 8),
            HeaderContent::Header(sample())
        );
    }

    #[test]
    fn a_changed_header_is_broken_and_an_empty_one_is_blank() {
        let bytes = sample().encode();
        for at in 0..=CHECKED_BYTES {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                matches!(
                    SegmentHeader::decode(&changed, 8),
                    HeaderContent::Broken | HeaderContent::Foreign(_)
                ),
                "byte {at}"
            );
        }
        let of_another = SegmentHeader::decode(&bytes, 9);
        assert_eq!(of_another, HeaderContent::Foreign(sample().incarnation));
        assert_eq!(
            SegmentHeader::decode(&bytes[..20], 8),
            HeaderContent::Broken
        );
        assert_eq!(SegmentHeader::decode(&[0; 64], 8), HeaderContent::Blank);
    }
}

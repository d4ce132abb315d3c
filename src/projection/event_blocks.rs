//! Event blocks: the attributes by which lists of events are filtered, so that a list does not read
//! the records that its filter excludes.
//!
//! ```text
//! block  format u8 = 2 | up to 512 slots, one for each position
//! slot   received_at i64 BE µs | id fingerprint u64 BE
//!        | source u16 BE | type u16 BE | kind u16 BE | status u8, plus 128 with a warning
//! ```
//!
//! Format 1 is the same without marks of warnings. An older version that meets format 2 derives all
//! rows again.
//!
//! `source`, `type` and `kind` are numbers of names in the name table, which has a row of its own.

use crate::event::{Position, Timestamp};

/// Number of slots in a block: 512 slots of 23 bytes stay below the largest value.
pub(super) const BLOCK_EVENTS: u64 = 512;

const FORMAT: u8 = 2;
const FORMAT_WITHOUT_WARNINGS: u8 = 1;
const SLOT_BYTES: usize = 23;
/// Bit of the status byte of an event that has a warning.
const WARNING_BIT: u8 = 0x80;

/// Status of an event in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventMark {
    /// The event was applied, at once or when it was reprocessed.
    Completed,
    /// The event could not be applied.
    Failed,
    /// The record reprocesses another event; lists omit it.
    Attempt,
    /// The event was applied and is pending: a later record completes or fails it.
    Processing,
}

impl EventMark {
    /// Returns `true` for an event that is pending, or failed and can be reprocessed.
    pub(super) const fn is_open(self) -> bool {
        match self {
            Self::Failed | Self::Processing => true,
            Self::Completed | Self::Attempt => false,
        }
    }

    const fn to_byte(self) -> u8 {
        match self {
            Self::Completed => 1,
            Self::Failed => 2,
            Self::Attempt => 3,
            Self::Processing => 4,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Completed),
            2 => Some(Self::Failed),
            3 => Some(Self::Attempt),
            4 => Some(Self::Processing),
            _ => None,
        }
    }
}

/// Attributes of one event that are known without reading its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventSlot {
    pub(super) received_at: Timestamp,
    pub(super) id: u64,
    pub(super) source: u16,
    pub(super) event_type: u16,
    pub(super) kind: u16,
    pub(super) mark: EventMark,
    /// True if a field of the event was missing or odd.
    pub(super) has_warnings: bool,
}

/// Returns the number of the block that contains `position`, and the index of its slot.
pub(super) fn block_place(position: Position) -> (u64, usize) {
    (
        position.get() / BLOCK_EVENTS,
        (position.get() % BLOCK_EVENTS) as usize,
    )
}

/// Block of up to 512 slots. Slot 0 of the first block stays empty, since positions start at 1.
#[derive(Clone, Debug, Default)]
pub(super) struct EventBlock(Vec<Option<EventSlot>>);

impl EventBlock {
    pub(super) fn set_slot(&mut self, place: usize, slot: EventSlot) {
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some(slot);
    }

    pub(super) fn set_mark(&mut self, place: usize, mark: EventMark) {
        if let Some(Some(slot)) = self.0.get_mut(place) {
            slot.mark = mark;
        }
    }

    /// Returns the slots with their indexes, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (usize, &EventSlot)> {
        self.0
            .iter()
            .enumerate()
            .rev()
            .filter_map(|(place, slot)| Some((place, slot.as_ref()?)))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.0.len() * SLOT_BYTES);
        out.push(FORMAT);
        for slot in &self.0 {
            let Some(slot) = slot else {
                out.extend_from_slice(&[0; SLOT_BYTES]);
                continue;
            };
            out.extend_from_slice(&slot.received_at.as_micros().to_be_bytes());
            out.extend_from_slice(&slot.id.to_be_bytes());
            for name in [slot.source, slot.event_type, slot.kind] {
                out.extend_from_slice(&name.to_be_bytes());
            }
            let warning = if slot.has_warnings { WARNING_BIT } else { 0 };
            out.push(slot.mark.to_byte() | warning);
        }
        out
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (format, slots) = value.split_first()?;
        let (slots, rest) = slots.as_chunks::<SLOT_BYTES>();
        let is_known = [FORMAT, FORMAT_WITHOUT_WARNINGS].contains(format);
        (is_known && rest.is_empty()).then(|| Self(slots.iter().map(decode_slot).collect()))
    }
}

fn decode_slot(bytes: &[u8; SLOT_BYTES]) -> Option<EventSlot> {
    let long =
        |at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().expect("a slot has 23 bytes"));
    let short =
        |at: usize| u16::from_be_bytes(*bytes[at..].first_chunk().expect("a slot has 23 bytes"));
    Some(EventSlot {
        mark: EventMark::from_byte(bytes[22] & !WARNING_BIT)?,
        has_warnings: bytes[22] & WARNING_BIT != 0,
        received_at: Timestamp::from_micros(long(0).cast_signed()),
        id: long(8),
        source: short(16),
        event_type: short(18),
        kind: short(20),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::VALUE_MAX_BYTES;

    #[test]
    fn a_full_block_is_read_back_and_fits_a_value() {
        let mut block = EventBlock::default();
        for place in 1..BLOCK_EVENTS as usize {
            let mark = [
                EventMark::Completed,
                EventMark::Failed,
                EventMark::Attempt,
                EventMark::Processing,
            ][place % 4];
            let received_at = Timestamp::from_micros(place as i64);
            block.set_slot(
                place,
                EventSlot {
                    received_at,
                    id: u64::MAX - 1,
                    source: 1,
                    event_type: 2,
                    kind: 3,
                    mark,
                    has_warnings: place % 3 == 0,
                },
            );
        }
        let value = block.encode();
        assert!(value.len() <= VALUE_MAX_BYTES);
        let read = EventBlock::decode(&value).expect("a block");
        assert_eq!(read.0, block.0);
        assert_eq!(
            read.newest_first().next().map(|(place, _)| place),
            Some(511)
        );
        assert_eq!(
            read.newest_first().count(),
            511,
            "no event stands at position 0"
        );
    }

    #[test]
    fn the_bytes_of_a_block_never_change() {
        let mut block = EventBlock::default();
        let received_at = Timestamp::from_micros(1);
        block.set_slot(
            0,
            EventSlot {
                received_at,
                id: 2,
                source: 3,
                event_type: 4,
                kind: 5,
                mark: EventMark::Failed,
                has_warnings: false,
            },
        );
        let bytes = "0000000000000001000000000000000200030004000502";
        assert_eq!(hex::encode(block.encode()), format!("02{bytes}"));
        let earlier = hex::decode(format!("01{bytes}")).expect("hex");
        let read = EventBlock::decode(&earlier).expect("an earlier format");
        assert_eq!(read.0, block.0);

        block.set_mark(0, EventMark::Completed);
        let mut slot = block.0[0].expect("a slot");
        slot.has_warnings = true;
        block.set_slot(0, slot);
        assert!(hex::encode(block.encode()).ends_with("000581"));
    }
}

//! Decoder for the parts of keys and the fields of values.

/// Format byte of every value.
pub(super) const FORMAT: u8 = 1;

/// Encodes a value that is one number.
pub(super) fn encode_number(number: u64) -> Vec<u8> {
    [&[FORMAT][..], &number.to_be_bytes()].concat()
}

/// Decodes a value that is one number.
pub(super) fn decode_number(value: &[u8]) -> Option<u64> {
    RowDecoder::from_value(value)?.read_number()
}

/// Reads texts and numbers from the front of a key or value. Each method returns `None` if the rest
/// is too short or malformed.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowDecoder<'a>(&'a [u8]);

impl<'a> RowDecoder<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Begins behind the format byte of a value; `None` if it has another one.
    pub(super) fn from_value(value: &'a [u8]) -> Option<Self> {
        let mut rest = Self(value);
        (rest.read_byte()? == FORMAT).then_some(rest)
    }

    pub(super) fn read_byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn read_number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// Reads a text that [`super::row_key::append_text`] appended.
    pub(super) fn read_text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match self.read_byte()? {
                0 => match self.read_byte()? {
                    255 => bytes.push(0),
                    1 => return String::from_utf8(bytes).ok(),
                    _ => return None,
                },
                byte => bytes.push(byte),
            }
        }
    }

    /// Bytes that were not yet read.
    pub(super) const fn remaining(self) -> &'a [u8] {
        self.0
    }
}

//! Variable-length integers (LEB128): seven bits a byte, lowest bits first; the high bit says that
//! more bytes follow.

/// Most bytes of one number: 64 bits in groups of seven.
const BYTES_MAX: usize = 10;

/// Appends `number` to `out`, in 1 to 10 bytes.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front of `rest`. Returns `None` for malformed bytes.
pub(super) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for index in 0..BYTES_MAX {
        let byte = *rest.get(index)?;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * index);
        if shifted >> (7 * index) != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(number);
        }
    }
    None
}

/// Takes a length and as many bytes from the front of `rest`. Returns `None` for malformed bytes.
pub(super) fn take_prefixed_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// Appends the length of `bytes`, then `bytes`, to `out`.
pub(super) fn put_prefixed_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Maps a signed number to an unsigned number that is small when the signed number is near zero.
pub(super) const fn encode_zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

/// Returns the signed number that [`encode_zigzag`] mapped to `number`.
pub(super) const fn decode_zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(number in any::<u64>(), signed in any::<i64>(), after in any::<u8>()) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            out.push(after);
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest), Some(number));
            prop_assert_eq!(rest, [after]);
            prop_assert_eq!(decode_zigzag(encode_zigzag(signed)), signed);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let _ = take_prefixed_bytes(&mut &bytes[..]);
        }
    }

    #[test]
    fn small_numbers_are_short() {
        for (number, bytes) in [(0, 1), (127, 1), (128, 2), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(out.len(), bytes, "{number}");
        }
        assert_eq!(
            (encode_zigzag(0), encode_zigzag(-1), encode_zigzag(1)),
            (0, 1, 2)
        );
    }
}

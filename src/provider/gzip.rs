//! Decompression of bodies that senders compress with gzip, bounded by the size of the result.

use std::io::Read;

use flate2::read::MultiGzDecoder;

/// Reason why a body is not decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressionError {
    /// The bytes are not gzip, or break off.
    #[error("body is not valid gzip, but Content-Encoding says so")]
    Malformed,
    /// The result would exceed the limit.
    #[error("decompressed body is larger than the limit")]
    TooLarge,
}

/// Decompresses `body` to at most `bytes_max` bytes; no more than that is ever written.
///
/// # Errors
/// [`DecompressionError`] for other bytes than gzip, or a larger result.
pub fn decompress_gzip(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressionError> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(body)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| DecompressionError::Malformed)?;
    if plain.len() > bytes_max {
        return Err(DecompressionError::TooLarge);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn compress(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn a_body_is_decompressed_up_to_the_limit() {
        let body = compress(b"{\"id\": 1}");
        assert_eq!(
            decompress_gzip(&body, 9).as_deref(),
            Ok(&b"{\"id\": 1}"[..])
        );
        assert_eq!(decompress_gzip(&body, 8), Err(DecompressionError::TooLarge));
        let bomb = compress(&vec![b' '; 1_000_000]);
        assert!(bomb.len() < 10_000);
        assert_eq!(
            decompress_gzip(&bomb, 9_999),
            Err(DecompressionError::TooLarge)
        );
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn no_bytes_panic_and_no_cut_body_is_whole(
            text in prop::collection::vec(any::<u8>(), 0..200),
            cut in 1_usize..10,
            noise in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let body = compress(&text);
            prop_assert_eq!(decompress_gzip(&body, 200), Ok(text));
            let cut = &body[..body.len() - cut];
            prop_assert_eq!(decompress_gzip(cut, 200), Err(DecompressionError::Malformed));
            let _ = decompress_gzip(&noise, 200);
        }

        #[test]
        fn any_compressed_body_is_read_or_refused(body in damaged(&[
            compress(b"{\"id\": 1}"), compress(&[b' '; 5_000]), [compress(b"{"), compress(b"}")].concat(),
        ])) {
            if let Ok(plain) = decompress_gzip(&body, 3_000) {
                prop_assert!(plain.len() <= 3_000);
            }
        }
    }
}

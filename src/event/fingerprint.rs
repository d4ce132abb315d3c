//! 64-bit fingerprints of idempotency keys, for indexes. A match in an index is always confirmed
//! against the record itself.

use sha2::{Digest, Sha256};

/// Function that computes the fingerprint of an idempotency key of a source. Replaceable, so that
/// tests can make two keys collide.
pub type FingerprintFn = fn(source: &str, key: &str) -> u64;

/// Returns the first 8 bytes of SHA-256 over the source, a zero byte, and the key. Fingerprints are
/// stored, so the formula never changes.
#[must_use]
pub fn fingerprint_key(source: &str, key: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(source)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

//! Fingerprint of an item that a state no longer holds; it recognizes the item when its event is
//! repeated.

use sha2::{Digest, Sha256};

/// First 8 bytes of the SHA-256 of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::entity) struct ItemFingerprint(u64);

impl ItemFingerprint {
    /// Fingerprint of the key that `parts` make when concatenated.
    pub(in crate::entity) fn from_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let hash = hash.finalize();
        Self(u64::from_be_bytes(
            *hash.first_chunk().expect("SHA-256 has 32 bytes"),
        ))
    }
}

/// Serde form of fingerprints: one base64 string with 8 big-endian bytes each, half the size of
/// JSON numbers.
pub(in crate::entity) mod packed {
    use std::collections::VecDeque;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::ItemFingerprint;

    pub(in crate::entity) fn serialize<S: Serializer>(
        list: &VecDeque<ItemFingerprint>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = list
            .iter()
            .flat_map(|fingerprint| fingerprint.0.to_be_bytes())
            .collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub(in crate::entity) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<VecDeque<ItemFingerprint>, D::Error> {
        let bytes = STANDARD_NO_PAD
            .decode(String::deserialize(deserializer)?)
            .map_err(D::Error::custom)?;
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(D::Error::custom("expected fingerprints of 8 bytes"));
        }

        Ok(chunks
            .iter()
            .map(|bytes| ItemFingerprint(u64::from_be_bytes(*bytes)))
            .collect())
    }
}

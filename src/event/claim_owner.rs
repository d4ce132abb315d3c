//! Owner of an idempotency key: the credential that sent it, and the content that it stands for.
//!
//! | second event with the key | of the same credential | of another credential |
//! |---|---|---|
//! | same content | duplicate | duplicate |
//! | other content | the key is reused: refused | an event of its own |
//!
//! Two publishers may use the same keys, so a key belongs to its credential. The same content under
//! another credential is a duplicate all the same: while a secret is rotated, a sender repeats an
//! event with the new one.

use sha2::{Digest, Sha256};

/// Credential and content of the event that claims a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimOwner {
    /// Tag of the credential, see [`tag_credential`].
    pub credential: u32,
    /// Hash of the content, which a repetition shares.
    pub content: [u8; 32],
}

/// Relation of a new event to an earlier one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyConflict {
    /// The new event repeats the earlier one.
    Repeated,
    /// The sender has used the key for another event.
    Reused,
    /// The earlier event has another sender.
    None,
}

impl KeyConflict {
    /// Compares the owner of a `new` event with that of an `earlier` one. A contract without owners
    /// compares the events itself, and so do records of a former version, which have none.
    #[must_use]
    pub fn compare(new: Option<&ClaimOwner>, earlier: Option<&ClaimOwner>) -> Self {
        match (new, earlier) {
            (None, _) | (_, None) => Self::Repeated,
            (Some(new), Some(earlier)) if new.content == earlier.content => Self::Repeated,
            (Some(new), Some(earlier)) if new.credential == earlier.credential => Self::Reused,
            (Some(_), Some(_)) => Self::None,
        }
    }
}

/// Returns the tag of the credential `secret` of `source`: 32 bits of a hash, enough to tell a few
/// credentials apart and too few to confirm a guessed secret.
#[must_use]
pub fn tag_credential(source: &str, secret: &[u8]) -> u32 {
    let digest = Sha256::new()
        .chain_update("credential")
        .chain_update([0])
        .chain_update(source)
        .chain_update([0])
        .chain_update(secret)
        .finalize();
    u32::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

/// Returns the hash of an event's `parts`, such as its name and its data. Hashes are stored, so the
/// formula never changes.
#[must_use]
pub fn hash_content<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps the parts from running into each other.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_its_credential_and_a_repetition_to_its_content() {
        let owner = |secret: &str, content: &str| ClaimOwner {
            credential: tag_credential("shop", secret.as_bytes()),
            content: hash_content([content.as_bytes()]),
        };
        let first = owner("a", "x");
        let compare = |new| KeyConflict::compare(Some(&new), Some(&first));
        assert_eq!(compare(owner("a", "x")), KeyConflict::Repeated);
        assert_eq!(
            compare(owner("b", "x")),
            KeyConflict::Repeated,
            "a rotation"
        );
        assert_eq!(compare(owner("a", "y")), KeyConflict::Reused);
        assert_eq!(
            compare(owner("b", "y")),
            KeyConflict::None,
            "another publisher"
        );
        assert_eq!(
            KeyConflict::compare(None, Some(&first)),
            KeyConflict::Repeated
        );
        assert_eq!(
            KeyConflict::compare(Some(&first), None),
            KeyConflict::Repeated
        );
    }

    #[test]
    fn tags_differ_by_source_and_parts_do_not_run_together() {
        assert_ne!(tag_credential("a", b"s"), tag_credential("b", b"s"));
        assert_ne!(tag_credential("a", b"s"), tag_credential("a", b"t"));
        assert_ne!(
            hash_content([&b"ab"[..], b"c"]),
            hash_content([&b"a"[..], b"bc"])
        );
    }
}

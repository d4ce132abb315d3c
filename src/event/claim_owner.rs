//! Owner of an idempotency key: the credential that sent it, and the content that it stands for.
//!
//! | second event with the key | of the same credential | of another credential |
//! |---|---|---|
//! | same content | duplicate | duplicate |
//! | other content | the key is reused, see [`KeyReusePolicy`] | an event of its own |
//!
//! Two publishers may use the same keys, so a key belongs to its credential. The same content under
//! another credential is a duplicate all the same: while a secret is rotated, a sender repeats an
//! event with the new one.
//!
//! A key may stand in a header that is not signed, so it does not stop a captured request that is
//! sent again. A request whose sender signs it once only has a [`SignedRequestTag`] besides, which is
//! claimed like a key.

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

/// Beginning of the text under which a tag is claimed.
const CLAIM_KEY_PREFIX: &str = "\u{1}signed:";

/// Treatment of an event whose key its sender has used for another event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyReusePolicy {
    /// Refuses the event: the sender promises a key of its own for each event.
    Refuse,
    /// Takes the event under the key joined with its content: nobody promised that the key is unique,
    /// or somebody other than the sender may have chosen it.
    KeepApart,
}

/// Returns the key of an event with this `content` that is kept apart from an earlier one with `key`. No
/// key of a sender has a control character.
#[must_use]
pub fn join_key_and_content(key: &str, content: &[u8; 32]) -> String {
    format!("{key}\u{1}{}", hex::encode(&content[..16]))
}

/// Rule for a signed request that comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestReuseRule {
    /// The request is taken once, whatever its unsigned headers say.
    TakeOnce,
    /// The request may come again, but only with the same content: its signature would also fit
    /// another one.
    FixContent,
}

/// Signed request as its events claim it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// Tag of the signed bytes.
    pub tag: SignedRequestTag,
    /// Rule for the same bytes, if they come again.
    pub rule: RequestReuseRule,
}

impl SignedRequest {
    /// Request that is taken once.
    #[must_use]
    pub const fn taken_once(tag: SignedRequestTag) -> Self {
        let rule = RequestReuseRule::TakeOnce;
        Self { tag, rule }
    }

    /// Item at `index` of a request with several events: each of them is claimed by itself.
    #[must_use]
    pub fn for_item(self, index: usize) -> Self {
        let tag = self.tag.for_item(index);
        Self { tag, ..self }
    }
}

/// Tag of the bytes that a request's signature covers.
///
/// The credential is part of the hash: without it, nobody can tell the content from the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRequestTag([u8; Self::BYTES]);

impl SignedRequestTag {
    /// Length of a tag: half a SHA-256 hash, which is far too much for two to be the same.
    pub const BYTES: usize = 16;

    /// Tag of the request that `credential` proves and whose signature covers the joined `signed`
    /// parts.
    #[must_use]
    pub fn new<'a>(credential: &[u8], signed: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new_with_prefix("signed request\0");
        hash.update((credential.len() as u64).to_be_bytes());
        hash.update(credential);
        signed.into_iter().for_each(|part| hash.update(part));
        Self::from_digest(&hash.finalize())
    }

    /// Tag of the item at `index` of a request with several events: each of them is taken once.
    #[must_use]
    pub fn for_item(self, index: usize) -> Self {
        let hash = Sha256::new_with_prefix("item\0");
        let hash = hash.chain_update((index as u64).to_be_bytes());
        Self::from_digest(&hash.chain_update(self.0).finalize())
    }

    /// Tag of the request as one of the events `name`, for senders that sign no name and send equal
    /// bodies under several.
    #[must_use]
    pub fn for_event(self, name: &str) -> Self {
        let hash = Sha256::new_with_prefix("event\0").chain_update(name);
        Self::from_digest(&hash.chain_update([0]).chain_update(self.0).finalize())
    }

    /// Tag with these stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Bytes of the tag, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Text under which the tag is claimed. No key of a sender has a control character.
    #[must_use]
    pub fn claim_key(&self) -> String {
        format!("{CLAIM_KEY_PREFIX}{}", hex::encode(self.0))
    }

    /// Tells if `key` is the text of a tag.
    #[must_use]
    pub fn is_claim_key(key: &str) -> bool {
        key.starts_with(CLAIM_KEY_PREFIX)
    }

    fn from_digest(digest: &[u8]) -> Self {
        Self(*digest.first_chunk().expect("a digest has 32 bytes"))
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
    fn the_tag_of_a_request_depends_on_its_credential_its_signed_bytes_and_the_item() {
        let tag = |credential: &str, parts: &[&str]| {
            SignedRequestTag::new(
                credential.as_bytes(),
                parts.iter().map(|part| part.as_bytes()),
            )
        };
        let first = tag("key", &["body", "time"]);
        assert_eq!(
            first,
            tag("key", &["bodyti", "me"]),
            "the same bytes are signed"
        );
        assert_eq!(SignedRequestTag::from_bytes(*first.as_bytes()), first);
        let others = [
            tag("other", &["body", "time"]),
            tag("keyb", &["ody", "time"]),
            tag("key", &["body", "later"]),
            first.for_item(0),
            first.for_item(1),
        ];
        let keys: std::collections::HashSet<_> = others
            .iter()
            .chain([&first])
            .map(SignedRequestTag::claim_key)
            .collect();
        assert_eq!(keys.len(), 6);
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

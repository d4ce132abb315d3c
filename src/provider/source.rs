//! One configured source: how its sender signs, with which keys, and where its requests hold what matters.

use std::fmt;
use std::time::Duration;

use super::body::{Document, Undecodable};
use super::claim::{Claim, Refusal};
use super::extract::{Extract, Fields, Lost};
use super::handshake::{Handshake, Reply};
use super::key::{BadKey, Key};
use super::no_claim::NoClaim;
use super::presets::Preset;
use super::request::Request;
use super::scheme::Scheme;
use crate::event::Timestamp;

/// How a sender signs.
#[derive(Clone, Debug)]
pub enum Signing {
    /// As this preset knows.
    Preset(&'static Preset),
    /// As described.
    Own(Scheme),
}

impl Signing {
    /// Reads one of its secrets.
    ///
    /// # Errors
    /// [`BadKey`] if it is not what the scheme needs.
    pub fn key(&self, text: &str) -> Result<Key, BadKey> {
        match self {
            Self::Preset(preset) => preset.key(text),
            Self::Own(scheme) => scheme.key(text),
        }
    }

    /// What `request` claims.
    ///
    /// # Errors
    /// [`NoClaim`].
    pub fn claim<'r>(&'r self, request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
        match self {
            Self::Preset(preset) => preset.claim(request),
            Self::Own(scheme) => scheme.claim(request),
        }
    }

    /// Whether a header that a signature needs is not there, which can be told by the head of a request alone.
    #[must_use]
    pub fn is_missing(&self, head: &Request<'_>) -> bool {
        matches!(self.claim(head), Err(NoClaim::NoHeader(_)))
    }

    /// The header in which a scheme of one's own has its proof, under whatever name; those of presets say in their names
    /// what they are.
    #[must_use]
    pub fn own_header(&self) -> Option<&str> {
        match self {
            Self::Preset(_) => None,
            Self::Own(scheme) => Some(scheme.header()),
        }
    }

    /// How its provider shakes hands.
    #[must_use]
    pub fn handshake(&self) -> Handshake {
        match self {
            Self::Preset(preset) => preset.handshake,
            Self::Own(_) => Handshake::None,
        }
    }
}

impl fmt::Display for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => write!(f, "preset {}", preset.name),
            Self::Own(_) => f.write_str("a scheme of its own"),
        }
    }
}

/// A configured source.
#[derive(Clone, Debug)]
pub struct Source {
    /// How its sender signs.
    pub signing: Signing,
    /// Every active key.
    pub keys: Vec<Key>,
    /// How far a signed time may be from the clock, either way; zero switches that off.
    pub tolerance: Duration,
    /// Where its fields stand.
    pub fields: Fields,
}

/// A request that a holder of a key has signed. Only such a one is decoded.
#[derive(Clone, Debug)]
pub struct Verified<'a, 'r>(&'a Request<'r>);

impl Source {
    /// `request`, if it is signed with one of the keys, and lately.
    ///
    /// # Errors
    /// [`Refusal`]: the same for every failure of a kind.
    pub fn verify<'a, 'r>(&self, request: &'a Request<'r>, now: Timestamp) -> Result<Verified<'a, 'r>, Refusal> {
        let claim = self.signing.claim(request).map_err(|_| Refusal::InvalidSignature)?;
        claim.check(&self.keys, self.tolerance, now)?;
        Ok(Verified(request))
    }

    /// What an event came to, that `verified` brought in `document`.
    ///
    /// # Errors
    /// Every field that was not found.
    pub fn extract(&self, verified: &Verified<'_, '_>, document: &Document<'_>) -> Result<Extract, Vec<Lost>> {
        self.fields.extract(verified.0, document)
    }

    /// What is answered to `document` if it is no event but a handshake.
    #[must_use]
    pub fn handshake(&self, document: &Document<'_>) -> Option<Reply> {
        match self.signing.handshake() {
            Handshake::Signed(read) => read(document),
            Handshake::None | Handshake::Subscription => None,
        }
    }
}

impl<'r> Verified<'_, 'r> {
    /// Its body, to be looked into.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn document(&self) -> Result<Document<'r>, Undecodable> {
        Document::read(self.0)
    }
}

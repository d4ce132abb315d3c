//! HMAC (RFC 2104), used for every signature with a shared secret, of requests and of deliveries.

use hmac::digest::{KeyInit, Output};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

/// HMAC with SHA-1, which is still secure inside HMAC.
pub(super) type HmacSha1 = Hmac<Sha1>;
pub(super) type HmacSha256 = Hmac<Sha256>;
pub(super) type HmacSha512 = Hmac<Sha512>;

/// HMAC state prepared from a secret once, and cloned for each message. Never shown.
#[derive(Clone)]
pub(crate) struct HmacKey<M = HmacSha256>(M);

impl<M: Mac + KeyInit + Clone> HmacKey<M> {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(<M as Mac>::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// Computes the tag over `pieces` in their order.
    pub(crate) fn tag(&self, pieces: &[impl AsRef<[u8]>]) -> Output<M> {
        let mut mac = self.0.clone();
        pieces.iter().for_each(|piece| mac.update(piece.as_ref()));
        mac.finalize().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 2 of RFC 4231, its message whole and cut in two.
    #[test]
    fn the_rfc_vector_holds_wherever_pieces_meet() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let key = <HmacKey>::new(b"Jefe");
        assert_eq!(
            hex::encode(key.tag(&["what do ya want ", "for nothing?"])),
            expected
        );
        assert_eq!(
            hex::encode(key.tag(&["what do ya want for nothing?", ""])),
            expected
        );
    }
}

//! HubSpot, in the three versions of its signature.
//!
//! | version | headers | made of |
//! |---|---|---|
//! | v1 | `X-HubSpot-Signature`, `-Version: v1` | SHA-256 of secret, body |
//! | v2 | `X-HubSpot-Signature`, `-Version: v2` | SHA-256 of secret, method, URL, body |
//! | v3 | `X-HubSpot-Signature-v3`, `X-HubSpot-Request-Timestamp` | HMAC-SHA256 of method, URL, body, time |
//!
//! Where a request has the third it counts, since only that covers a time; a request that has the time of the third must have
//! that, or somebody took it away.
//!
//! The earlier two are no HMAC: who saw one request knows the hash of that followed by padding and by anything else (length
//! extension). The padding begins with the byte 0x80 behind a whole character, and no UTF-8 has that, so they are believed of JSON
//! only. A form would take the padding for a part of its last value, and `Content-Type` is not signed.

use std::borrow::Cow;

use super::{Defaults, Preset, Signing, USUAL_TOLERANCE};
use crate::provider::body::{Document, Format};
use crate::provider::claim::{Claim, Layout, Proof};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::{Algorithm, Key};
use crate::provider::no_claim::NoClaim;
use crate::provider::request::Request;
use crate::provider::scheme::needed;

pub(super) static PRESET: Preset = Preset {
    name: "hubspot",
    signing: Signing::Own { key: Key::secret, claim },
    tolerance: Some(USUAL_TOLERANCE),
    defaults: Defaults::NONE,
    handshake: Handshake::None,
};

const V3: &str = "x-hubspot-signature-v3";
const TIMESTAMP: &str = "x-hubspot-request-timestamp";
const EARLIER: &str = "x-hubspot-signature";
const VERSION: &str = "x-hubspot-signature-version";

/// The escapes that HubSpot undoes in a URL before it signs that (v3).
const UNDONE: [(&str, char); 11] = [
    ("%3A", ':'),
    ("%2F", '/'),
    ("%3F", '?'),
    ("%40", '@'),
    ("%21", '!'),
    ("%24", '$'),
    ("%27", '\''),
    ("%28", '('),
    ("%29", ')'),
    ("%2A", '*'),
    ("%2C", ','),
];

fn claim<'r>(request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
    let has = |wanted| request.headers.iter().any(|(name, _)| *name == wanted);
    if has(V3) {
        return claim_v3(request);
    }
    if has(TIMESTAMP) {
        return Err(NoClaim::Downgraded(TIMESTAMP.to_owned()));
    }
    claim_earlier(request)
}

fn claim_v3<'r>(request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
    let signature = Encoding::Base64.decode(needed(request, V3)?);
    let signature = signature.ok_or_else(|| NoClaim::malformed(V3, "a signature in base64"))?;
    let time = needed(request, TIMESTAMP)?;
    Ok(Claim {
        header: V3,
        proofs: vec![Proof { algorithm: Algorithm::HmacSha256, signatures: vec![signature] }],
        layout: Layout::Fixed("{method}{url}{body}{timestamp}"),
        signed: vec![
            request.method.as_bytes().into(),
            undo_escapes(request.url),
            request.body.into(),
            time.as_bytes().into(),
        ],
        time: Some(time),
    })
}

fn claim_earlier<'r>(request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
    let signature = Encoding::Hex.decode(needed(request, EARLIER)?);
    let signature = signature.ok_or_else(|| NoClaim::malformed(EARLIER, "a signature in hex"))?;
    if !Document::read(request).is_ok_and(|document| document.format() == Format::Json) {
        return Err(NoClaim::Extensible);
    }
    let (layout, signed): (_, Vec<Cow<'r, [u8]>>) = match needed(request, VERSION)? {
        "v1" => ("{body}", vec![request.body.into()]),
        "v2" => (
            "{method}{url}{body}",
            vec![request.method.as_bytes().into(), request.url.as_bytes().into(), request.body.into()],
        ),
        _ => return Err(NoClaim::malformed(VERSION, "v1 or v2")),
    };
    let proofs = vec![Proof { algorithm: Algorithm::Sha256, signatures: vec![signature] }];
    Ok(Claim { header: EARLIER, proofs, layout: Layout::Fixed(layout), signed, time: None })
}

fn undo_escapes(url: &str) -> Cow<'_, [u8]> {
    if !url.contains('%') {
        return Cow::Borrowed(url.as_bytes());
    }
    let mut plain = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = rest.get(..3).unwrap_or(rest);
        let undone = UNDONE.iter().find(|(known, _)| known.eq_ignore_ascii_case(escape));
        let (text, length) = undone.map_or(('%', 1), |(_, character)| (*character, 3));
        plain.push(text);
        rest = &rest[length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_escapes_are_undone() {
        let table = [
            ("https://x.test/a", "https://x.test/a"),
            ("https://x.test/a%2fb%3Fc?d=%40e%20f", "https://x.test/a/b?c?d=@e%20f"),
            ("%", "%"),
            ("%2", "%2"),
            ("%252F", "%252F"),
            ("%%2F", "%/"),
            ("%ä", "%ä"),
        ];
        for (url, expected) in table {
            assert_eq!(undo_escapes(url), expected.as_bytes(), "{url}");
        }
    }
}

//! A way of signing that a table describes: which header, which algorithm, over what. Most presets are one, and so is a
//! scheme of one's own.

use std::borrow::Cow;

use super::claim::{Claim, Layout, Proof, SIGNATURES_MAX};
use super::encoding::Encoding;
use super::key::{Algorithm, BadKey, Key};
use super::no_claim::NoClaim;
use super::request::Request;
use super::template::{Part, Template};

/// How a sender signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A signature in a header.
    Signature {
        /// The header, in lower case.
        header: Cow<'static, str>,
        /// What stands before the signature.
        prefix: Cow<'static, str>,
        /// HMAC or Ed25519.
        algorithm: Algorithm,
        /// The signature's spelling.
        encoding: Encoding,
        /// What is signed.
        signed: Template,
        /// The header with the time, if that is signed.
        timestamp_header: Option<Cow<'static, str>>,
        /// The header with the id, if that is signed.
        id_header: Option<Cow<'static, str>>,
    },
    /// The secret itself in a header.
    Token {
        /// The header, in lower case.
        header: Cow<'static, str>,
        /// What stands before the secret, such as `Bearer `.
        prefix: Cow<'static, str>,
    },
    /// `Authorization: Basic`, or the same in another header.
    Basic {
        /// The header, in lower case.
        header: Cow<'static, str>,
    },
}

impl Scheme {
    /// A signature over the body alone, in `encoding` after `prefix`.
    #[must_use]
    pub const fn of_body(header: &'static str, prefix: &'static str, algorithm: Algorithm, encoding: Encoding) -> Self {
        Self::Signature {
            header: Cow::Borrowed(header),
            prefix: Cow::Borrowed(prefix),
            algorithm,
            encoding,
            signed: Template::BODY,
            timestamp_header: None,
            id_header: None,
        }
    }

    /// An HMAC-SHA256 over what `signed` makes of time and body.
    #[must_use]
    pub const fn timed(
        header: &'static str,
        prefix: &'static str,
        encoding: Encoding,
        timestamp_header: &'static str,
        signed: &'static [Part],
    ) -> Self {
        Self::Signature {
            header: Cow::Borrowed(header),
            prefix: Cow::Borrowed(prefix),
            algorithm: Algorithm::HmacSha256,
            encoding,
            signed: Template::fixed(signed),
            timestamp_header: Some(Cow::Borrowed(timestamp_header)),
            id_header: None,
        }
    }

    /// Reads one of its secrets.
    ///
    /// # Errors
    /// [`BadKey`] if it is not what the algorithm needs.
    pub fn key(&self, text: &str) -> Result<Key, BadKey> {
        match self {
            Self::Signature { algorithm: Algorithm::Ed25519, .. } => Key::public(text),
            Self::Signature { .. } | Self::Token { .. } => Key::secret(text),
            Self::Basic { .. } => Key::login(text),
        }
    }

    /// The header that proves who sends, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        match self {
            Self::Signature { header, .. } | Self::Token { header, .. } | Self::Basic { header } => header,
        }
    }

    /// Whether the time is part of what is signed.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        matches!(self, Self::Signature { timestamp_header: Some(_), .. })
    }

    /// What `request` claims.
    ///
    /// # Errors
    /// [`NoClaim`] if a header is missing or malformed.
    pub fn claim<'r>(&'r self, request: &Request<'r>) -> Result<Claim<'r>, NoClaim> {
        match self {
            Self::Signature { header, prefix, algorithm, encoding, signed, timestamp_header, id_header } => {
                let optional =
                    |name: &Option<Cow<'static, str>>| name.as_ref().map(|name| needed(request, name)).transpose();
                let signatures = split(needed(request, header)?, prefix, *encoding)
                    .ok_or_else(|| NoClaim::malformed(header, expected(prefix, *encoding)))?;
                let (time, id) = (optional(timestamp_header)?, optional(id_header)?);
                Ok(Claim {
                    header,
                    proofs: vec![Proof { algorithm: *algorithm, signatures }],
                    layout: Layout::Template(signed),
                    signed: signed.fill(request, time, id)?,
                    time,
                })
            }
            Self::Token { header, prefix } => {
                let given = strip(needed(request, header)?, prefix)
                    .ok_or_else(|| NoClaim::malformed(header, format!("`{prefix}` and a token")))?;
                Ok(secret_itself(header, given.as_bytes().to_vec()))
            }
            Self::Basic { header } => {
                let given =
                    strip(needed(request, header)?, "basic ").and_then(|text| Encoding::Base64.decode(text.trim()));
                let expected = || NoClaim::malformed(header, "`Basic ` and user:password in base64");
                Ok(secret_itself(header, given.ok_or_else(expected)?))
            }
        }
    }
}

/// The header `name` of `request`.
pub(super) fn needed<'r>(request: &Request<'r>, name: &str) -> Result<&'r str, NoClaim> {
    request.header(name).ok_or_else(|| NoClaim::NoHeader(name.to_owned()))
}

fn secret_itself<'r>(header: &'r str, given: Vec<u8>) -> Claim<'r> {
    let proof = Proof { algorithm: Algorithm::Token, signatures: vec![given] };
    Claim { header, proofs: vec![proof], layout: Layout::Fixed(""), signed: Vec::new(), time: None }
}

/// The signatures in a header's `value`: one, or several after each other with commas between, each with its prefix.
fn split(value: &str, prefix: &str, encoding: Encoding) -> Option<Vec<Vec<u8>>> {
    let one = |text: &str| encoding.decode(strip(text.trim(), prefix)?);
    let signatures: Vec<_> = value.split(',').filter_map(one).take(SIGNATURES_MAX).collect();
    (!signatures.is_empty()).then_some(signatures)
}

/// `value` after `prefix`, in whichever case that is.
fn strip<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn expected(prefix: &str, encoding: Encoding) -> String {
    let name = Encoding::ALL.iter().find(|(_, each)| *each == encoding).map_or("", |(name, _)| name);
    match prefix {
        "" => format!("a signature in {name}"),
        prefix => format!("`{prefix}` and a signature in {name}"),
    }
}

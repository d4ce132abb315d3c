//! Text encodings of the bytes of a signature in a header.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Base64 padding is optional: senders disagree on it, and it carries no information.
const RELAXED: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, RELAXED);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, RELAXED);

/// Encoding of bytes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Two hexadecimal digits for each byte, in either case.
    Hex,
    /// Base64 with the standard alphabet (RFC 4648, section 4).
    Base64,
    /// Base64 with the URL-safe alphabet (RFC 4648, section 5).
    Base64Url,
}

impl SignatureEncoding {
    /// Every encoding with its name in a configuration.
    pub const ALL: [(&'static str, Self); 3] = [
        (Self::Hex.name(), Self::Hex),
        (Self::Base64.name(), Self::Base64),
        (Self::Base64Url.name(), Self::Base64Url),
    ];

    /// Returns the name of the encoding in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
        }
    }

    /// Decodes `text`; `None` if it is not in this encoding.
    #[must_use]
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => BASE64.decode(text).ok(),
            Self::Base64Url => BASE64URL.decode(text).ok(),
        }
    }

    /// Encodes `bytes` as text; base64 with padding.
    #[must_use]
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
            Self::Base64Url => BASE64URL.encode(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_reads_what_it_writes() {
        let bytes: Vec<u8> = (0..=255).collect();
        for (name, encoding) in SignatureEncoding::ALL {
            assert_eq!(
                encoding.decode(&encoding.encode(&bytes)).as_ref(),
                Some(&bytes),
                "{name}"
            );
        }
    }

    #[test]
    fn case_and_padding_are_free_and_alphabets_are_not() {
        assert_eq!(SignatureEncoding::Hex.decode("fB"), Some(vec![0xfb]));
        for text in ["+/8=", "+/8"] {
            assert_eq!(
                SignatureEncoding::Base64.decode(text),
                Some(vec![0xfb, 0xff]),
                "{text}"
            );
            assert_eq!(SignatureEncoding::Base64Url.decode(text), None, "{text}");
        }
        assert_eq!(
            SignatureEncoding::Base64Url.decode("-_8"),
            Some(vec![0xfb, 0xff])
        );
        assert_eq!(SignatureEncoding::Hex.decode("f"), None);
    }
}

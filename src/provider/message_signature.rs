//! HTTP message signatures (RFC 9421): the sender signs components of the request that it names,
//! among them the digest of the body (RFC 9530).
//!
//! ```text
//! Content-Digest:  sha-256=:<hash of the body>:
//! Signature-Input: sig1=("@method" "@path" "content-digest");created=1764374400;keyid="k1"
//! Signature:       sig1=:<signature>:
//!
//! signed: "@method": POST
//!         "@path": /in/crm
//!         "content-digest": sha-256=:<hash of the body>:
//!         "@signature-params": ("@method" "@path" "content-digest");created=1764374400;keyid="k1"
//! ```
//!
//! A sender chooses the components, so the scheme names those that must be among them. The key
//! decides about the algorithm, never the request.

use std::borrow::Cow;
use std::collections::HashSet;

use sfv::{BareItem, Dictionary, FieldType, InnerList, Item, List, ListEntry, Parser};
use sha2::{Digest, Sha256, Sha512};
use url::{Position, Url};

use super::claim_error::ClaimError;
use super::key::SignatureAlgorithm;
use super::request::RequestView;
use super::signature_claim::{
    SIGNATURES_MAX, SignatureClaim, SignatureSet, SignedContentLayout, SignedTime,
};
use super::signed_content::SignedContent;
use crate::event::Timestamp;

/// Header with the signatures, by label.
pub(super) const SIGNATURE_HEADER: &str = "signature";
/// Header with the signed components and parameters of each signature, by label.
const INPUT_HEADER: &str = "signature-input";
/// Header with the digest of the body. Every signature must cover it.
const DIGEST_HEADER: &str = "content-digest";
/// Most components of one signature. Each can be as long as a header.
const COMPONENTS_MAX: usize = 64;

/// Components of a request that are no headers (RFC 9421, section 2.2).
const DERIVED_COMPONENTS: [&str; 7] = [
    "@method",
    "@target-uri",
    "@authority",
    "@scheme",
    "@request-target",
    "@path",
    "@query",
];

/// Description of the message signatures of one sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSignatureScheme {
    /// Algorithm of the signature; a request that names another one is refused.
    pub algorithm: SignatureAlgorithm,
    /// Label of the signature; without it, any signature counts that covers enough.
    pub label: Option<Box<str>>,
    /// Components that a signature must cover, besides the digest of the body.
    pub covers: Vec<SignedComponent>,
}

/// Name of a component: a header in lower case, or a derived one such as `@method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedComponent(Box<str>);

/// Text that names no component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the name of a header, or one of @method, @target-uri, @authority, @scheme, \
     @request-target, @path and @query"
)]
pub struct SignedComponentError;

impl SignedComponent {
    /// Parses the name of a component.
    ///
    /// # Errors
    /// [`SignedComponentError`] for other text.
    pub fn parse(text: &str) -> Result<Self, SignedComponentError> {
        if DERIVED_COMPONENTS.contains(&text) {
            return Ok(Self(text.into()));
        }
        let header = super::locator::parse_header_name(text).ok_or(SignedComponentError)?;
        Ok(Self(header.into()))
    }
}

impl MessageSignatureScheme {
    /// Returns the name of `algorithm` in a request (RFC 9421, section 6.2.2); `None` if there is
    /// none.
    #[must_use]
    pub const fn algorithm_name(algorithm: SignatureAlgorithm) -> Option<&'static str> {
        match algorithm {
            SignatureAlgorithm::HmacSha256 => Some("hmac-sha256"),
            SignatureAlgorithm::Ed25519 => Some("ed25519"),
            SignatureAlgorithm::EcdsaP256Fixed => Some("ecdsa-p256-sha256"),
            SignatureAlgorithm::RsaSha256 => Some("rsa-v1_5-sha256"),
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::EcdsaP256
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Token => None,
        }
    }

    /// Tells if every signature covers the header `name`, in lower case.
    pub(super) fn covers_header(&self, name: &str) -> bool {
        self.covers.iter().any(|component| *component.0 == *name)
    }

    /// Returns true if a component that must be signed has the host or the whole URL.
    #[must_use]
    pub(super) fn covers_url(&self) -> bool {
        const OF_URL: [&str; 3] = ["@authority", "@scheme", "@target-uri"];
        let mut covers = self.covers.iter();
        covers.any(|component| OF_URL.contains(&&*component.0))
    }

    /// Reads the claim of `request`, without checking its signature.
    pub(super) fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        let inputs = read_dictionary(request, INPUT_HEADER)?;
        let signatures = read_dictionary(request, SIGNATURE_HEADER)?;
        check_digest(request)?;

        // A sender that changes its key signs with both, and a proxy may add a signature of its own.
        let mut problem = None;
        let mut claims = Vec::new();
        for (label, input) in self.choose_inputs(&inputs) {
            match self.read_signature(request, signatures.get(label), input) {
                Ok(claim) => claims.push(claim),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        let mut claims = claims.into_iter();
        let Some(first) = claims.next() else {
            let expected = "a signature with the configured label, algorithm and components, content-digest \
                 among them";
            return Err(problem.unwrap_or_else(|| ClaimError::malformed(INPUT_HEADER, expected)));
        };
        Ok(SignatureClaim {
            others: claims.collect(),
            ..first
        })
    }

    /// Reads the claim of one signature over the components that `input` names.
    fn read_signature<'r>(
        &'r self,
        request: &RequestView<'r>,
        signature: Option<&ListEntry>,
        input: &InnerList,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        let signature = signature
            .and_then(as_bytes)
            .ok_or_else(|| ClaimError::malformed(SIGNATURE_HEADER, "a signature in bytes"))?;
        let base = signature_base(request, input)?;
        let time = read_period(input)
            .ok_or_else(|| ClaimError::malformed(INPUT_HEADER, "created and expires as times"))?;
        Ok(SignatureClaim {
            header: SIGNATURE_HEADER,
            proofs: vec![SignatureSet {
                algorithm: self.algorithm,
                signatures: vec![signature.to_vec()],
            }],
            layout: SignedContentLayout::Fixed("signature base of RFC 9421"),
            // Each component has its name and a line of its own, and no value has a line break.
            signed: SignedContent::without_cut_check(vec![Cow::Owned(base.into_bytes())]),
            alternatives: Vec::new(),
            time: Some(time),
            covers_body: true,
            others: Vec::new(),
        })
    }

    /// Returns the label and the input of each signature that this scheme may be about, at most 8.
    fn choose_inputs<'i>(
        &self,
        inputs: &'i Dictionary,
    ) -> impl Iterator<Item = (&'i str, &'i InnerList)> {
        let fitting = inputs.iter().filter_map(|(label, entry)| {
            let ListEntry::InnerList(input) = entry else {
                return None;
            };
            let is_named = self
                .label
                .as_ref()
                .is_none_or(|name| **name == *label.as_str());
            (is_named && self.accepts(input)).then_some((label.as_str(), input))
        });
        fitting.take(SIGNATURES_MAX)
    }

    /// Returns true if a signature with this `input` covers enough, by the configured algorithm.
    fn accepts(&self, input: &InnerList) -> bool {
        let covers = |name: &str| {
            input.items.iter().any(|item| {
                let known = item.bare_item.as_string().map(|text| text.as_str());
                known == Some(name) && item.params.is_empty()
            })
        };
        let algorithm = input.params.get("alg").map(|alg| {
            let alg = alg.as_string().map(|text| text.as_str());
            alg.is_some() && alg == Self::algorithm_name(self.algorithm)
        });
        covers(DIGEST_HEADER)
            && self.covers.iter().all(|component| covers(&component.0))
            && algorithm.unwrap_or(true)
    }
}

/// Reads the header `name`, whose lines are one dictionary (RFC 9651).
fn read_dictionary(request: &RequestView<'_>, name: &str) -> Result<Dictionary, ClaimError> {
    let value =
        join_header_lines(request, name).ok_or_else(|| ClaimError::NoHeader(name.to_owned()))?;
    Parser::new(&value)
        .parse()
        .map_err(|_| ClaimError::malformed(name, "a dictionary of RFC 9651"))
}

/// Joins the lines of the header `name` as RFC 9421, section 2.1, tells; `None` if there is none.
fn join_header_lines(request: &RequestView<'_>, name: &str) -> Option<String> {
    let lines: Vec<_> = request.header_lines(name).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn as_bytes(entry: &ListEntry) -> Option<&[u8]> {
    match entry {
        ListEntry::Item(item) => item.bare_item.as_byte_sequence(),
        ListEntry::InnerList(_) => None,
    }
}

/// Checks the body against its digests. Those of unknown algorithms do not count (RFC 9530).
fn check_digest(request: &RequestView<'_>) -> Result<(), ClaimError> {
    let digests = read_dictionary(request, DIGEST_HEADER)?;
    let body = request.body;
    let mut known = digests
        .iter()
        .filter_map(|(name, entry)| match name.as_str() {
            "sha-256" => Some(as_bytes(entry) == Some(&*Sha256::digest(body))),
            "sha-512" => Some(as_bytes(entry) == Some(&*Sha512::digest(body))),
            _ => None,
        })
        .peekable();
    if known.peek().is_none() {
        let expected = "a digest with sha-256 or sha-512";
        return Err(ClaimError::malformed(DIGEST_HEADER, expected));
    }
    known
        .all(|is_same| is_same)
        .then_some(())
        .ok_or(ClaimError::OtherBody)
}

/// Builds the signed text (RFC 9421, section 2.5).
fn signature_base(request: &RequestView<'_>, input: &InnerList) -> Result<String, ClaimError> {
    let malformed = |expected: &str| ClaimError::malformed(INPUT_HEADER, expected);
    if input.items.len() > COMPONENTS_MAX {
        return Err(malformed("at most 64 components"));
    }

    let (mut base, mut seen) = (String::new(), HashSet::new());
    for item in &input.items {
        let name = component_name(item)
            .ok_or_else(|| malformed("components by name, without parameters"))?;
        if !seen.insert(name) {
            return Err(malformed("each component once"));
        }
        let value = component_value(request, name)?;
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    let parameters = List::from([ListEntry::InnerList(input.clone())]).serialize();
    let parameters = parameters.ok_or_else(|| malformed("a list of components"))?;
    base.push_str(&format!("\"@signature-params\": {parameters}"));
    Ok(base)
}

/// Returns the name of a component; `None` for one with parameters, which select a part of it.
fn component_name(item: &Item) -> Option<&str> {
    let name = item.bare_item.as_string()?.as_str();
    let is_header = !name.starts_with('@')
        && !name.is_empty()
        && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    (item.params.is_empty() && (is_header || DERIVED_COMPONENTS.contains(&name))).then_some(name)
}

/// Returns the value of the component `name` in `request`.
fn component_value(request: &RequestView<'_>, name: &str) -> Result<String, ClaimError> {
    if !name.starts_with('@') {
        return join_header_lines(request, name)
            .ok_or_else(|| ClaimError::NoHeader(name.to_owned()));
    }
    let url = Url::parse(request.url)
        .map_err(|_| ClaimError::malformed("host", "the host that the sender called"))?;
    Ok(match name {
        "@method" => request.method.to_owned(),
        "@target-uri" => request.url.to_owned(),
        // The parser has written the host in small letters, without the scheme's own port.
        "@authority" => url[Position::BeforeHost..Position::AfterPort].to_owned(),
        "@scheme" => url.scheme().to_owned(),
        "@path" => request.path().to_owned(),
        "@query" => format!("?{}", request.query()),
        _ if request.url.contains('?') => format!("{}?{}", request.path(), request.query()),
        _ => request.path().to_owned(),
    })
}

/// Reads the time of the signature and its end; `None` if one of them is no time.
fn read_period(input: &InnerList) -> Option<SignedTime<'static>> {
    let read = |name: &str| match input.params.get(name) {
        Some(value) => parse_seconds(value).map(Some),
        None => Some(None),
    };
    Some(SignedTime::Period {
        made_at: read("created")?,
        ends_at: read("expires")?,
    })
}

fn parse_seconds(value: &BareItem) -> Option<Timestamp> {
    let seconds = i64::from(value.as_integer()?);
    seconds.checked_mul(1_000_000).map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};
    use crate::provider::encoding::SignatureEncoding;
    use crate::provider::key::VerificationKey;
    use crate::provider::signature_claim::VerificationError;

    /// Request of RFC 9421, appendix B.2.
    const BODY: &str = r#"{"hello": "world"}"#;
    const URL: &str = "https://example.com/foo?param=Value&Pet=dog";
    const HEADERS: [(&str, &str); 5] = [
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
    ];
    /// Shared secret of appendix B.1.5, and Ed25519 key of B.1.4.
    const SECRET: &str =
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    const ED25519: &str = "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";

    fn request<'r>(more: &[(&'r str, &'r str)], body: &'r str) -> RequestView<'r> {
        let headers = HEADERS.iter().chain(more);
        RequestView {
            method: "POST",
            url: URL,
            headers: headers
                .map(|(name, value)| (*name, value.as_bytes()))
                .collect(),
            body: body.as_bytes(),
        }
    }

    fn input_of(text: &str) -> InnerList {
        let inputs: Dictionary = Parser::new(text).parse().expect("a dictionary");
        match inputs.get_index(0).expect("an input").1 {
            ListEntry::InnerList(input) => input.clone(),
            ListEntry::Item(_) => panic!("an item"),
        }
    }

    /// Examples of appendices B.2.2, B.2.5 and B.2.6. They need not cover the body, so the base is
    /// checked alone, and then its signature.
    #[test]
    fn the_examples_of_the_standard_have_their_base_and_verify() {
        let request = request(&[], BODY);
        let base = |input: &str| signature_base(&request, &input_of(input)).expect("a base");
        let hmac = base(
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        );
        assert_eq!(
            hmac,
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\
             \"content-type\": application/json\n\"@signature-params\": (\"date\" \"@authority\" \
             \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
        );
        let verifies = |key: VerificationKey, algorithm, base: &str, signature: &str| {
            let signature = SignatureEncoding::Base64.decode(signature).expect("base64");
            let signed = [Cow::Borrowed(base.as_bytes())];
            bool::from(key.matches_any(algorithm, &signed, &[signature]))
        };
        let secret = SignatureEncoding::Base64.decode(SECRET).expect("base64");
        assert!(verifies(
            VerificationKey::Secret(zeroize::Zeroizing::new(secret)),
            SignatureAlgorithm::HmacSha256,
            &hmac,
            "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
        ));

        let ed25519 = base(
            r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
        );
        assert!(verifies(
            VerificationKey::from_public(ED25519).expect("a key"),
            SignatureAlgorithm::Ed25519,
            &ed25519,
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
        ));
    }

    fn scheme(covers: &[&str]) -> MessageSignatureScheme {
        MessageSignatureScheme {
            algorithm: SignatureAlgorithm::HmacSha256,
            label: None,
            covers: covers
                .iter()
                .map(|name| SignedComponent::parse(name).expect("a component"))
                .collect(),
        }
    }

    fn sign(input: &str) -> String {
        let base = signature_base(&request(&[], BODY), &input_of(&format!("s={input}")));
        let secret = SignatureEncoding::Base64.decode(SECRET).expect("base64");
        let key = crate::provider::hmac::HmacKey::<crate::provider::hmac::HmacSha256>::new(&secret);
        let tag = key.tag(&[base.expect("a base").as_bytes()]);
        SignatureEncoding::Base64.encode(tag.as_ref())
    }

    fn check(
        scheme: &MessageSignatureScheme,
        input: &str,
        signature: &str,
        body: &str,
    ) -> Result<(), String> {
        let headers = [("signature-input", input), ("signature", signature)];
        let request = request(&headers, body);
        let claim = scheme
            .read_claim(&request)
            .map_err(|error| error.to_string())?;
        let secret = SignatureEncoding::Base64.decode(SECRET).expect("base64");
        let keys = [VerificationKey::Secret(zeroize::Zeroizing::new(secret))];
        let now = Timestamp::from_micros(1_618_884_500 * 1_000_000);
        let checked = claim.check(&keys, Duration::from_secs(300), now);
        checked
            .map(drop)
            .map_err(|error: VerificationError| error.to_string())
    }

    const INPUT: &str = r#"("@method" "@target-uri" "content-digest");created=1618884473"#;

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_signature_is_read_or_refused(
            input in damaged_text(&[
                r#"sig1=("@method" "@authority" "content-digest";sf "@query-param";name="Pet");created=1618884473;keyid="k""#,
                r#"a=(), b=("date" "@target-uri");expires=-9223372036854775808;alg="hmac-sha256""#,
            ]),
            signature in damaged_text(&["sig1=:AAAA:", "a=:+/==:, b=?1;c=2.5"]),
            digest in damaged_text(&[HEADERS[3].1, "sha-256=:AAAA:"]),
        ) {
            let headers = [
                ("signature-input", input.as_bytes()),
                ("signature", signature.as_bytes()),
                ("content-digest", digest.as_bytes()),
                ("date", HEADERS[1].1.as_bytes()),
            ];
            let request = RequestView { headers: headers.to_vec(), ..request(&[], BODY) };
            for covers in [&[][..], &["@method", "@query", "content-digest"]] {
                let _ = scheme(covers).read_claim(&request);
            }
        }
    }

    #[test]
    fn a_request_is_signed_with_its_body() {
        let signature = format!("s=:{}:", sign(INPUT));
        let input = format!("s={INPUT}");
        let scheme = scheme(&["@method", "@target-uri"]);
        assert_eq!(check(&scheme, &input, &signature, BODY), Ok(()));
        let other = check(&scheme, &input, &signature, r#"{"hello": "World"}"#);
        assert!(
            other
                .clone()
                .is_err_and(|error| error.contains("does not match the hash")),
            "{other:?}"
        );
        let later = input.replace("473", "474");
        assert!(check(&scheme, &later, &signature, BODY).is_err());
    }

    #[test]
    fn a_signature_must_cover_the_digest_and_the_configured_components() {
        let signed = |input: &str| (format!("s={input}"), format!("s=:{}:", sign(input)));
        for (covers, input) in [
            (&[][..], r#"("@method");created=1618884473"#),
            (&["@path"], INPUT),
            (&[], r#"("content-digest";sf);created=1618884473"#),
        ] {
            let input_header = format!("s={input}");
            let outcome = check(&scheme(covers), &input_header, "s=:AAAA:", BODY);
            assert!(
                outcome
                    .clone()
                    .is_err_and(|error| error.contains("content-digest")),
                "{input}: {outcome:?}"
            );
        }
        for input in [
            r#"("content-digest" "content-digest");created=1618884473"#,
            r#"("content-digest" "@query-param";name="Pet");created=1618884473"#,
            r#"("content-digest" "x-missing");created=1618884473"#,
            r#"("content-digest" "@status");created=1618884473"#,
            r#"("content-digest");created="soon""#,
        ] {
            let outcome = check(&scheme(&[]), &format!("s={input}"), "s=:AAAA:", BODY);
            assert!(outcome.is_err(), "{input}");
        }

        let (input, signature) = signed(r#"("content-digest")"#);
        let outcome = check(&scheme(&[]), &input, &signature, BODY);
        assert!(outcome.is_err(), "a signature without a time: {outcome:?}");
        let (input, signature) = signed(r#"("content-digest");created=1618884473;alg="ed25519""#);
        assert!(check(&scheme(&[]), &input, &signature, BODY).is_err());
        let (input, signature) =
            signed(r#"("content-digest");created=1618884473;alg="hmac-sha256""#);
        assert_eq!(check(&scheme(&[]), &input, &signature, BODY), Ok(()));
    }

    #[test]
    fn another_signature_beside_the_senders_changes_nothing() {
        let signature = format!("s=:{}:, proxy=:AAAA:", sign(INPUT));
        let input = format!(r#"proxy=("@authority");created=1618884480, s={INPUT}"#);
        assert_eq!(
            check(&scheme(&["@method"]), &input, &signature, BODY),
            Ok(())
        );

        let both = format!("proxy={INPUT}, s={INPUT}");
        // While a sender changes its key, it signs with both: the request was refused.
        assert_eq!(check(&scheme(&[]), &both, &signature, BODY), Ok(()));
        let many: Vec<_> = (0..9).map(|index| format!("a{index}")).collect();
        let inputs = many.iter().map(|label| format!("{label}={INPUT}"));
        let inputs = inputs.chain([format!("s={INPUT}")]).collect::<Vec<_>>();
        let values = many.iter().map(|label| format!("{label}=:AAAA:"));
        let values = values.chain([signature.clone()]).collect::<Vec<_>>();
        let outcome = check(&scheme(&[]), &inputs.join(", "), &values.join(", "), BODY);
        assert!(
            outcome.is_err(),
            "the tenth is beyond the limit: {outcome:?}"
        );
        let labelled = MessageSignatureScheme {
            label: Some("s".into()),
            ..scheme(&[])
        };
        assert_eq!(check(&labelled, &both, &signature, BODY), Ok(()));
    }

    #[test]
    fn derived_components_have_the_values_of_the_standard() {
        let request = RequestView {
            url: "https://WWW.Example.com:443/a/b?c=d&e",
            ..request(&[], BODY)
        };
        for (name, value) in [
            ("@method", "POST"),
            ("@target-uri", "https://WWW.Example.com:443/a/b?c=d&e"),
            ("@authority", "www.example.com"),
            ("@scheme", "https"),
            ("@request-target", "/a/b?c=d&e"),
            ("@path", "/a/b"),
            ("@query", "?c=d&e"),
        ] {
            let found = component_value(&request, name).expect("a value");
            assert_eq!(found, value, "{name}");
        }
        let bare = RequestView {
            url: "https://example.com:8443",
            ..request
        };
        let value = |name| component_value(&bare, name).expect("a value");
        assert_eq!(
            [value("@authority"), value("@path"), value("@query")],
            ["example.com:8443", "/", "?"]
        );
    }
}

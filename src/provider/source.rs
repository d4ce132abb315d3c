//! One configured source: its signature scheme, its keys, and the location of its fields.

use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;

use super::body::{BodyRules, CharsetRule, DocumentError, RequestDocument};
use super::claim_error::ClaimError;
use super::event_schemas::EventSchemas;
use super::extract::{ExtractedFields, FieldLocators};
use super::form::FormCharset;
use super::handshake::{HandshakeReply, ProviderHandshake};
use super::items::{BatchItem, ItemPaths, TooManyItems};
use super::key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
use super::locator::FieldLocator;
use super::presets::{self, PresetAnswer, ProviderPreset};
use super::request::RequestView;
use super::scheme::SignatureScheme;
use super::signature_claim::{PERIOD_MAX, SignatureClaim, SignatureSet, VerificationError};
use super::signed_content::SignedContent;
use crate::event::{
    KeyReusePolicy, RequestReuseRule, SignedRequest, SignedRequestTag, Timestamp, tag_credential,
};

/// Signature scheme of a sender.
#[derive(Clone, Debug)]
pub enum SourceSigning {
    /// Scheme of a known provider.
    Preset(&'static ProviderPreset),
    /// Scheme that the configuration describes.
    Own(SignatureScheme),
}

impl SourceSigning {
    /// Parses one configured secret as a key of this scheme.
    ///
    /// # Errors
    /// [`VerificationKeyError`] if the scheme cannot use the secret.
    pub fn parse_key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match self {
            Self::Preset(preset) => preset.parse_key(text),
            Self::Own(scheme) => scheme.parse_key(text),
        }
    }

    /// Reads the signature claim of `request`, without checking it.
    ///
    /// # Errors
    /// [`ClaimError`] if a header is missing or malformed, or the body is not covered.
    pub fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        let claim = match self {
            Self::Preset(preset) => preset.read_claim(request),
            Self::Own(scheme) => scheme.read_claim(request),
        }?;
        let has_one_cut = |claim: &SignatureClaim<'_>| {
            let mut contents = claim.contents();
            contents.all(SignedContent::has_one_cut)
        };
        let has_one_cut = claim.every_claim().all(has_one_cut);
        has_one_cut.then_some(claim).ok_or(ClaimError::Ambiguous)
    }

    /// Returns true if the provider also sends forms. No header that is not signed chooses the
    /// format where it has only one.
    #[must_use]
    pub fn sends_forms(&self) -> bool {
        match self {
            Self::Preset(preset) => preset.sends_forms,
            Self::Own(_) => true,
        }
    }

    /// Returns the error of a header that the signature needs and that is missing or repeated. The
    /// headers alone decide it, so that such a request is refused before its body is read.
    #[must_use]
    pub fn find_header_error(&self, head: &RequestView<'_>) -> Option<ClaimError> {
        let error = self.read_claim(head).err()?;
        matches!(error, ClaimError::NoHeader(_) | ClaimError::Repeated(_)).then_some(error)
    }

    /// Header in which the scheme has its signature or secret, so that the call log can redact it;
    /// `None` for a preset with rules of its own, whose header names are known to the redaction.
    #[must_use]
    pub fn scheme_header(&self) -> Option<&str> {
        self.scheme().map(SignatureScheme::header)
    }

    /// Returns the scheme, if data alone describes it.
    fn scheme(&self) -> Option<&SignatureScheme> {
        match self {
            Self::Preset(preset) => preset.scheme(),
            Self::Own(scheme) => Some(scheme),
        }
    }

    /// Returns true if the secrets are logins, `user:password`.
    fn is_login(&self) -> bool {
        matches!(self.scheme(), Some(SignatureScheme::Basic { .. }))
    }

    /// Tells if the provider also sends events by `GET`, with the URL signed.
    #[must_use]
    pub fn sends_by_get(&self) -> bool {
        match self {
            Self::Preset(preset) => preset.facts.sends_by_get,
            Self::Own(_) => false,
        }
    }

    /// Answer that the provider expects to an event.
    #[must_use]
    pub fn answer(&self) -> PresetAnswer {
        match self {
            Self::Preset(preset) => preset.answer,
            Self::Own(_) => PresetAnswer::Event,
        }
    }

    /// Returns true if the signature covers the URL that the sender calls, which a proxy hides.
    #[must_use]
    pub fn signs_url(&self) -> bool {
        let is_in_scheme = self.scheme().is_some_and(SignatureScheme::covers_url);
        is_in_scheme
            || matches!(self, Self::Preset(preset) if presets::URL_SIGNERS.contains(&preset.name))
    }

    /// Tells if the signature covers a time and the body, so that it differs for each sending.
    #[must_use]
    pub fn signs_time(&self) -> bool {
        match self {
            Self::Preset(preset) => preset.tolerance.is_some(),
            Self::Own(scheme) => scheme.has_timestamp() && scheme.covers_body(),
        }
    }

    /// Names a credential without a signed time that the provider also sends.
    #[must_use]
    pub fn untimed_credential(&self) -> Option<&'static str> {
        match self {
            Self::Preset(preset) => preset.facts.untimed,
            Self::Own(_) => None,
        }
    }

    /// Tells if a token of anybody to whom the owner of a public key gives tokens is taken.
    #[must_use]
    pub fn takes_tokens_for_others(&self) -> bool {
        self.scheme().is_some_and(|scheme| match scheme {
            SignatureScheme::Jwt(jwt) => {
                jwt.algorithm.is_public() && jwt.audience.is_none() && jwt.issuer.is_none()
            }
            _ => false,
        })
    }

    /// Tells if the signature covers the body; a token or a login covers nothing.
    fn covers_body(&self) -> bool {
        self.scheme().is_none_or(SignatureScheme::covers_body)
    }

    /// Returns the largest body that the provider sends, in bytes, if that is more than a megabyte.
    #[must_use]
    pub fn body_bytes_max(&self) -> Option<usize> {
        match self {
            Self::Preset(preset) => preset.facts.body_bytes_max,
            Self::Own(_) => None,
        }
    }

    /// Tells if the provider has events of which no two have the same body.
    fn has_unique_bodies(&self) -> bool {
        match self {
            Self::Preset(preset) => preset.facts.is_unique_body.is_some(),
            Self::Own(_) => false,
        }
    }

    /// Tells if the signature covers the header `name`, in lower case.
    #[must_use]
    pub fn signs_header(&self, name: &str) -> bool {
        let is_known = match self {
            Self::Preset(preset) => preset.facts.signed_headers.contains(&name),
            Self::Own(_) => false,
        };
        is_known
            || self
                .scheme()
                .is_some_and(|scheme| scheme.signs_header(name))
    }

    /// Tells if the sender may sign the end of the time for which a signature holds.
    fn tells_end(&self) -> bool {
        let scheme = self.scheme();
        scheme.is_some_and(|scheme| {
            matches!(
                scheme,
                SignatureScheme::Jwt(_) | SignatureScheme::MessageSignature(_)
            )
        })
    }

    /// Returns the top-level members of an event that change when it is sent again.
    #[must_use]
    pub fn volatile_members(&self) -> &'static [&'static str] {
        match self {
            Self::Preset(preset) => preset.defaults.volatile,
            Self::Own(_) => &[],
        }
    }

    /// Handshake of the provider; none for a configured scheme.
    #[must_use]
    pub fn handshake(&self) -> ProviderHandshake {
        match self {
            Self::Preset(preset) => preset.handshake,
            Self::Own(_) => ProviderHandshake::None,
        }
    }
}

impl fmt::Display for SourceSigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => write!(f, "preset {}", preset.name),
            Self::Own(_) => f.write_str("a scheme of its own"),
        }
    }
}

/// Way in which the bodies of a source hold its events.
#[derive(Clone, Debug, Default)]
pub struct BodyLayout {
    /// Lists whose items are events; without any, a body is one event.
    pub items: ItemPaths,
    /// Fields of a form that hold the event as JSON.
    pub json_fields: Vec<Box<str>>,
    /// Accepts bodies that are compressed with gzip.
    pub decompress: bool,
    /// Character set of forms, if the operator tells it.
    pub charset: Option<FormCharset>,
}

/// One configured source, ready to verify requests and to find their fields.
#[derive(Clone, Debug)]
pub struct WebhookSource {
    /// Signature scheme of the sender.
    pub signing: SourceSigning,
    /// Active keys; a request may be signed with any of them.
    pub keys: Vec<VerificationKey>,
    /// Largest distance between the signed time and the clock, either way; zero accepts any time.
    pub tolerance: Duration,
    /// Refuses what proves no time, from a sender that may also sign one.
    pub requires_signed_time: bool,
    /// Location of each field in a request.
    pub fields: FieldLocators,
    /// Way in which a body holds events.
    pub layout: BodyLayout,
    /// Schemas of the events; none by default.
    pub schemas: EventSchemas,
}

/// A request with a valid signature. Only a verified request can be decoded.
#[derive(Clone, Debug)]
pub struct VerifiedRequest<'a, 'r> {
    request: &'a RequestView<'r>,
    source: &'a WebhookSource,
    /// Index of the key that the signature matches.
    key: usize,
    /// Tag of the signed bytes, if they are claimed.
    tag: Option<SignedRequestTag>,
    /// Rule for the signed bytes, if it is the same for every event.
    rule: Option<RequestReuseRule>,
}

impl WebhookSource {
    /// Reads the signature claim of `request`, without checking it.
    ///
    /// # Errors
    /// As for [`SourceSigning::read_claim`], and [`ClaimError::Untimed`] if the source requires a
    /// signed time.
    pub fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        let mut claim = self.signing.read_claim(request)?;
        if self.requires_signed_time {
            // A token beside the signature proves no time.
            let is_signature = |proof: &SignatureSet| proof.algorithm != SignatureAlgorithm::Token;
            claim.proofs.retain(is_signature);
            if claim.time.is_none() || claim.proofs.is_empty() {
                return Err(ClaimError::Untimed);
            }
        }
        Ok(claim)
    }

    /// Verifies that `request` is signed with one of the keys, at a time within the tolerance of
    /// `now`.
    ///
    /// # Errors
    /// [`VerificationError`], which does not tell what part of the signature is wrong.
    pub fn verify<'a, 'r>(
        &'a self,
        request: &'a RequestView<'r>,
        now: Timestamp,
    ) -> Result<VerifiedRequest<'a, 'r>, VerificationError> {
        let claim = self
            .read_claim(request)
            .map_err(|_| VerificationError::InvalidSignature)?;
        let found = claim.check(&self.keys, self.tolerance, now)?;
        let rule = claim.reuse_rule();
        let is_claimed = rule.is_some() || self.signing.has_unique_bodies();
        let key = self.keys.get(found.key).filter(|_| is_claimed);
        Ok(VerifiedRequest {
            request,
            source: self,
            key: found.key,
            tag: key.map(|key| found.tag(key)),
            rule,
        })
    }

    /// Secrets of the source. Public keys are none.
    pub fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().filter_map(|key| key.secret())
    }

    /// Lengths in bytes of the secrets that an attacker would have to guess; of a login, that of its
    /// password. Public keys are no secrets.
    pub fn secret_lengths(&self) -> impl Iterator<Item = usize> {
        let is_login = self.signing.is_login();
        self.keys.iter().filter_map(move |key| {
            let secret = key.secret()?;
            let user = secret.iter().position(|byte| *byte == b':');
            Some(secret.len() - user.filter(|_| is_login).map_or(0, |at| at + 1))
        })
    }

    /// Describes the fields of an event that anybody who captured a request can change; `None` if all
    /// of them are signed.
    #[must_use]
    pub fn describe_unsigned(&self) -> Option<String> {
        if !self.signing.covers_body() {
            return Some("everything: the credential fits any content".to_owned());
        }
        let fields = [
            ("entity", &self.fields.entity),
            ("event", &self.fields.event),
            ("idempotency_key", &self.fields.idempotency_key),
            ("occurred_at", &self.fields.occurred_at),
        ];
        let unsigned = fields.into_iter().filter_map(|(name, places)| {
            let headers = places.as_slice().iter().flat_map(FieldLocator::headers);
            let mut headers: Vec<_> = headers
                .filter(|header| !self.signing.signs_header(header))
                .collect();
            headers.sort_unstable();
            headers.dedup();
            (!headers.is_empty()).then(|| format!("{name} ({})", headers.join(", ")))
        });
        let unsigned: Vec<_> = unsigned.collect();
        (!unsigned.is_empty()).then(|| unsigned.join(", "))
    }

    /// Longest time for which a signature with a time is accepted; zero if no time is compared.
    #[must_use]
    pub fn signature_lifetime(&self) -> Duration {
        if self.tolerance.is_zero() {
            return Duration::ZERO;
        }
        match self.signing.tells_end() {
            true => 2 * self.tolerance.max(PERIOD_MAX),
            false => 2 * self.tolerance,
        }
    }

    /// Verifies a request that came compressed, as `sent`, and is `plain` without compression. Most
    /// senders sign the bytes that they send, some those that they compress.
    ///
    /// # Errors
    /// As for [`WebhookSource::verify`].
    pub fn verify_compressed<'a, 'r>(
        &'a self,
        sent: &'a RequestView<'r>,
        plain: &'a RequestView<'r>,
        now: Timestamp,
    ) -> Result<VerifiedRequest<'a, 'r>, VerificationError> {
        match self.verify(sent, now) {
            Ok(verified) => Ok(VerifiedRequest {
                request: plain,
                ..verified
            }),
            Err(refusal) => self.verify(plain, now).map_err(|_| refusal),
        }
    }

    /// Parses the body of `request`, verified or not.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse_document<'r>(
        &self,
        request: &RequestView<'r>,
    ) -> Result<RequestDocument<'r>, DocumentError> {
        if request.method == "GET" {
            return RequestDocument::from_query(request);
        }
        if !self.signing.sends_forms() {
            return RequestDocument::parse_json(request);
        }
        let (charset, judges_content) = match &self.signing {
            // A provider has one charset.
            SourceSigning::Preset(_) => (CharsetRule::Fixed(FormCharset::Utf8), true),
            SourceSigning::Own(scheme) if scheme.covers_body() => (CharsetRule::Signed, false),
            SourceSigning::Own(_) => (CharsetRule::Declared, false),
        };
        let rules = BodyRules {
            json_fields: &self.layout.json_fields,
            charset: self.layout.charset.map_or(charset, CharsetRule::Fixed),
            judges_content,
        };
        RequestDocument::parse_with(request, rules)
    }

    /// Returns the items of `document`, if the source sends several events in one body and this is
    /// one of those bodies.
    ///
    /// # Errors
    /// [`TooManyItems`].
    pub fn split_items<'a>(
        &'a self,
        document: &'a RequestDocument<'_>,
    ) -> Result<Option<Vec<BatchItem<'a, 'a>>>, TooManyItems> {
        self.layout.items.split(document.json())
    }

    /// Treatment of the event with the fields `found` if its key was used for another one. A key counts
    /// as unique only if the operator said so, and if nobody but the sender can have chosen it.
    #[must_use]
    pub fn key_reuse_policy(&self, found: &ExtractedFields) -> KeyReusePolicy {
        let fields = &self.fields;
        let place = found.used.idempotency_key;
        let place = place.and_then(|index| fields.idempotency_key.as_slice().get(index));
        let is_unsigned = |header: &str| !self.signing.signs_header(header);
        match place {
            Some(place) if !fields.has_preset_key && !place.headers().any(is_unsigned) => {
                KeyReusePolicy::Refuse
            }
            Some(_) | None => KeyReusePolicy::KeepApart,
        }
    }

    /// Returns the reply to `document` if it is a signed handshake and no event.
    #[must_use]
    pub fn answer_handshake(&self, document: &RequestDocument<'_>) -> Option<HandshakeReply> {
        self.signing.handshake().reply_to(document)
    }
}

impl<'r> VerifiedRequest<'_, 'r> {
    /// Tag of the credential that the request proves, for events of the source `name`.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<u32> {
        let key = self.source.keys.get(self.key)?;
        Some(tag_credential(name, key.identity()))
    }

    /// Returns the signed request as an event `name` with this `body` claims it; `None` if two events
    /// may have the same signature.
    #[must_use]
    pub fn signed_request(&self, name: &str, body: &RawValue) -> Option<SignedRequest> {
        let tag = self.tag?;
        if let Some(rule) = self.rule {
            return Some(SignedRequest { tag, rule });
        }
        let SourceSigning::Preset(preset) = &self.source.signing else {
            return None;
        };
        let is_unique = preset.facts.is_unique_body?;
        is_unique(name, body).then(|| SignedRequest::taken_once(tag.for_event(name)))
    }

    /// Treatment of the event as [`WebhookSource::key_reuse_policy`] says.
    #[must_use]
    pub fn key_reuse_policy(&self, found: &ExtractedFields) -> KeyReusePolicy {
        self.source.key_reuse_policy(found)
    }

    /// Parses the body of the verified request.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse_document(&self) -> Result<RequestDocument<'r>, DocumentError> {
        self.source.parse_document(self.request)
    }

    /// Extracts the fields of the event that is the whole `document`, the parsed body.
    #[must_use]
    pub fn extract_whole(&self, document: &RequestDocument<'r>) -> ExtractedFields {
        self.source.fields.extract_whole(self.request, document)
    }

    /// Extracts the fields of each of `items`, which are parts of the `document`.
    #[must_use]
    pub fn extract_items(
        &self,
        document: &RequestDocument<'r>,
        items: &[BatchItem<'_, '_>],
    ) -> Vec<ExtractedFields> {
        self.source
            .fields
            .extract_items(self.request, document, items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::provider::encoding::SignatureEncoding;
    use crate::provider::hmac::{HmacKey, HmacSha256};
    use crate::provider::presets::find_preset;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const TIME: &str = "1764374400";
    /// Signature of the id `m19`, the time and [`BODY`].
    const SIGNATURE: &str = "v1,5uNzPyDY+/+N6wCf1kd4llFeQhKQX5VNWlQv3e31H7M=";
    const BODY: &str =
        r#"{"type":"note.added","id":"cust-1","note":".1764374400.type=order.paid&id=evil-9&x="}"#;

    fn source(preset: &str) -> WebhookSource {
        let preset = find_preset(preset).expect("a preset");
        WebhookSource {
            keys: vec![preset.parse_key(SECRET).expect("a key")],
            signing: SourceSigning::Preset(preset),
            tolerance: Duration::from_secs(300),
            requires_signed_time: false,
            fields: FieldLocators::default(),
            layout: BodyLayout::default(),
            schemas: EventSchemas::default(),
        }
    }

    fn request<'r>(id: &'r str, content_type: &'r str, body: &'r str) -> RequestView<'r> {
        let headers = [
            ("content-type", content_type),
            ("webhook-id", id),
            ("webhook-timestamp", TIME),
            ("webhook-signature", SIGNATURE),
        ];
        RequestView {
            method: "POST",
            url: "https://hooks.example.com/in/standard",
            headers: headers
                .map(|(name, value)| (name, value.as_bytes()))
                .to_vec(),
            body: body.as_bytes(),
        }
    }

    /// A captured request verified again with a longer id and a shorter body, and its unsigned
    /// content type had the rest read as a form: an attacker chose the event.
    #[test]
    fn a_signed_request_verifies_with_no_other_id_and_body() {
        let (source, now) = (source("standard"), moment(TIME));
        let captured = request("m19", "application/json", BODY);
        assert!(source.verify(&captured, now).is_ok());

        let (head, rest) = BODY.split_once(".1764374400.").expect("the separator");
        let id = format!("m19.1764374400.{head}");
        let forged = request(&id, "application/x-www-form-urlencoded", rest);
        let error = source.verify(&forged, now).expect_err("forged");
        assert_eq!(error, VerificationError::InvalidSignature);
        let reason = source.signing.read_claim(&forged).expect_err("ambiguous");
        assert_eq!(reason, ClaimError::Ambiguous);
    }

    /// Layouts of signed contents: an own template, and presets with the places of id, time and
    /// signature.
    const LAYOUTS: [(&str, &str); 5] = [
        ("standard", "{id}.{time}.{body}"),
        ("svix", "{id}.{time}.{body}"),
        ("slack", "v0:{time}:{body}"),
        ("stripe", "{time}.{body}"),
        ("zendesk", "{time}{body}"),
    ];

    /// Headers and body of a request of `preset` with these signed values and this signature.
    fn cut_request(
        preset: &str,
        [id, time, body]: [&str; 3],
        tag: &[u8],
    ) -> (Vec<(&'static str, String)>, String) {
        let base64 = SignatureEncoding::Base64.encode(tag);
        let (id, time) = (id.to_owned(), time.to_owned());
        let headers = match preset {
            "standard" => vec![
                ("webhook-id", id),
                ("webhook-timestamp", time),
                ("webhook-signature", format!("v1,{base64}")),
            ],
            "svix" => vec![
                ("svix-id", id),
                ("svix-timestamp", time),
                ("svix-signature", format!("v1,{base64}")),
            ],
            "slack" => vec![
                ("x-slack-request-timestamp", time),
                ("x-slack-signature", format!("v0={}", hex::encode(tag))),
            ],
            "stripe" => vec![(
                "stripe-signature",
                format!("t={time},v1={}", hex::encode(tag)),
            )],
            _ => vec![
                ("x-zendesk-webhook-signature-timestamp", time),
                ("x-zendesk-webhook-signature", base64),
            ],
        };
        (headers, body.to_owned())
    }

    proptest! {
        /// Whoever captured a request cut its signed bytes into another id, time and body, and they
        /// verified again.
        #[test]
        fn a_signed_request_verifies_in_one_cut_only(
            (preset, layout) in prop::sample::select(LAYOUTS.to_vec()),
            id in "[a-z0-9.]{1,6}",
            middle in "([.:]?(1764374400|2025-11-29T00:00:00Z|7|a|,v1=)[.:]?){0,4}",
        ) {
            let time = if preset == "zendesk" { "2025-11-29T00:00:00Z" } else { TIME };
            let body = format!("{{\"a\":\"{middle}\"}}");
            let signed = layout.replace("{id}", &id).replace("{time}", time).replace("{body}", &body);
            let source = WebhookSource { tolerance: Duration::ZERO, ..source(preset) };
            let key = source.keys[0].secret().expect("a secret");
            let tag = HmacKey::<HmacSha256>::new(key).tag(&[signed.as_bytes()]);

            let has_id = layout.starts_with("{id}");
            let separator = if has_id { "." } else { layout.split_once("}").map_or("", |(_, rest)| &rest[..rest.len() - "{body}".len()]) };
            let joined = signed.strip_prefix("v0:").unwrap_or(&signed);
            let mut verified = Vec::new();
            for first in 0..=joined.len() {
                let Some(rest) = joined[first..].strip_prefix(separator) else { continue };
                if !has_id {
                    verified.push(["", &joined[..first], rest].map(str::to_owned));
                    continue;
                }
                for second in 0..=rest.len() {
                    if let Some(body) = rest[second..].strip_prefix(separator) {
                        verified.push([&joined[..first], &rest[..second], body].map(str::to_owned));
                    }
                }
            }
            verified.retain(|[id, time, body]| {
                let (headers, body) = cut_request(preset, [id, time, body], tag.as_ref());
                let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
                let request = RequestView {
                    method: "POST",
                    url: "https://hooks.example.com/in/x",
                    headers: headers.collect(),
                    body: body.as_bytes(),
                };
                source.verify(&request, moment(TIME)).is_ok()
            });
            let genuine = [if has_id { id.as_str() } else { "" }, time, &body].map(str::to_owned);
            // An id that holds the separator is refused, since the node cannot know where it ends.
            let is_genuine = verified.iter().all(|cut| *cut == genuine);
            prop_assert!(verified.len() <= 1, "{preset}: {verified:?}");
            prop_assert!(is_genuine || id.contains('.'), "{preset}: {verified:?}");
            let is_plain = !middle.contains([':', '.', 'Z', '1']) && !id.contains('.');
            prop_assert!(!is_plain || verified.len() == 1, "{preset}: the sender's own cut");
        }
    }

    #[test]
    fn no_content_type_makes_a_form_of_what_a_provider_sends_as_json() {
        let source = source("standard");
        let request = request("m19", "application/x-www-form-urlencoded", BODY);
        let verified = source.verify(&request, moment(TIME)).expect("signed");
        let document = verified.parse_document().expect("JSON");
        assert_eq!(document.json().get(), BODY);
    }

    fn moment(text: &str) -> Timestamp {
        crate::provider::parse_moment(text).expect("a time")
    }
}

//! Signature schemes of senders and the fields of their requests; pure functions without socket,
//! store or clock.
//!
//! ```text
//! RequestView
//!   │ read_claim       header of the signature, and the content that it covers
//!   v
//! SignatureClaim
//!   │ check            every key, in constant time; then the signed time
//!   v
//! VerifiedRequest
//!   │ parse_document   JSON, or a form as a JSON object
//!   v
//! RequestDocument
//!   │ split_items      one event, or several in lists
//!   v
//! BatchItem
//!   │ extract          by the places that the preset or the configuration lists
//!   v
//! ExtractedFields      entity, event name, idempotency key, time, and warnings
//! ```
//!
//! A sender has a [`ProviderPreset`] (one file each in `presets/`) or is described by a
//! [`SignatureScheme`]. Either one reads a [`SignatureClaim`] from a request. Only
//! [`SignatureClaim::check`] compares signatures, so a preset is a table or a short function.

mod body;
mod claim_error;
mod claim_headers;
mod encoding;
mod event_schemas;
mod explain;
mod extract;
mod form;
mod gzip;
mod handshake;
mod hmac;
mod items;
mod json_web_key;
mod jwt;
mod key;
mod locator;
mod message_signature;
mod moment;
mod pointer;
pub mod presets;
#[cfg(test)]
mod property_tests;
mod request;
mod scheme;
mod signature_claim;
mod signature_header;
mod signed_content;
mod signed_template;
mod source;

pub(crate) use self::hmac::HmacKey;
pub use body::{
    BYTE_ORDER_MARK, BodyRules, CharsetRule, DocumentError, DocumentFormat, DocumentPayload,
    RequestDocument,
};
pub use claim_error::ClaimError;
pub use encoding::SignatureEncoding;
pub use event_schemas::{EventSchemas, EventSchemasError, SchemaViolation, SchemaViolationPolicy};
pub use explain::{VerificationOutcome, VerificationReport};
pub use extract::{ExtractedFields, FieldLocators, UNMATCHED, UsedAlternatives};
pub use form::FormCharset;
pub use gzip::{DecompressionError, decompress_gzip};
pub use handshake::{
    HandshakeReply, HandshakeReplyForm, HandshakeSign, ProviderHandshake, SignedHandshake,
    VerifyTokenError, find_validation_token, verify_subscription,
};
pub use items::{BatchItem, ITEMS_MAX, ItemPath, ItemPathError, ItemPaths, TooManyItems};
pub use jwt::JwtScheme;
pub use key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
pub use locator::{
    ALTERNATIVES_MAX, FieldAlternatives, FieldLocator, FieldLocatorError, parse_header_name,
};
pub use message_signature::{MessageSignatureScheme, SignedComponent, SignedComponentError};
pub use moment::parse_moment;
pub use pointer::{ItemStep, JsonPointer};
pub use presets::{PresetAnswer, ProviderPreset, find_preset};
pub use request::RequestView;
pub use scheme::SignatureScheme;
pub use signature_claim::{
    SignatureClaim, SignatureSet, SignedContentLayout, SignedTime, VerificationError,
};
pub use signature_header::{SignatureHeaderForm, SignatureHeaderParts, SignatureHeaderPartsError};
pub use signed_template::{SignedContentPart, SignedTemplate, SignedTemplateError};
pub use source::{BodyLayout, SourceSigning, VerifiedRequest, WebhookSource};

//! How senders prove who they are, and where their requests hold what matters: pure, without
//! socket, store or clock.
//!
//! ```text
//!  Request ──claim──> Claim ──check──> Verified ──document──> Document ──extract──> entity, event, key, time
//!             │          │                           │                     │
//!       which header,  every key, in          JSON, or a form       pointers and headers,
//!       what is signed constant time          as a JSON object      the preset's or one's own
//! ```
//!
//! A sender is known by a [`Preset`] (one file each in `presets/`) or described by a [`Scheme`].
//! Both make a [`Claim`] of a request, which is all that verification looks at; so each of them is
//! a table or a short function, and none compares anything itself.

mod body;
mod encoding;
mod explain;
mod extract;
mod handshake;
mod hmac;
mod key;
mod locator;
mod moment;
mod no_claim;
mod pointer;
pub mod presets;
mod request;
mod scheme;
mod signature_claim;
mod signed_template;
mod source;

pub(crate) use self::hmac::HmacKey;
pub use body::{DocumentError, DocumentFormat, RequestDocument};
pub use encoding::SignatureEncoding;
pub use explain::{VerificationOutcome, VerificationReport};
pub use extract::{ExtractedFields, ExtractionError, FieldLocators};
pub use handshake::{ProviderHandshake, Reply, VerifyTokenError, subscribe};
pub use key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
pub use locator::{FieldLocator, FieldLocatorError, parse_header_name};
pub use moment::parse_moment;
pub use no_claim::ClaimError;
pub use pointer::JsonPointer;
pub use presets::{ProviderPreset, find_preset};
pub use request::RequestView;
pub use scheme::SignatureScheme;
pub use signature_claim::{SignatureClaim, SignatureSet, SignedContentLayout, VerificationError};
pub use signed_template::{SignedContentPart, SignedTemplate, SignedTemplateError};
pub use source::{SourceSigning, VerifiedRequest, WebhookSource};

//! How senders prove who they are, and where their requests hold what matters: pure, without socket, store or clock.
//!
//! ```text
//!  Request ──claim──> Claim ──check──> Verified ──document──> Document ──extract──> entity, event, key, time
//!             │          │                           │                     │
//!       which header,  every key, in          JSON, or a form       pointers and headers,
//!       what is signed constant time          as a JSON object      the preset's or one's own
//! ```
//!
//! A sender is known by a [`Preset`] (one file each in `presets/`) or described by a [`Scheme`]. Both make a [`Claim`] of a
//! request, which is all that verification looks at; so each of them is a table or a short function, and none compares
//! anything itself.

mod body;
mod claim;
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
mod source;
mod template;

pub(crate) use self::hmac::HmacKey;
pub use body::{Document, Format, Undecodable};
pub use claim::{Claim, Layout, Proof, Refusal};
pub use encoding::Encoding;
pub use explain::{Explanation, Verdict};
pub use extract::{Extract, Fields, Lost};
pub use handshake::{Handshake, Reply, WrongToken, subscribe};
pub use key::{Algorithm, BadKey, Key};
pub use locator::{BadLocator, Locator, header_name};
pub use moment::parse as parse_moment;
pub use no_claim::NoClaim;
pub use pointer::Pointer;
pub use presets::{Preset, find as find_preset};
pub use request::Request;
pub use scheme::Scheme;
pub use source::{Signing, Source, Verified};
pub use template::{BadTemplate, Part, Template};

//! Standard Webhooks: one header holds the signatures `v1,…` (HMAC) and `v1a,…` (Ed25519),
//! separated by spaces.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::claim_error::ClaimError;
use crate::provider::claim_headers::{require_header, require_header_lines};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey};
use crate::provider::request::RequestView;
use crate::provider::signature_claim::{
    SIGNATURES_MAX, SignatureClaim, SignatureSet, SignedContentLayout, SignedTime,
};
use crate::provider::signed_content::SignedPartRole;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "standard",
    signing: PresetSigning::Own {
        key: VerificationKey::from_standard,
        claim: |request| HEADERS.read_claim(request),
    },
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &[
            "/data/id",
            "/data/object/id",
            "/data/email_id",
            "/object/id",
            "/id",
        ],
        event: &["/type", "/event_type", "/eventType", "/event"],
        idempotency_key: &["webhook-id"],
        occurred_at: &["/timestamp", "/created_at"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts {
        signed_headers: &["webhook-id"],
        ..PresetFacts::USUAL
    },
};

pub(super) const HEADERS: StandardHeaderNames = StandardHeaderNames {
    id: "webhook-id",
    timestamp: "webhook-timestamp",
    signature: "webhook-signature",
};

/// Names of the three headers; Svix has names of its own.
pub(super) struct StandardHeaderNames {
    pub(super) id: &'static str,
    pub(super) timestamp: &'static str,
    pub(super) signature: &'static str,
}

impl StandardHeaderNames {
    pub(super) fn read_claim<'r>(
        &self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        let header = |name: &'static str| require_header(request, name);
        let signatures = require_header_lines(request, self.signature)?;
        let (id, time) = (header(self.id)?, header(self.timestamp)?);
        let proofs: Vec<_> = [
            ("v1", SignatureAlgorithm::HmacSha256),
            ("v1a", SignatureAlgorithm::Ed25519),
        ]
        .into_iter()
        .map(|(version, algorithm)| SignatureSet {
            algorithm,
            signatures: decode_signatures(&signatures, version),
        })
        .filter(|proof| !proof.signatures.is_empty())
        .collect();
        if proofs.is_empty() {
            return Err(ClaimError::malformed(
                self.signature,
                "`v1,` or `v1a,` with a signature in base64",
            ));
        }
        Ok(SignatureClaim {
            header: self.signature,
            proofs,
            layout: SignedContentLayout::Fixed("{id}.{timestamp}.{body}"),
            signed: [
                (SignedPartRole::Header, id.as_bytes().into()),
                (SignedPartRole::Literal, b".".into()),
                (SignedPartRole::Time, time.as_bytes().into()),
                (SignedPartRole::Literal, b".".into()),
                (SignedPartRole::Body, request.body.into()),
            ]
            .into_iter()
            .collect(),
            alternatives: Vec::new(),
            time: Some(SignedTime::Sent(time)),
            covers_body: true,
            others: Vec::new(),
        })
    }
}

fn decode_signatures(lines: &[&str], version: &str) -> Vec<Vec<u8>> {
    let versioned = lines
        .iter()
        .flat_map(|line| line.split_ascii_whitespace())
        .filter_map(|item| item.split_once(','));
    versioned
        .filter(|(name, _)| *name == version)
        .filter_map(|(_, text)| SignatureEncoding::Base64.decode(text))
        .take(SIGNATURES_MAX)
        .collect()
}

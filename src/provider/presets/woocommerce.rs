//! WooCommerce signs the body with the webhook's secret, in base64. A new webhook sends an unsigned
//! form with its number first and expects 200.
//!
//! Sources: <https://woocommerce.github.io/woocommerce-rest-api-docs/#webhooks>,
//! <https://woocommerce.com/document/webhooks/>,
//! <https://github.com/woocommerce/woocommerce/blob/trunk/plugins/woocommerce/includes/class-wc-webhook.php>

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "woocommerce",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-wc-webhook-signature",
        "",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Base64,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "{X-WC-Webhook-Resource}:{/id}",
            "{X-WC-Webhook-Resource}:{/arg}",
            "/id",
            "shop:{X-WC-Webhook-Source}",
            "shop",
        ],
        event: &["X-WC-Webhook-Topic"],
        // The delivery's id is a hash of the webhook's id and the second.
        idempotency_key: &[
            "{X-WC-Webhook-Delivery-ID}:{X-WC-Webhook-Resource}:{/id}:{?/date_modified_gmt}",
            "{X-WC-Webhook-Delivery-ID}:{X-WC-Webhook-Resource}:{/arg}",
            "X-WC-Webhook-Delivery-ID",
        ],
        // The field is in UTC and does not say so.
        occurred_at: &["{/date_modified_gmt}Z"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::UnsignedNumber("webhook_id"),
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};

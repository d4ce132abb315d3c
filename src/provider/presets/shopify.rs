//! Shopify signs the body with the app's client secret, in base64.
//!
//! Sources: <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>,
//! <https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates>

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "shopify",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-shopify-hmac-sha256",
        "",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Base64,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "/id",
            "inventory:{/inventory_item_id}",
            "customer:{/customer/id}",
            "/customerId",
            "/customer_id",
            "/order_edit/order_id",
            "/order_id",
            "/fulfillment_order/id",
            "/original_fulfillment_order/id",
            "/scheduled_product_listing/product_id",
            "/product/id",
            "customer:{/admin_graphql_api_customer_kept_id}",
            "/product_listing/product_id",
            "/collection_listing/collection_id",
            "/app_subscription/admin_graphql_api_id",
            "/app_purchase_one_time/admin_graphql_api_id",
            "/admin_graphql_api_id",
            "shop:{/shop_id}",
            "shop:{X-Shopify-Shop-Domain}",
            "shop",
        ],
        event: &["X-Shopify-Topic"],
        idempotency_key: &[
            "{X-Shopify-Event-Id}:{X-Shopify-Topic}",
            "X-Shopify-Webhook-Id",
            // Other privacy topics have no id in the body.
            "{X-Shopify-Topic}:{/data_request/id}",
        ],
        occurred_at: &["X-Shopify-Triggered-At", "/updated_at"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};

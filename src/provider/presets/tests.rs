//! Tests of the presets: published signatures verify, and do not with any byte changed; handshakes
//! and default fields.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;
use crate::damaged_samples::{CHEAP, damage_cases, damaged, damaged_text};
use crate::event::Timestamp;
use crate::provider::body::RequestDocument;
use crate::provider::claim_error::ClaimError;
use crate::provider::event_schemas::EventSchemas;
use crate::provider::extract::FieldLocators;
use crate::provider::handshake::HandshakeReply;
use crate::provider::items::{ItemPath, ItemPaths};
use crate::provider::key::VerificationKey;
use crate::provider::locator::{ALTERNATIVES_MAX, EventScope, FieldAlternatives, FieldLocator};
use crate::provider::moment;
use crate::provider::pointer::StepCache;
use crate::provider::request::RequestView;
use crate::provider::signature_claim::VerificationError;
use crate::provider::source::{BodyLayout, SourceSigning, WebhookSource};

/// One vector of `tests/it/vectors.json`.
#[derive(Clone, Debug, Deserialize)]
struct PresetVector {
    preset: String,
    version: Option<String>,
    secret: String,
    public_key: Option<String>,
    #[serde(default)]
    body: String,
    form: Option<BTreeMap<String, String>>,
    #[serde(default)]
    url: String,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct PresetVectorFile {
    vectors: Vec<PresetVector>,
}

fn vectors() -> Vec<PresetVector> {
    let text = include_str!("../../../tests/it/vectors.json");
    let mut read = serde_json::from_str::<PresetVectorFile>(text)
        .expect("vectors")
        .vectors;
    for vector in &mut read {
        vector.headers = vector
            .headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .collect();
        if let Some(form) = &vector.form {
            vector.body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish();
            vector.headers.insert(
                "content-type".into(),
                "application/x-www-form-urlencoded".into(),
            );
        }
    }
    read
}

impl PresetVector {
    fn name(&self) -> String {
        format!(
            "{} {}",
            self.preset,
            self.version.as_deref().unwrap_or_default()
        )
    }

    fn preset(&self) -> &'static ProviderPreset {
        find_preset(&self.preset).expect("a preset")
    }

    /// Time of the signature; 1970 if none is signed.
    fn time(&self) -> Timestamp {
        let in_signature = [
            "stripe-signature",
            "calendly-webhook-signature",
            "paddle-signature",
        ]
        .iter()
        .find_map(|name| self.headers.get(*name))
        .and_then(|text| text.split(['=', ',', ';']).nth(1));
        let in_body = self.body.split_once("\"webhookTimestamp\":");
        let in_body = in_body.map(|(_, text)| text.trim_end_matches('}'));
        let named = self
            .headers
            .iter()
            .find(|(name, _)| name.ends_with("timestamp"));
        let named = named.map(|(_, text)| text.as_str());
        let text = named.or(in_signature).or(in_body);
        // A test changes bytes of the time too.
        text.and_then(moment::parse_moment)
            .unwrap_or(Timestamp::from_micros(0))
    }

    fn check_at(&self, now: Timestamp) -> Result<(), Option<VerificationError>> {
        let preset = self.preset();
        let key = preset
            .parse_key(self.public_key.as_ref().unwrap_or(&self.secret))
            .expect("a key");
        let other = other_key(preset);
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let request = RequestView {
            method: "POST",
            url: &self.url,
            headers,
            body: self.body.as_bytes(),
        };
        let claim = preset.read_claim(&request).map_err(|_| None)?;
        claim
            .check(&[other, key], preset.tolerance.unwrap_or_default(), now)
            .map(drop)
            .map_err(Some)
    }

    fn check(&self) -> Result<(), Option<VerificationError>> {
        self.check_at(self.time())
    }
}

/// Returns a key of the form that `preset` takes, with which no vector is signed.
fn other_key(preset: &ProviderPreset) -> VerificationKey {
    let texts = [
        "whsec_b3RoZXI6b3RoZXI=",
        "a:b",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQ4LIFtWztlsF7skFqOncjD1lun4H5w8XOhyOArHW9RcIx/FfEzx6cikC/yPfUvwaX/JScE7Fc9CJD2afQ9Ok3Q==",
    ];
    let mut keys = texts.iter().filter_map(|text| preset.parse_key(text).ok());
    keys.next().expect("a key")
}

/// Returns `text` with another byte at `index`.
fn flipped(text: &str, index: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[index] ^= 1;
    String::from_utf8(bytes).expect("still text")
}

#[test]
fn every_vector_verifies() {
    for vector in vectors() {
        assert_eq!(vector.check(), Ok(()), "{}", vector.name());
    }
}

#[test]
fn with_any_byte_of_the_body_changed_it_does_not() {
    for vector in vectors() {
        for index in 0..vector.body.len() {
            let changed = PresetVector {
                body: flipped(&vector.body, index),
                ..vector.clone()
            };
            assert!(
                changed.check().is_err(),
                "{} {index}: {}",
                vector.name(),
                changed.body
            );
        }
        for body in [
            String::new(),
            format!("{}\n", vector.body),
            format!(" {}", vector.body),
        ] {
            assert!(
                PresetVector {
                    body,
                    ..vector.clone()
                }
                .check()
                .is_err(),
                "{}",
                vector.name()
            );
        }
    }
}

#[test]
fn with_any_byte_of_a_header_changed_it_does_not() {
    for vector in vectors() {
        for (name, value) in vector
            .headers
            .iter()
            .filter(|(name, _)| *name != "content-type")
        {
            for index in 0..value.len() {
                let mut changed = vector.clone();
                changed.headers.insert(name.clone(), flipped(value, index));
                let result = changed.check_at(vector.time());
                assert!(
                    result.is_err(),
                    "{} {name}: {}",
                    vector.name(),
                    changed.headers[name]
                );
            }
            let mut without = vector.clone();
            without.headers.remove(name);
            assert_eq!(
                without.check_at(vector.time()),
                Err(None),
                "{} without {name}",
                vector.name()
            );
        }
    }
}

#[test]
fn that_there_is_no_signature_is_told_by_the_head_alone() {
    for vector in vectors() {
        let is_missing = |headers: &BTreeMap<String, String>| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect();
            let head = RequestView {
                method: "POST",
                url: &vector.url,
                headers,
                body: b"",
            };
            SourceSigning::Preset(vector.preset())
                .find_header_error(&head)
                .is_some()
        };
        assert!(!is_missing(&vector.headers), "{}", vector.name());
        assert!(is_missing(&BTreeMap::new()), "{}", vector.name());
    }
}

#[test]
fn where_the_url_is_signed_another_one_does_not_verify() {
    for vector in vectors()
        .into_iter()
        .filter(|vector| !vector.url.is_empty())
    {
        let url = format!("{}&", vector.url);
        assert_eq!(
            PresetVector {
                url,
                ..vector.clone()
            }
            .check(),
            Err(Some(VerificationError::InvalidSignature)),
            "{}",
            vector.name()
        );
    }
}

#[test]
fn a_signed_time_may_be_as_far_off_as_the_tolerance_and_no_further() {
    let mut judged = 0;
    for vector in vectors()
        .into_iter()
        .filter(|vector| vector.preset().tolerance.is_some())
    {
        if vector.version.as_deref() == Some("v2") {
            continue;
        }
        judged += 1;
        let edge = vector.preset().tolerance.expect("a tolerance");
        let beyond = edge + Duration::from_micros(1);
        for now in [
            vector.time().saturating_add(edge),
            vector.time().saturating_sub(edge),
        ] {
            assert_eq!(vector.check_at(now), Ok(()), "{}", vector.name());
        }
        for now in [
            vector.time().saturating_add(beyond),
            vector.time().saturating_sub(beyond),
        ] {
            assert_eq!(
                vector.check_at(now),
                Err(Some(VerificationError::StaleTimestamp)),
                "{}",
                vector.name()
            );
        }
        let forged = PresetVector {
            body: flipped(&vector.body, 0),
            ..vector.clone()
        };
        let now = vector.time().saturating_add(beyond);
        assert_eq!(
            forged.check_at(now),
            Err(Some(VerificationError::InvalidSignature)),
            "a forger learns nothing of times"
        );
    }
    assert_eq!(
        judged, 12,
        "calendly, discord, gitlab, hubspot, linear, paddle, sendgrid, standard (twice), stripe, \
         svix, zendesk"
    );
}

fn vector(preset: &str) -> PresetVector {
    vectors()
        .into_iter()
        .find(|vector| vector.preset == preset)
        .expect("a vector")
}

#[test]
fn every_signature_in_a_header_is_tried() {
    let mut stripe = vector("stripe");
    let wrong = "00".repeat(32);
    let header = stripe.headers["stripe-signature"]
        .replace(",v1=", &format!(",v0=zz,v1={wrong},v1=short,v1="));
    stripe.headers.insert("stripe-signature".into(), header);
    assert_eq!(stripe.check(), Ok(()));

    let (hmac, ed25519) = (
        vector("svix"),
        vectors()
            .into_iter()
            .find(|vector| vector.public_key.is_some()),
    );
    let ed25519 = ed25519.expect("a vector with a public key");
    // The two sign the same message, so that one header can hold both.
    let both = format!(
        "v1,AAAA v2,x {} {}",
        hmac.headers["svix-signature"], ed25519.headers["webhook-signature"]
    );
    for mut vector in [hmac, ed25519] {
        let name = if vector.preset == "svix" {
            "svix-signature"
        } else {
            "webhook-signature"
        };
        vector.headers.insert(name.into(), both.clone());
        assert_eq!(vector.check(), Ok(()), "{}", vector.preset);
    }
}

#[test]
fn only_so_many_signatures_are_tried() {
    let mut stripe = vector("stripe");
    let many = format!(",v1={}", "00".repeat(32)).repeat(8);
    let header = stripe.headers["stripe-signature"].replace(",v1=", &format!("{many},v1="));
    stripe.headers.insert("stripe-signature".into(), header);
    assert_eq!(
        stripe.check(),
        Err(Some(VerificationError::InvalidSignature))
    );
}

/// Expected hash of secret and body, computed with `printf 'hush{"a":1}' | sha256sum`.
#[test]
fn hubspots_first_version_signs_the_body_alone() {
    let mut first = vector("hubspot");
    first.secret = "hush".into();
    first.body = r#"{"a":1}"#.into();
    first
        .headers
        .insert("x-hubspot-signature-version".into(), "v1".into());
    let hash = "356ce8a8c1a4777a61ea829318e59e9d9efc596203979ba45cc01fba0b926ed4";
    first
        .headers
        .insert("x-hubspot-signature".into(), hash.into());
    assert_eq!(first.check(), Ok(()));
    first
        .headers
        .insert("x-hubspot-signature-version".into(), "v2".into());
    assert_eq!(
        first.check(),
        Err(Some(VerificationError::InvalidSignature)),
        "the URL is missing"
    );
    first
        .headers
        .insert("x-hubspot-signature-v3".into(), "AAAA".into());
    assert_eq!(
        first.check(),
        Err(None),
        "an earlier version does not stand in for the third"
    );
}

/// Length extension of a plain hash: from one observed request of HubSpot's version 1, an attacker
/// computes the hash of a longer body (old body, padding, more). The test computes the same hash
/// with the secret.
#[test]
fn a_continued_hash_of_hubspots_is_believed_of_no_form_and_of_nothing_that_is_no_json() {
    let check = |content_type: &str, body: &[u8]| {
        let hash = hex::encode(
            Sha256::new()
                .chain_update("hush")
                .chain_update(body)
                .finalize(),
        );
        let headers = vec![
            ("content-type", content_type.as_bytes()),
            ("x-hubspot-signature-version", &b"v1"[..]),
            ("x-hubspot-signature", hash.as_bytes()),
        ];
        let preset = find_preset("hubspot").expect("a preset");
        let request = RequestView {
            method: "POST",
            url: "",
            headers,
            body,
        };
        let key = preset.parse_key("hush").expect("a key");
        preset.read_claim(&request).map(|claim| {
            let checked = claim.check(&[key], Duration::ZERO, Timestamp::from_micros(0));
            checked.map(|found| found.key)
        })
    };
    let continued = |body: &str, more: &str| {
        let length = "hush".len() + body.len();
        let mut forged = body.as_bytes().to_vec();
        forged.push(0x80);
        forged.resize(forged.len() + 55 - length, 0);
        forged.extend((length as u64 * 8).to_be_bytes());
        assert_eq!(("hush".len() + forged.len()) % 64, 0, "whole blocks");
        forged.extend(more.as_bytes());
        forged
    };
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    assert_eq!(
        check(json, br#"{"a":1}"#),
        Ok(Ok(0)),
        "what is signed is taken"
    );
    for body in [
        continued(r#"{"a":1}"#, "&id=7"),
        continued("id=1", "&id=7"),
        continued(r#"{"a":1}"#, r#"{"a":2}"#),
    ] {
        for content_type in [json, form] {
            assert_eq!(
                check(content_type, &body),
                Err(ClaimError::Extensible),
                "{content_type}"
            );
        }
    }
    assert_eq!(
        check(form, b"id=1"),
        Err(ClaimError::Extensible),
        "nothing tells it from a continued one"
    );
    // The content type is not signed, and tells nothing about a JSON body.
    assert_eq!(check("text/plain", b"{}"), Ok(Ok(0)));
}

#[test]
fn an_earlier_version_of_hubspots_is_refused_where_the_third_was_taken_away() {
    let mut earlier = vector("hubspot");
    assert_eq!(earlier.check(), Ok(()));
    earlier
        .headers
        .insert("x-hubspot-request-timestamp".into(), "1700000000000".into());
    assert_eq!(earlier.check(), Err(None));
}

/// Computed with `printf URL | openssl dgst -sha1 -hmac 12345 -binary | base64`.
#[test]
fn twilio_signs_other_bodies_by_their_hash_in_the_url() {
    let mut json = vector("twilio");
    json.body = r#"{"CallSid":"CA1"}"#.into();
    json.url =
        "https://mycompany.com/myapp?bodySHA256=85264246de8d570722726062407cde49dc5bb2c2569c179765b178e3ffe30825"
            .into();
    json.headers
        .insert("content-type".into(), "application/json".into());
    json.headers.insert(
        "x-twilio-signature".into(),
        "e+E6Zg/c2meTwhiG89JllYuzFeU=".into(),
    );
    assert_eq!(json.check(), Ok(()));
    let other = PresetVector {
        body: r#"{"CallSid":"CA2"}"#.into(),
        ..json.clone()
    };
    assert_eq!(other.check(), Err(None));
    let form = vector("twilio");
    let mut unsigned = form.clone();
    unsigned.headers.remove("content-type");
    assert_eq!(
        unsigned.check(),
        Err(None),
        "nothing covers a body that is no form"
    );
    let many = PresetVector {
        body: "a&".repeat(1_001),
        ..form
    };
    assert_eq!(
        many.check(),
        Err(None),
        "nobody has a large form sorted for nothing"
    );
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    /// Published requests with damage in every header, in the URL and in the body.
    #[test]
    fn any_request_of_any_preset_is_read_or_refused(
        (vector, values, url, body) in prop::sample::select(vectors()).prop_flat_map(|vector| {
            let values: Vec<_> = vector.headers.values().map(|value| damaged_text(&[value])).collect();
            let (url, body) = (damaged_text(&[&vector.url]), damaged(&[&vector.body]));
            (Just(vector), values, url, body)
        }),
    ) {
        let names = vector.headers.keys().map(String::as_str);
        let request = RequestView {
            method: "POST",
            url: &url,
            headers: names.zip(values.iter().map(String::as_bytes)).collect(),
            body: &body,
        };
        let preset = vector.preset();
        let key = preset.parse_key(vector.public_key.as_ref().unwrap_or(&vector.secret));
        let checked = preset
            .read_claim(&request)
            .map(|claim| claim.check(&[key.expect("a key")], Duration::ZERO, vector.time()).map(drop));
        let is_whole = body == vector.body.as_bytes();
        let signs_body = !matches!(preset.name, "gitlab" | "twilio");
        prop_assert!(is_whole || !signs_body || !matches!(checked, Ok(Ok(()))), "{}", vector.name());
        let _ = RequestDocument::parse(&request);
    }

    #[test]
    fn no_random_header_panics_or_verifies(
        index in 0..ALL.len(),
        text in "[ -~ä]{0,80}",
        tail in "(v1|v1a|t|v0|sha256|sha1|Basic)[=, ][a-fA-F0-9=,+/ ]{0,140}",
    ) {
        let preset = ALL[index];
        let vector = vectors().into_iter().find(|vector| vector.preset == preset.name);
        let names = vector
            .map(|vector| vector.headers.into_keys().collect())
            .unwrap_or(vec!["authorization".to_owned()]);
        let key = other_key(preset);
        for value in [&text, &tail] {
            let headers = names.iter().map(|name| (name.as_str(), value.as_bytes())).collect();
            let request = RequestView { method: "POST", url: value, headers, body: value.as_bytes() };
            let (keys, now) = (std::slice::from_ref(&key), Timestamp::from_micros(0));
        let result = preset
            .read_claim(&request)
            .map(|claim| claim.check(keys, Duration::ZERO, now).map(drop));
            let is_refused =
            matches!(result, Err(_) | Ok(Err(VerificationError::InvalidSignature)));
        prop_assert!(is_refused, "{}: {value}", preset.name);
        }
    }
}

/// Bytes that reach deep: JSON of the names that presets read, forms, and anything.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let name =
        "(entry|changes|messaging|changed_fields|value|id|type|data|object|events|payload|a)";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?[0-9]{1,20}(e[0-9]{1,3})?",
        "\"[a-z ]{0,6}(\\\\ud800)?\"",
    ];
    let json = leaf.prop_recursive(5, 60, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec((name, inner), 0..4).prop_map(|all| {
                let members = all
                    .into_iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    });
    prop_oneof![
        4 => json.prop_map(String::into_bytes),
        1 => "([a-z]{0,4}=[a-z%0-9+]{0,6}&?){0,6}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_body_of_any_preset_is_read_or_refused(
        index in 0..ALL.len(),
        is_form in any::<bool>(),
        body in any_body(),
    ) {
        let preset = ALL[index];
        let content_type = match is_form {
            true => &b"application/x-www-form-urlencoded"[..],
            false => b"application/json",
        };
        let places = FieldAlternatives::from_preset;
        let source = WebhookSource {
            signing: SourceSigning::Preset(preset),
            keys: Vec::new(),
            tolerance: Duration::ZERO,
            requires_signed_time: false,
            fields: FieldLocators {
                entity: places(preset.defaults.entity),
                event: places(preset.defaults.event),
                idempotency_key: places(preset.defaults.idempotency_key),
                occurred_at: places(preset.defaults.occurred_at),
                expects_time: true,
                has_preset_key: true,
            },
            layout: BodyLayout {
                items: ItemPaths::from_preset(preset.defaults.items),
                json_fields: preset.defaults.json_fields.iter().map(|name| (*name).into()).collect(),
                decompress: false,
                charset: None,
            },
            schemas: EventSchemas::default(),
        };
        let request = RequestView {
            method: "POST",
            url: "https://hooks.example.com/in/x",
            headers: vec![("content-type", content_type)],
            body: &body,
        };
        let Ok(document) = source.parse_document(&request) else { return Ok(()) };
        let _ = source.answer_handshake(&document);
        let events = match source.split_items(&document) {
            Ok(Some(items)) => source.fields.extract_items(&request, &document, &items),
            _ => vec![source.fields.extract_whole(&request, &document)],
        };
        for event in events {
            prop_assert!(crate::event::check_id(&event.entity).is_ok());
            prop_assert!(!event.event.trim().is_empty());
        }
    }
}

fn document(body: &str) -> RequestDocument<'_> {
    let request = RequestView {
        method: "POST",
        url: "",
        headers: Vec::new(),
        body: body.as_bytes(),
    };
    RequestDocument::parse(&request).expect("JSON")
}

/// Text that the default places of `field` find in `body`, without headers.
fn found_by_default(
    preset: &str,
    field: fn(&PresetFields) -> &'static [&'static str],
    body: &str,
) -> Option<String> {
    let preset = find_preset(preset).expect("a preset");
    let request = RequestView {
        method: "POST",
        url: "",
        headers: Vec::new(),
        body: body.as_bytes(),
    };
    let document = document(body);
    let cache = StepCache::default();
    let scope = EventScope::whole(&request, &document, &cache);
    FieldAlternatives::from_preset(field(&preset.defaults))
        .find(&scope, Some)
        .ok()
        .map(|found| found.value)
}

#[test]
fn every_default_place_is_one() {
    for preset in ALL {
        let PresetFields {
            entity,
            event,
            idempotency_key,
            occurred_at,
            items,
            json_fields,
            volatile: _,
        } = &preset.defaults;
        for places in [entity, event, idempotency_key, occurred_at] {
            assert!(places.len() <= ALTERNATIVES_MAX, "{}", preset.name);
            for place in *places {
                assert!(
                    FieldLocator::parse_alternative(place).is_ok(),
                    "{}: {place}",
                    preset.name
                );
            }
        }
        let paths: Result<Vec<_>, _> = items.iter().map(|path| ItemPath::parse(path)).collect();
        assert!(
            paths.and_then(ItemPaths::try_new).is_ok(),
            "{}",
            preset.name
        );
        assert!(
            json_fields.is_empty() || preset.sends_forms,
            "{}",
            preset.name
        );
    }
}

#[test]
fn githubs_entity_is_the_nearest_thing_that_an_event_has() {
    let table = [
        (
            r#"{"repository": {"full_name": "o/r"}, "issue": {"number": 7}}"#,
            Some("o/r#7"),
        ),
        (
            r#"{"repository": {"full_name": "o/r"}, "pull_request": {"number": 8}}"#,
            Some("o/r#8"),
        ),
        (
            r#"{"repository": {"full_name": "o/r"}, "issue": null}"#,
            Some("o/r"),
        ),
        (
            r#"{"zen": "Keep it.", "organization": {"login": "octo"}}"#,
            Some("organization:octo"),
        ),
        (
            r#"{"repository": {"id": 1}, "issue": {"number": 7}}"#,
            Some("account"),
        ),
        ("[]", Some("account")),
    ];
    for (body, expected) in table {
        let found = found_by_default("github", |fields| fields.entity, body);
        assert_eq!(found.as_deref(), expected, "{body}");
    }
}

#[test]
fn a_signed_handshake_is_told_from_an_event() {
    let reply = |name: &str, body: &str| {
        let preset = find_preset(name).expect("a preset");
        preset.handshake.reply_to(&document(body))
    };
    let challenge = r#"{"type": "url_verification", "challenge": "3eZbrw1a"}"#;
    assert_eq!(
        reply("slack", challenge),
        Some(HandshakeReply::Challenge("3eZbrw1a".into()))
    );
    for body in [
        r#"{"type": "event_callback", "challenge": "x"}"#,
        r#"{"type": "url_verification"}"#,
        "[]",
    ] {
        assert_eq!(reply("slack", body), None, "{body}");
    }
    assert_eq!(
        reply(
            "intercom",
            r#"{"type": "notification_event", "topic": "ping"}"#
        ),
        Some(HandshakeReply::Json(r#"{"status":"pong"}"#))
    );
    assert_eq!(reply("intercom", r#"{"topic": "contact.created"}"#), None);
    for (body, expected) in [
        (
            r#"{"version": 1, "type": 0}"#,
            Some(HandshakeReply::Empty(204)),
        ),
        (
            r#"{"type": 1, "id": "7"}"#,
            Some(HandshakeReply::Json(r#"{"type":1}"#)),
        ),
        (
            r#"{"type": 1, "event": {"type": "ENTITLEMENT_CREATE"}}"#,
            None,
        ),
        (r#"{"type": 2, "id": "7"}"#, None),
    ] {
        assert_eq!(reply("discord", body), expected, "{body}");
    }
    for (body, expected) in [
        (
            r#"{"events": [ ], "entropy": "x"}"#,
            Some(HandshakeReply::Empty(200)),
        ),
        (r#"{"events": null}"#, Some(HandshakeReply::Empty(200))),
        (r#"{"events": [{}]}"#, None),
        (r#"{"entropy": "x"}"#, None),
    ] {
        assert_eq!(reply("xero", body), expected, "{body}");
    }
}

#[test]
fn names_are_sorted_and_given_once() {
    assert!(ALL.map(|preset| preset.name).is_sorted_by(|a, b| a < b));
    assert!(find_preset("Github").is_none());
}

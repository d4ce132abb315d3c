//! Signatures against published examples, and against implementations that are not ours.

use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use standardwebhooks::Webhook;

use super::*;

const AT: i64 = 1_614_265_330;

fn signed(
    styles: &[SigningStyle],
    secrets: SigningSecrets,
    message: &SigningInput<'_>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    DeliverySigner::new(4, &secrets, styles).sign(message, &mut headers);
    headers
}

fn secrets(current: &str) -> SigningSecrets {
    SigningSecrets::new(Some(Secret::new(current)))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000 + 999_999)
}

fn message<'a>(id: &'a str, attempt_at: i64, body: &'a str) -> SigningInput<'a> {
    let event_at = Timestamp::from_micros(1_733_308_200_123_000);
    SigningInput {
        id,
        event: "status.changed",
        event_at,
        attempt_at: at(attempt_at),
        body: body.as_bytes(),
    }
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("text"))
    };
    headers.iter().map(text).collect()
}

/// RFC 4231, test case 2.
#[test]
fn the_style_of_the_crm_is_hex_hmac_of_the_body() {
    let headers = signed(
        &[SigningStyle::Crm],
        secrets("Jefe"),
        &message("evt_1", AT, "what do ya want for nothing?"),
    );
    let expected = [
        "x-webhook-id: 4",
        "x-webhook-event: status.changed",
        "x-webhook-timestamp: 2024-12-04T10:30:00.123Z",
        "x-webhook-signature: 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ];
    assert_eq!(shown(&headers), expected);
}

/// The example in GitHub's documentation.
#[test]
fn the_style_of_hubs_is_that_of_github_and_meta() {
    let headers = signed(
        &[SigningStyle::Hub],
        secrets("It's a Secret to Everybody"),
        &message("evt_1", AT, "Hello, World!"),
    );
    let expected = "x-hub-signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(shown(&headers), [expected]);
}

/// Examples of the reference library and of the specification.
#[test]
fn standard_webhooks_are_signed_as_their_specification_has_it() {
    let body = r#"{"email":"test@example.com","username":"test_user"}"#;
    let message_1 = message("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
    let headers = signed(
        &[SigningStyle::Standard],
        secrets("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        &message_1,
    );
    let expected = [
        "webhook-timestamp: 1649367553",
        "webhook-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ];
    assert_eq!(shown(&headers), expected);

    let pair =
        "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let seed = &BASE64_STANDARD.decode(pair).expect("base64")[..32];
    let signing_key = Some(Secret::new(BASE64_STANDARD.encode(seed)));
    let body = r#"{"test": 2432232314}"#;
    let v1a = SigningSecrets {
        signing_key,
        ..secrets("unused")
    };
    let headers = signed(
        &[SigningStyle::V1a],
        v1a,
        &message("msg_p5jXN8AQM9LWM0D4loKWxJek", AT, body),
    );
    let expected = [
        "webhook-timestamp: 1614265330",
        "webhook-signature: v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ];
    assert_eq!(shown(&headers), expected);
}

/// True if one of the signatures is the one that the reference library makes with its secret. The
/// library's own check would compare the timestamp with today's clock.
fn is_taken_by(library: &Webhook, id: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let value = |name| {
        headers
            .get(name)
            .expect("it is there")
            .to_str()
            .expect("text")
    };
    let timestamp = value(TIMESTAMP).parse().expect("seconds");
    let expected = library.sign(id, timestamp, body).expect("text");
    value(SIGNATURE)
        .split(' ')
        .any(|signature| signature == expected)
}

#[test]
fn both_secrets_count_during_a_rotation_and_one_after_it() {
    let (old, new) = (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    let libraries = [old, new].map(|secret| Webhook::new(secret).expect("a secret"));
    let taken = |attempt_at| {
        let secrets = SigningSecrets {
            previous: Some((Secret::new(old), at(100))),
            ..secrets(new)
        };
        let headers = signed(
            &[SigningStyle::Standard],
            secrets,
            &message("evt_1", attempt_at, "{}"),
        );
        assert!(
            libraries
                .iter()
                .all(|library| !is_taken_by(library, "evt_1", &headers, b"{ }"))
        );
        libraries
            .each_ref()
            .map(|library| is_taken_by(library, "evt_1", &headers, b"{}"))
    };
    assert_eq!(taken(99), [true, true]);
    assert_eq!(taken(100), [false, true]);
}

#[test]
fn a_secret_without_the_prefix_is_used_as_its_bytes_are() {
    for secret in ["hush", "aGVsbG8=", "whsec_!"] {
        let headers = signed(
            &[SigningStyle::Standard],
            secrets(secret),
            &message("evt_1", AT, "{}"),
        );
        let library = Webhook::from_bytes(secret.as_bytes().to_vec()).expect("a key");
        assert!(is_taken_by(&library, "evt_1", &headers, b"{}"), "{secret}");
    }
}

/// The libraries of Standard Webhooks decode a secret without the prefix too, and could not verify
/// a delivery that was signed with its characters only.
#[test]
fn a_library_takes_the_secret_as_it_is_if_it_is_base64() {
    for secret in [
        "hush",
        "aGVsbG8=",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ] {
        let library = Webhook::new(secret).expect("base64");
        let headers = signed(
            &[SigningStyle::Standard],
            secrets(secret),
            &message("evt_1", AT, "{}"),
        );
        assert!(is_taken_by(&library, "evt_1", &headers, b"{}"), "{secret}");
    }
}

/// The guide gives this way for secrets that no library takes.
#[test]
fn a_library_takes_any_other_secret_in_base64() {
    for secret in ["a-secret-with-marks", "change me!", "abcde"] {
        let library = Webhook::new(&BASE64_STANDARD.encode(secret)).expect("base64");
        let headers = signed(
            &[SigningStyle::Standard],
            secrets(secret),
            &message("evt_1", AT, "{}"),
        );
        assert!(is_taken_by(&library, "evt_1", &headers, b"{}"), "{secret}");
    }
}

#[test]
fn all_styles_stand_side_by_side() {
    let mut secrets = secrets("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    secrets.ensure_signing_key();
    let public = secrets.public_key().expect("it has a pair");
    let all = [
        SigningStyle::Crm,
        SigningStyle::Standard,
        SigningStyle::Hub,
        SigningStyle::V1a,
    ];
    let headers = signed(&all, secrets, &message("evt_1", AT, "{}"));
    let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    let expected = [
        "x-webhook-id",
        "x-webhook-event",
        "x-webhook-timestamp",
        "x-webhook-signature",
        "x-hub-signature-256",
        "webhook-timestamp",
        "webhook-signature",
    ];
    assert_eq!(names, expected);
    let given = headers[SIGNATURE].to_str().expect("text");
    let (v1, v1a) = given.split_once(' ').expect("two signatures");
    assert!(v1.starts_with("v1,"), "{given}");
    let bytes = |text: &str| BASE64_STANDARD.decode(text).expect("base64");
    let key = bytes(public.strip_prefix("whpk_").expect("its prefix"))
        .try_into()
        .expect("32 bytes");
    let signature = Signature::from_slice(&bytes(v1a.strip_prefix("v1a,").expect("its version")))
        .expect("64 bytes");
    let key = VerifyingKey::from_bytes(&key).expect("a key");
    assert!(
        key.verify_strict(b"evt_1.1614265330.{}", &signature)
            .is_ok()
    );
    assert!(
        key.verify_strict(b"evt_1.1614265331.{}", &signature)
            .is_err()
    );
}

#[test]
fn a_key_pair_without_its_style_signs_nothing() {
    let mut secrets = secrets("hush");
    secrets.ensure_signing_key();
    let headers = signed(
        &[SigningStyle::Standard],
        secrets,
        &message("evt_1", AT, "{}"),
    );
    assert!(!headers[SIGNATURE].to_str().expect("text").contains("v1a"));
}

#[test]
fn what_no_header_can_hold_is_replaced() {
    assert_eq!(to_header_value("a\r\nb"), "a??b");
    assert_eq!(to_header_value("größe").as_bytes(), "größe".as_bytes());
}

#[test]
fn keys_never_show_themselves() {
    assert_eq!(
        format!(
            "{:?}",
            DeliverySigner::new(4, &secrets("hush"), &[SigningStyle::Crm])
        ),
        "…"
    );
}

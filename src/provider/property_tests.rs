//! Property tests of what reads descriptions of senders, their keys, and their headers: any text is
//! parsed or refused, without a panic.

use proptest::prelude::*;

use super::signature_header::{SignatureHeaderForm, SignatureHeaderParts};
use super::signed_template::SignedTemplate;
use super::{
    FieldLocator, ItemPath, JsonPointer, SignatureEncoding, SignedComponent, VerificationKey,
    find_validation_token, parse_header_name,
};
use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

const ENCODINGS: [SignatureEncoding; 3] = [
    SignatureEncoding::Hex,
    SignatureEncoding::Base64,
    SignatureEncoding::Base64Url,
];

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_key_is_parsed_or_refused(text in damaged_text(&[
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        "user:pass:word",
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
        "{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp\",\"e\":\"AQAB\"}",
        "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH\\n-----END PUBLIC KEY-----",
    ])) {
        let _ = (VerificationKey::from_secret(&text), VerificationKey::from_login(&text));
        let _ = (VerificationKey::from_public(&text), VerificationKey::from_standard(&text));
        let _ = (VerificationKey::from_ecdsa(&text), VerificationKey::from_rsa(&text));
    }

    #[test]
    fn any_place_or_template_is_parsed_or_refused(text in damaged_text(&[
        "/data/0/~1id", "./customer/id", "{/type}.{?/action}", "{x-topic}/{/id}", "x-github-event", "/entry/*/changes/*",
        "{timestamp}.{body}", "v0:{timestamp}:{body}", "{method}{url}{header:x-id}{body}",
        "t={timestamp},v1={signature},v1={signature}", "ts={timestamp};h1={signature}",
        "@method", "\"@target-uri\"", "content-digest",
    ])) {
        let _ = (FieldLocator::parse(&text), FieldLocator::parse_alternative(&text));
        let _ = (ItemPath::parse(&text), JsonPointer::parse(&text), parse_header_name(&text));
        let _ = (SignedTemplate::parse(&text), SignedComponent::parse(&text));
        let _ = SignatureHeaderParts::parse(&text).map(|parts| parts.to_string());
    }

    #[test]
    fn any_header_of_signatures_is_read_or_refused(
        first in damaged_text(&["t=1764374400,v1=5257a869,v1=ABCD,v0=00", "sha256=00ff,SHA256=zz, sha256=AA==", "ts=1;h1=aa"]),
        second in damaged_text(&["t=1764374401", "v1,c48w1MpTZ+fgLx/ynYOsoAWXBo3YIS8Vr/Ta7L59qf4=", ""]),
        url in damaged_text(&["https://h.example/in/x?validationToken=a%20b%2&validationToken=&bodySHA256=ff"]),
    ) {
        let parts = SignatureHeaderParts::parse("t={timestamp},v1={signature}").expect("a template");
        let forms = [
            SignatureHeaderForm::Parts(parts),
            SignatureHeaderForm::List { prefix: "sha256=".into() },
            SignatureHeaderForm::List { prefix: "".into() },
        ];
        for form in &forms {
            for encoding in ENCODINGS {
                if let Some(content) = form.read_lines(&[&first, &second], encoding) {
                    prop_assert!(!content.signatures.is_empty());
                }
            }
        }
        let _ = find_validation_token(&url);
    }
}

//! Tests of configured sources: accepted tables, refused tables and their messages.

use std::fs;

use super::super::{ConfigPurpose, load_config};
use super::*;
use crate::config::ConfigDraft;
use crate::provider::{
    JwtScheme, MessageSignatureScheme, SignatureAlgorithm, SignatureEncoding, SignatureHeaderForm,
    SignatureHeaderParts, SignatureScheme, SignedComponent, SignedTemplate,
};

type CustomSourceEnv<'a> = &'a [(&'a str, &'a str)];

const TOKEN: (&str, &str) = ("HOOKYARD_ADMIN__TOKEN", "test-token");

/// Loads a file of these tables; problems lose the folder's name.
fn loaded(text: &str, env: CustomSourceEnv<'_>) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.toml");
    fs::write(&path, text).expect("the folder is writable");
    let prefix = format!("{}/", folder.path().display());
    load_config(Some(&path), env.iter().copied().chain([TOKEN])).map_err(|problems| {
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    })
}

fn problems(text: &str) -> Vec<String> {
    loaded(text, &[]).expect_err("something is wrong with it")
}

fn source(text: &str, env: CustomSourceEnv<'_>) -> CustomSourceConfig {
    let mut config = loaded(text, env).expect("valid");
    config.sources.custom.pop().expect("a source")
}

const STRIPE: &str = "[[sources.custom]]\nname = \"billing\"\npreset = \"stripe\"\n";
const PLANT: &str = "[[sources.custom]]\nname = \"plant\"\nsecrets = [\"hush\"]\nentity = \"/id\"\nevent = \"X-Event\"\n";

#[test]
fn a_preset_needs_little_and_every_key_can_be_set() {
    let billing = source(
        &format!("{STRIPE}secrets = [\"whsec_a\", \"whsec_b\"]"),
        &[],
    );
    assert_eq!(
        (billing.name.as_str(), billing.kind.as_str()),
        ("billing", "custom:billing")
    );
    assert!(billing.enabled && billing.rate_per_minute == 0);
    assert_eq!(
        (billing.source.keys.len(), billing.source.tolerance),
        (2, USUAL_TOLERANCE)
    );
    assert_eq!(
        billing.source.fields.entity.as_slice()[0].to_string(),
        "at /data/object/id"
    );
    assert!(!billing.source.fields.expects_time);
    let all = format!(
        "{STRIPE}secrets = [\"whsec_a\"]\nenabled = false\nrate_per_minute = 7\ntolerance_s = 0.5\nentity = \"/a~1b\"\n\
         event = \"X-Topic\"\nidempotency_key = \"/key\"\noccurred_at = \"X-At\"\n"
    );
    let billing = source(&all, &[]);
    assert!(!billing.enabled && billing.rate_per_minute == 7);
    assert_eq!(billing.source.tolerance, Duration::from_millis(500));
    let fields = billing.source.fields;
    assert_eq!(
        (fields.entity.to_string(), fields.event.to_string()),
        ("at /a~1b".into(), "in header x-topic".into())
    );
    assert_eq!(fields.occurred_at.to_string(), "in header x-at");
    assert!(fields.expects_time);
}

#[test]
fn a_scheme_of_ones_own_is_a_table() {
    let scheme = "scheme = { header = \"X-Sig\", algorithm = \"hmac-sha512\", encoding = \"base64url\", prefix = \"v1=\", \
                  signed = \"{id}.{timestamp}.{body}\", timestamp_header = \"X-At\", tolerance_s = 60 }\nidempotency_key = \"X-Id\"";
    let plant = source(&format!("{PLANT}{scheme}"), &[]);
    let expected = SignatureScheme::Signature {
        header: "x-sig".into(),
        form: SignatureHeaderForm::List {
            prefix: "v1=".into(),
        },
        algorithm: SignatureAlgorithm::HmacSha512,
        encoding: SignatureEncoding::Base64Url,
        signed: SignedTemplate::parse("{id}.{timestamp}.{body}").expect("a template"),
        timestamp_header: Some("x-at".into()),
        id_header: Some("x-id".into()),
    };
    assert!(
        matches!(&plant.source.signing, SourceSigning::Own(scheme) if *scheme == expected),
        "{:?}",
        plant.source.signing
    );
    assert_eq!(plant.source.tolerance, Duration::from_secs(60));
    let own = |scheme: &str| source(&format!("{PLANT}{scheme}"), &[]).source;
    let plain = own("[sources.custom.scheme]\nheader = \"X-Sig\"\nalgorithm = \"hmac-sha256\"");
    let expected = SignatureScheme::for_body(
        "x-sig",
        "",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Hex,
    );
    assert!(
        matches!(&plain.signing, SourceSigning::Own(scheme) if *scheme == expected),
        "{:?}",
        plain.signing
    );
    assert!(plain.tolerance.is_zero());
    let parts = own(
        "scheme = { header = \"X-Sig\", algorithm = \"hmac-sha256\", parts = \"t={timestamp},v1={signature}\", \
         signed = \"{timestamp}.{body}\" }",
    );
    assert_eq!(parts.tolerance, USUAL_TOLERANCE);
    let SourceSigning::Own(SignatureScheme::Signature { form, .. }) = &parts.signing else {
        panic!("a signature")
    };
    let expected = SignatureHeaderParts::parse("t={timestamp},v1={signature}").expect("parts");
    assert_eq!(*form, SignatureHeaderForm::Parts(expected));
    let token =
        own("scheme = { header = \"Authorization\", algorithm = \"token\", prefix = \"Bearer \" }");
    assert!(matches!(
        token.signing,
        SourceSigning::Own(SignatureScheme::Token { .. })
    ));
}

#[test]
fn the_parts_of_a_header_fit_the_rest_of_the_scheme() {
    let problem = |scheme: &str| {
        let text = format!("{PLANT}scheme = {{ header = \"X-Sig\", {scheme} }}");
        let problems = problems(&text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].replace("h.toml:6: sources.custom.plant.scheme.", "")
    };
    const HMAC: &str = "algorithm = \"hmac-sha256\", parts = \"t={timestamp},v1={signature}\"";
    assert_eq!(
        problem(HMAC),
        "parts: expected {timestamp} in scheme.signed: an unsigned time proves nothing"
    );
    let signed = format!("{HMAC}, signed = \"{{timestamp}}.{{body}}\"");
    assert_eq!(
        problem(&format!("{signed}, timestamp_header = \"X-At\"")),
        "timestamp_header: not used: scheme.parts says where the time is"
    );
    assert_eq!(
        problem(&format!("{signed}, prefix = \"v1=\"")),
        "prefix: not used: scheme.parts names the parts of the header"
    );
    assert_eq!(
        problem("algorithm = \"hmac-sha256\", parts = \"t={time}\""),
        "parts: expected named parts such as t={timestamp},v1={signature}: one separator, one \
         {signature} or more, one {timestamp} at most, found \"t={time}\""
    );
    assert_eq!(
        problem("algorithm = \"token\", parts = \"t={timestamp},v1={signature}\""),
        "parts: not used by the algorithm token"
    );
}

#[test]
fn a_sender_of_tokens_or_message_signatures_is_described_by_its_format() {
    let own = |scheme: &str| source(&format!("{PLANT}scheme = {{ {scheme} }}"), &[]).source;
    let token = own(
        "format = \"jwt\", algorithm = \"hmac-sha256\", header = \"Authorization\", prefix = \"Bearer \", \
         body_hash = \"payload_hash\", issuer = \"crm\", tolerance_s = 60",
    );
    let expected = SignatureScheme::Jwt(JwtScheme {
        header: "authorization".into(),
        prefix: "Bearer ".into(),
        algorithm: SignatureAlgorithm::HmacSha256,
        body_hash: Some("payload_hash".into()),
        issuer: Some("crm".into()),
        audience: None,
    });
    assert!(
        matches!(&token.signing, SourceSigning::Own(scheme) if *scheme == expected),
        "{:?}",
        token.signing
    );
    assert_eq!(token.tolerance, Duration::from_secs(60));

    let signed = own(
        "format = \"message-signature\", algorithm = \"hmac-sha256\", label = \"crm\", \
         covers = [\"@method\", \"X-Event\"]",
    );
    let expected = SignatureScheme::MessageSignature(MessageSignatureScheme {
        algorithm: SignatureAlgorithm::HmacSha256,
        label: Some("crm".into()),
        covers: ["@method", "x-event"]
            .map(|name| SignedComponent::parse(name).expect("a component"))
            .into(),
    });
    assert!(
        matches!(&signed.signing, SourceSigning::Own(scheme) if *scheme == expected),
        "{:?}",
        signed.signing
    );
    assert_eq!(signed.tolerance, USUAL_TOLERANCE);

    let problem = |scheme: &str| {
        let text = format!("{PLANT}scheme = {{ algorithm = \"hmac-sha256\", {scheme} }}");
        let problems = problems(&text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].replace("sources.custom.plant.scheme.", "")
    };
    assert_eq!(
        problem("format = \"jws\""),
        "h.toml:6: format: expected one of header, jwt, message-signature, found \"jws\""
    );
    assert_eq!(
        problem("format = \"jwt\""),
        "h.toml:1: header: missing: the header that carries the signature or the token"
    );
    assert_eq!(
        problem("format = \"jwt\", header = \"a\", signed = \"{body}\""),
        "h.toml:6: signed: not used by the format jwt"
    );
    assert_eq!(
        problem("header = \"a\", issuer = \"crm\""),
        "h.toml:6: issuer: not used by the format header"
    );
    assert_eq!(
        problem("format = \"message-signature\", header = \"a\""),
        "h.toml:6: header: not used by the format message-signature"
    );
    assert_eq!(
        problem("format = \"message-signature\", covers = [\"@status\"]"),
        "h.toml:6: covers: expected the name of a header, or one of @method, @target-uri, \
         @authority, @scheme, @request-target, @path and @query, found \"@status\""
    );
    let wrong = format!(
        "{PLANT}scheme = {{ format = \"jwt\", header = \"a\", algorithm = \"hmac-sha1\" }}"
    );
    assert_eq!(
        problems(&wrong),
        [
            "h.toml:6: sources.custom.plant.scheme.algorithm: expected one of hmac-sha256, \
          hmac-sha512, ed25519, ecdsa-p256, rsa-sha256 in this format"
        ]
    );
}

#[test]
fn secrets_and_every_other_key_can_come_from_the_environment() {
    let env = [
        (
            "HOOKYARD_SOURCES__CUSTOM__MY_SHOP__SECRETS",
            "whsec_a,whsec_b",
        ),
        ("HOOKYARD_SOURCES__CUSTOM__MY_SHOP__ENABLED", "false"),
        ("HOOKYARD_SOURCES__CUSTOM__MY_SHOP__TOLERANCE_S", "0"),
    ];
    let shop = source(&STRIPE.replace("billing", "my-shop"), &env);
    assert_eq!(
        (shop.name.as_str(), shop.source.keys.len(), shop.enabled),
        ("my-shop", 2, false)
    );
    assert!(shop.source.tolerance.is_zero());
    let odd = source(
        &STRIPE.replace("billing", "a__b-"),
        &[("HOOKYARD_SOURCES__CUSTOM__A__B___SECRETS", "whsec_a")],
    );
    assert_eq!(odd.source.keys.len(), 1);
    let wrong = loaded(
        STRIPE,
        &[("HOOKYARD_SOURCES__CUSTOM__BILING__SECRETS", "whsec_a")],
    )
    .expect_err("no such source");
    assert!(
        wrong[1]
            .ends_with("the nearest is `sources.custom.billing.secrets` (HOOKYARD_SOURCES__CUSTOM__BILLING__SECRETS)"),
        "{wrong:#?}"
    );
}

#[test]
fn a_problem_says_where_it_is_and_what_was_expected() {
    let billing = |line: &str| format!("{STRIPE}secrets = [\"whsec_a\"]\n{line}");
    let plant = |line: &str| format!("{PLANT}{line}");
    let scheme = |text: &str| {
        plant(&format!(
            "scheme = {{ header = \"X-Sig\", algorithm = \"hmac-sha256\", {text} }}"
        ))
    };
    let table = [
        (
            billing("entitty = \"/id\""),
            "h.toml:5: unknown key `entitty` of a configured source; the nearest is `entity`",
        ),
        (
            scheme("sined = \"{body}\""),
            "h.toml:6: unknown key `scheme.sined` of a configured source; the nearest is `scheme.signed`",
        ),
        (
            billing("scheme = \"own\""),
            "h.toml:5: sources.custom.billing.scheme: expected a table such as { header = \"X-Signature\", … }, found a string",
        ),
        (
            billing("scheme = { header = \"a\" }"),
            "h.toml:3: sources.custom.billing.preset: expected a preset or a scheme, found both",
        ),
        (
            plant(""),
            "h.toml:1: sources.custom.plant.preset: missing: name one of calendly, discord, gitea, github, gitlab, hubspot, intercom, linear, meta, paddle, pipedrive, sendgrid, shopify, slack, standard, stripe, svix, trello, twilio, woocommerce, xero, zendesk, or describe a scheme",
        ),
        (
            plant("preset = \"strip\""),
            "h.toml:6: sources.custom.plant.preset: expected one of calendly, discord, gitea, github, gitlab, hubspot, intercom, linear, meta, paddle, pipedrive, sendgrid, shopify, slack, standard, stripe, svix, trello, twilio, woocommerce, xero, zendesk, found \"strip\" (the nearest is \"stripe\")",
        ),
        (
            billing("entity = \"/a~2\""),
            "h.toml:5: sources.custom.billing.entity: expected a JSON pointer such as /data/id, the name of a header, or a template such as order:{/id}, found \"/a~2\"",
        ),
        (
            billing("event = \"two words\""),
            "h.toml:5: sources.custom.billing.event: expected a JSON pointer such as /data/id, the name of a header, or a template such as order:{/id}, found \"two words\"",
        ),
        (
            billing("event = [\"/a\", \"{/b\"]"),
            "h.toml:5: sources.custom.billing.event: expected a JSON pointer such as /data/id, the name of a header, or a template such as order:{/id}, found \"{/b\"",
        ),
        (
            billing("event = []"),
            "h.toml:5: sources.custom.billing.event: expected 1 to 24 places",
        ),
        (
            billing("items = \"entry\""),
            "h.toml:5: sources.custom.billing.items: expected a JSON pointer to a list, such as /events or /entry/*/changes, or \"\", found \"entry\"",
        ),
        (
            billing("event = 7"),
            "h.toml:5: sources.custom.billing.event: expected a string, found a whole number",
        ),
        (
            billing("tolerance_s = -1"),
            "h.toml:5: sources.custom.billing.tolerance_s: expected 0 to 86400 seconds, found -1",
        ),
        (
            billing("rate_per_minute = -1"),
            "h.toml:5: sources.custom.billing.rate_per_minute: expected 0 to 4294967295, found -1",
        ),
        (
            billing("verify_token = \"x\""),
            "h.toml:5: sources.custom.billing.verify_token: not used: only the preset meta has a subscription handshake",
        ),
        (
            plant("preset = \"github\"\ntolerance_s = 5"),
            "h.toml:7: sources.custom.plant.tolerance_s: not used: this source signs no timestamp",
        ),
        (
            plant("preset = \"pipedrive\""),
            "h.toml:3: sources.custom.plant.secrets: expected user:password",
        ),
        (
            plant("preset = \"svix\"").replace("hush", "not base64"),
            "h.toml:3: sources.custom.plant.secrets: expected whsec_ or whpk_ and base64",
        ),
        (
            plant("scheme = { header = \"X-Sig\", algorithm = \"ed25519\" }"),
            "h.toml:3: sources.custom.plant.secrets: expected an Ed25519 public key: 32 bytes in hex, in base64 with or without whpk_ before them, in PEM, or as JSON Web Key",
        ),
        (
            plant("scheme = { header = \"X-Sig\" }"),
            "h.toml:1: sources.custom.plant.scheme.algorithm: missing: one of hmac-sha256, hmac-sha512, hmac-sha1, ed25519, ecdsa-p256, rsa-sha256, token, basic",
        ),
        (
            plant("scheme = { header = \"X-Sig\", algorithm = \"md5\" }"),
            "h.toml:6: sources.custom.plant.scheme.algorithm: expected one of hmac-sha256, hmac-sha512, hmac-sha1, ed25519, ecdsa-p256, rsa-sha256, token, basic, found \"md5\"",
        ),
        (
            plant("scheme = { algorithm = \"hmac-sha1\" }"),
            "h.toml:1: sources.custom.plant.scheme.header: missing: the header that carries the signature or the token",
        ),
        (
            scheme("encoding = \"base32\""),
            "h.toml:6: sources.custom.plant.scheme.encoding: expected one of hex, base64, base64url, found \"base32\"",
        ),
        (
            scheme("signed = \"{boody}\""),
            "h.toml:6: sources.custom.plant.scheme.signed: expected text with {body}, {timestamp}, {id}, {method} or {url} in it, and no other braces, found \"{boody}\"",
        ),
        (
            scheme("signed = \"{url}\""),
            "h.toml:6: sources.custom.plant.scheme.signed: expected {body} in it, since the signature must cover the body, found \"{url}\"",
        ),
        // Only the template is wrong: what depends on it is not judged.
        (
            scheme("signed = \"{id}{timestamp}.{body}\", timestamp_header = \"X-At\""),
            "h.toml:6: sources.custom.plant.scheme.signed: expected text without digits at its ends between two placeholders for headers, and between {id} and {body}, or one signature fits many values, found \"{id}{timestamp}.{body}\"",
        ),
        (
            scheme("signed = \"{timestamp}{body}\""),
            "h.toml:1: sources.custom.plant.scheme.timestamp_header: missing: scheme.signed contains {timestamp}",
        ),
        (
            scheme("timestamp_header = \"X-At\""),
            "h.toml:6: sources.custom.plant.scheme.timestamp_header: expected {timestamp} in scheme.signed: an unsigned time proves nothing",
        ),
        (
            scheme("signed = \"{id}.{body}\""),
            "h.toml:1: sources.custom.plant.idempotency_key: expected the name of a header: {id} in scheme.signed stands for its value",
        ),
        (
            scheme("tolerance_s = 5"),
            "h.toml:6: sources.custom.plant.scheme.tolerance_s: not used: this source signs no timestamp",
        ),
        (
            plant("scheme = { header = \"X-Sig\", algorithm = \"token\", encoding = \"hex\" }"),
            "h.toml:6: sources.custom.plant.scheme.encoding: not used by the algorithm token",
        ),
        (
            STRIPE.replace("billing", "Billing") + "secrets = [\"a\"]",
            "h.toml:2: sources.custom.name: expected 1 to 64 of a-z, 0-9, _ and -, found \"Billing\"",
        ),
        (
            "[[sources.custom]]\npreset = \"stripe\"\nsecrets = [\"a\"]".into(),
            "h.toml:1: sources.custom.name: missing: it is in the path, /in/<name>",
        ),
        (
            "[sources.custom]\nname = \"billing\"".into(),
            "h.toml:1: sources.custom: expected tables, each under [[sources.custom]]",
        ),
        (
            "sources.custom = [1]".into(),
            "h.toml:1: sources.custom: expected a table, found a whole number",
        ),
        (
            "[[sources.custum]]".into(),
            "h.toml:1: unknown key `sources.custum`; the nearest is `sources.custom`",
        ),
        (
            STRIPE.into(),
            "h.toml:1: sources.custom.billing.secrets: missing: set the sender's secret here or in HOOKYARD_SOURCES__CUSTOM__BILLING__SECRETS",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(problems(&text), [expected], "{text}");
    }
}

/// Loads a file for a node, and returns its warnings without the folder's name.
fn warnings(text: &str) -> Vec<String> {
    let config = loaded(text, &[]).expect("valid");
    let warnings = config.warnings.iter().map(ToString::to_string);
    let names_place = |text: &String| !text.contains("fewer than 24 bytes");
    warnings
        .filter(names_place)
        .map(|text| text.rsplit_once("/h.toml").expect("a place").1.to_owned())
        .collect()
}

/// A forgotten slash gave every event one key, so that all but the first were lost.
#[test]
fn a_constant_is_no_key_and_no_time_and_hides_no_other_place() {
    let billing = |line: &str| format!("{STRIPE}secrets = [\"whsec_a\"]\n{line}");
    let same = "is a constant, which is the same for every event; did you mean";
    for (line, expected) in [
        (
            "idempotency_key = [\"/uid\", \"id\"]",
            format!("idempotency_key: \"id\" {same} \"/id\"?"),
        ),
        (
            "idempotency_key = [\"id\"]",
            format!("idempotency_key: \"id\" {same} \"/id\"?"),
        ),
        (
            "idempotency_key = [\"{/id}:{./x}\", \"paid{!/paid}\"]",
            format!("idempotency_key: \"paid{{!/paid}}\" {same}"),
        ),
        (
            "occurred_at = [\"/at\", \"x/y\"]",
            format!("occurred_at: \"x/y\" {same} \"/x/y\"?"),
        ),
        (
            "entity = [\"data.id\", \"/customer_id\"]",
            "entity: \"data.id\" is a constant, which is always found, so the places behind it \
             never count; did you mean \"/data/id\"?"
                .to_owned(),
        ),
    ] {
        let found = problems(&billing(line));
        assert_eq!(found.len(), 1, "{found:?}");
        let place = "h.toml:5: sources.custom.billing.";
        assert!(
            found[0].starts_with(&format!("{place}{expected}")),
            "{found:?}"
        );
    }
}

#[test]
fn a_place_that_looks_like_another_is_warned_of() {
    let billing = |line: &str| format!("{STRIPE}secrets = [\"whsec_a\"]\n{line}");
    let header = |text: &str, pointer: &str| {
        format!(
            "{text:?} is read as a header; for a member of the body write {pointer:?}, for the \
             header \"{{{text}}}\""
        )
    };
    let constant = |text: &str, pointer: &str| {
        format!(
            "{text:?} is a constant, found as it is; for a member of the body write {pointer:?}"
        )
    };
    for (line, expected) in [
        ("entity = \"data.id\"", header("data.id", "/data/id")),
        ("event = \"type\"", header("type", "/type")),
        ("event = \"eventType\"", header("eventType", "/eventType")),
        ("event = \"$.type\"", header("$.type", "/type")),
        (
            "entity = \"order:{data.id}\"",
            header("data.id", "/data/id"),
        ),
        (
            "entity = [\"/a\", \"customer_id\"]",
            constant("customer_id", "/customer_id"),
        ),
        (
            "event = [\"/a\", \"data/type\"]",
            constant("data/type", "/data/type"),
        ),
    ] {
        let (name, _) = line.split_once(' ').expect("a name");
        let place = format!(":5: sources.custom.billing.{name}: ");
        assert_eq!(warnings(&billing(line)), [format!("{place}{expected}")]);
    }
    for line in [
        "entity = \"X-Topic\"",
        "entity = \"{Topic}\"",
        "entity = [\"/a\", \"account\"]",
        "event = [\"/a\", \"order.paid\"]",
        "event = [\"Topic-A\", \"{Topic}\"]",
    ] {
        assert_eq!(warnings(&billing(line)), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn what_a_source_still_needs_is_warned_of() {
    let table = |preset: &str, secret: &str| {
        format!("[[sources.custom]]\nname = \"x\"\npreset = {preset:?}\nsecrets = [{secret:?}]\n")
    };
    let long = "0123456789abcdef01234567";
    let found = warnings(&table("meta", long));
    assert!(
        found.len() == 1 && found[0].contains(".x.verify_token: missing"),
        "{found:?}"
    );
    for key in [
        "sk_live_0123456789abcdef0123",
        "sk_test_0123456789abcdef0123",
    ] {
        let found = warnings(&table("stripe", key));
        assert!(
            found.len() == 1
                && found[0].contains("an API key of Stripe")
                && !found[0].contains("0123"),
            "{found:?}"
        );
    }
    let found = warnings(&table("github", &format!("{long} ")));
    assert!(
        found.len() == 1 && found[0].contains("ends with a space"),
        "{found:?}"
    );
    for preset in ["hubspot", "twilio", "trello"] {
        let text = table(preset, long);
        let is_of_url = |found: &String| found.contains("server.public_url");
        let found = warnings(&text);
        assert_eq!(
            found.iter().filter(|found| is_of_url(found)).count(),
            1,
            "{found:?}"
        );
        let behind = warnings(&format!("server.public_url = \"https://h\"\n{text}"));
        assert!(!behind.iter().any(is_of_url), "{behind:?}");
    }
    let own = format!(
        "{}scheme = {{ header = \"X-Sig\", algorithm = \"hmac-sha256\", signed = \"{{url}}\\n{{body}}\" }}",
        PLANT.replace("hush", long)
    );
    assert!(warnings(&own)[0].contains("server.public_url"));
}

/// Relative to the working directory, a client command in another folder failed.
#[test]
fn schemas_are_in_the_folder_of_the_file_that_names_them_and_no_tool_reads_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.toml");
    let text = format!("{STRIPE}secrets = [\"whsec_a\"]\nschemas = \"forms\"\n");
    fs::write(&path, text).expect("writable");
    let finish = |purpose| {
        ConfigDraft::from_toml(Some(&path), [TOKEN])
            .finish(purpose)
            .map(|config| format!("{:?}", config.sources.custom[0].source.schemas))
    };
    let error = finish(ConfigPurpose::Judgement).expect_err("there is no folder");
    assert!(
        error.to_string().contains("/forms cannot be read"),
        "{error}"
    );
    assert_eq!(
        finish(ConfigPurpose::Tool),
        Ok("EventSchemas(0, Mark)".to_owned())
    );

    fs::create_dir(folder.path().join("forms")).expect("writable");
    fs::write(folder.path().join("forms/a.json"), "{}").expect("writable");
    for purpose in [ConfigPurpose::Trial, ConfigPurpose::Judgement] {
        assert_eq!(finish(purpose), Ok("EventSchemas(1, Mark)".to_owned()));
    }
}

#[test]
fn a_section_that_is_named_after_a_preset_becomes_a_table() {
    assert_eq!(
        problems("[sources.github]\nsecrets = [\"a\"]"),
        [
            "h.toml:1: unknown section `sources.github`; write [[sources.custom]] with name = \"github\" \
             and preset = \"github\""
        ]
    );
    let of_variable = loaded("", &[("HOOKYARD_SOURCES__GITHUB__SECRETS", "a")]);
    let of_variable = of_variable.expect_err("no such section");
    assert!(
        of_variable[0].ends_with("preset = \"github\""),
        "{of_variable:?}"
    );
}

#[test]
fn a_field_has_one_place_or_a_list_of_them() {
    let listed = source(
        &format!(
            "{STRIPE}secrets = [\"whsec_a\"]\n\
             entity = [\"/repository/full_name\", \"organization:{{/organization/login}}\", \"account\"]\n\
             event = \"Topic\"\nidempotency_key = [\"X-Id\", \"{{X-Time}}:{{./id}}\"]"
        ),
        &[],
    )
    .source
    .fields;
    assert_eq!(
        listed.entity.to_string(),
        "at /repository/full_name, else as organization:{/organization/login}, else as account"
    );
    assert_eq!(listed.event.to_string(), "in header topic");
    assert_eq!(
        listed.idempotency_key.to_string(),
        "in header x-id, else as {X-Time}:{./id}"
    );
    let name = "HOOKYARD_SOURCES__CUSTOM__BILLING__ENTITY";
    for (value, expected) in [
        ("/a,X-B, c", "at /a, else in header x-b, else as c"),
        ("Account", "in header account"),
    ] {
        let fields = source(
            &format!("{STRIPE}secrets = [\"whsec_a\"]"),
            &[(name, value)],
        )
        .source
        .fields;
        assert_eq!(fields.entity.to_string(), expected);
    }
}

#[test]
fn a_body_may_hold_several_events_or_json_in_a_form() {
    let layout = |line: &str, preset: &str| {
        let text = format!(
            "{}secrets = [\"whsec_a\"]\n{line}",
            STRIPE.replace("\"stripe", preset)
        );
        source(&text, &[]).source.layout
    };
    let own = layout(
        "items = [\"/entry/*/changes\", \"/more\"]\nform_json = \"data\"\ndecompress = true",
        "\"stripe",
    );
    assert_eq!(
        own.items,
        ItemPaths::from_preset(&["/entry/*/changes", "/more"])
    );
    assert_eq!((&*own.json_fields[0], own.decompress), ("data", true));
    let top = layout("items = \"\"", "\"stripe");
    assert_eq!(top.items, ItemPaths::from_preset(&[""]));
    let plain = layout("", "\"stripe");
    assert!(plain.items.is_empty() && plain.json_fields.is_empty() && !plain.decompress);
    assert!(!layout("", "\"hubspot").items.is_empty());
    assert!(layout("items = []", "\"hubspot").items.is_empty());
}

/// Nothing but a preset and a secret takes every event of the provider.
#[test]
fn a_preset_and_a_secret_are_enough_and_a_scheme_needs_places() {
    for preset in presets::ALL {
        let secrets = [
            "user:a-long-password",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQ4LIFtWztlsF7skFqOncjD1lun4H5w8XOhyOArHW9RcIx/FfEzx6cikC/yPfUvwaX/JScE7Fc9CJD2afQ9Ok3Q==",
        ];
        let secret = secrets
            .into_iter()
            .find(|text| preset.parse_key(text).is_ok());
        let secret = secret.expect("a secret");
        let text = format!(
            "[[sources.custom]]\nname = \"x\"\npreset = {:?}\nsecrets = [{secret:?}]\n",
            preset.name
        );
        assert!(loaded(&text, &[]).is_ok(), "{}", preset.name);
    }
    let text = "[[sources.custom]]\nname = \"shop\"\nsecrets = [\"hush\"]\n\
                scheme = { header = \"X-Sig\", algorithm = \"hmac-sha256\" }\n";
    let how = "missing: set a JSON pointer such as /data/id, or the name of a header";
    assert_eq!(
        problems(text),
        [
            format!("h.toml:1: sources.custom.shop.entity: {how}"),
            format!("h.toml:1: sources.custom.shop.event: {how}")
        ]
    );
}

#[test]
fn a_name_is_one_sources_alone() {
    for name in [
        "support",
        "ticket",
        "message",
        "subscriber",
        "custom",
        "c2s_lead",
        "none",
    ] {
        let text = format!("{}secrets = [\"a\"]", STRIPE.replace("billing", name));
        let expected =
            format!("h.toml:2: sources.custom.name: {name:?} is a reserved name; choose another");
        assert_eq!(problems(&text), [expected]);
    }
    let twice = format!(
        "{0}secrets = [\"a\"]\n{1}secrets = [\"a\"]",
        STRIPE.replace("billing", "a-b"),
        STRIPE.replace("billing", "a_b")
    );
    let expected = "h.toml:6: sources.custom.name: \"a_b\" is the name of another configured source, or differs only in - and _";
    assert_eq!(problems(&twice), [expected]);
}

#[test]
fn all_problems_of_a_source_are_reported_at_once() {
    let text = "[[sources.custom]]\nname = \"X\"\npreset = \"shopify\"\nentity = \"a b\"\ncolour = 1\nsecrets = [\"hunter2\", \"\"]\n";
    let starts = [
        "h.toml:2: sources.custom.name: expected",
        "h.toml:4: sources.custom.#1.entity: expected",
        "h.toml:5: unknown key `colour`",
        "h.toml:6: sources.custom.#1.secrets: expected a secret that is not empty",
    ];
    let problems = problems(text);
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(
            problem.starts_with(start) && !problem.contains("hunter2"),
            "{problem}"
        );
    }
}

/// The first error of a scheme hid those of the fields and of the other keys, and all warnings.
#[test]
fn no_problem_of_a_source_hides_another() {
    let table = "[[sources.custom]]\nname = \"x\"\nsecrets = [\"hush\"]\nidempotency_key = \"id\"\nitemz = \"\"\n";
    let scheme = "scheme = { header = \"X Sig\", algorithm = \"sha256\", signed = \"{ts}\", parts = \"x\" }\n";
    let found = problems(&format!("{table}{scheme}"));
    for part in [
        "x.entity: missing",
        "x.event: missing",
        "unknown key `itemz`",
        "x.scheme.header: expected the name of a header",
        "x.scheme.algorithm: expected one of",
        "x.scheme.signed: expected text with {body}",
        "x.scheme.parts: expected",
    ] {
        let count = found
            .iter()
            .filter(|problem| problem.contains(part))
            .count();
        assert_eq!(count, 1, "{part}: {found:#?}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.toml");
    fs::write(&path, format!("{table}{scheme}")).expect("writable");
    let error = load_config(Some(&path), [TOKEN]).expect_err("wrong");
    let text = error.to_string();
    assert!(
        text.contains("7 problems") && text.contains("\nwarning: "),
        "{text}"
    );
}

#[test]
fn a_tool_and_a_closed_source_need_no_secrets() {
    assert!(loaded(&format!("{STRIPE}enabled = false"), &[]).is_ok());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.toml");
    fs::write(&path, STRIPE).expect("the folder is writable");
    let config = ConfigDraft::from_toml(Some(&path), Vec::<(String, String)>::new())
        .finish(ConfigPurpose::Tool);
    assert!(
        config.expect("valid").sources.custom[0]
            .source
            .keys
            .is_empty()
    );
}

/// Ten presets were missing.
#[test]
fn the_documented_list_of_presets_is_whole() {
    let defaults = include_str!("../../../../config/default.toml").replace("\n#", "");
    for preset in presets::ALL {
        let is_named = [" ", "("].iter().any(|before| {
            [",", ")"]
                .iter()
                .any(|after| defaults.contains(&format!("{before}{}{after}", preset.name)))
        });
        assert!(is_named, "{}", preset.name);
    }
}

#[test]
fn the_documented_example_is_a_valid_one() {
    let defaults = include_str!("../../../../config/default.toml");
    let example: Vec<_> = defaults
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let mut config = loaded(&example.join("\n"), &[]).expect("valid");
    let names: Vec<_> = config
        .sources
        .custom
        .iter()
        .map(|custom| custom.name.as_str())
        .collect();
    assert_eq!(names, ["billing", "pages", "plant"]);
    let plant = config.sources.custom.pop().expect("a source").source;
    assert_eq!(plant.tolerance, Duration::from_secs(60));
    let billing = config.sources.custom.swap_remove(0);
    assert_eq!(
        (
            billing.enabled,
            billing.rate_per_minute,
            billing.source.tolerance
        ),
        (true, 0, USUAL_TOLERANCE)
    );
}

#[test]
fn a_public_url_is_one_that_paths_can_be_put_behind() {
    let url = |text: &str| {
        loaded(&format!("server.public_url = {text:?}"), &[]).map(|config| config.server.public_url)
    };
    for (text, expected) in [
        ("", None),
        (
            "https://hooks.example.com",
            Some("https://hooks.example.com"),
        ),
        ("http://10.0.0.1:8080/", Some("http://10.0.0.1:8080")),
        ("https://[::1]/crm/hooks/", Some("https://[::1]/crm/hooks")),
    ] {
        assert_eq!(url(text), Ok(expected.map(str::to_owned)), "{text}");
    }
    for text in [
        "hooks.example.com",
        "ftp://x",
        "https://",
        "https:///x",
        "https://x?a",
        "https://u@x",
        "https://a b",
    ] {
        let expected = format!(
            "h.toml:1: server.public_url: expected http:// or https:// and a host, without query and fragment, found {text:?}"
        );
        assert_eq!(url(text), Err(vec![expected]));
    }
}

#[test]
fn the_part_of_a_secret_that_must_be_guessed_has_a_length() {
    let lengths = |preset: &str, secrets: &str| {
        let table = format!(
            "[[sources.custom]]\nname = \"x\"\npreset = {preset:?}\nsecrets = [{secrets}]\nentity = \"/id\"\nevent = \"/type\""
        );
        let lengths: Vec<_> = source(&table, &[]).source.secret_lengths().collect();
        lengths
    };
    assert_eq!(lengths("github", "\"hush\", \"a:b\""), [4, 3]);
    assert_eq!(
        lengths("pipedrive", "\"a-user:hush\", \"u:p:q\""),
        [4, 3],
        "the password"
    );
    assert_eq!(
        lengths(
            "standard",
            "\"whsec_aHVzaA==\", \"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=\""
        ),
        [4],
        "the decoded key; a public key is no secret"
    );
}

/// A sender that is not for trials is refused with a secret that can be guessed, as every other
/// source is.
#[test]
fn a_short_secret_of_a_source_is_refused_for_a_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.toml");
    let token = "0123456789abcdef01234567";
    fs::write(&path, format!("{STRIPE}secrets = [\"hush\"]\n")).expect("writable");
    let draft = || ConfigDraft::from_toml(Some(&path), [("HOOKYARD_ADMIN__TOKEN", token)]);
    let error = draft().finish(ConfigPurpose::Node).expect_err("guessable");
    assert!(
        error
            .to_string()
            .contains("sources.custom.billing.secrets: expected secrets of at least"),
        "{error}"
    );
    let config = draft().finish(ConfigPurpose::Tool).expect("a tool may");
    assert_eq!(config.warnings.len(), 1);
}

/// Such sources took a captured request for ever, and nothing said so.
#[test]
fn a_source_that_takes_what_proves_no_time_is_warned_of() {
    let warnings = |text: &str| {
        let config = loaded(text, &[]).expect("valid");
        let warnings = config.warnings.iter().filter_map(|warning| warning.key());
        let keys = warnings.filter_map(|key| key.strip_prefix("sources.custom.s."));
        keys.filter(|key| !["secrets", "name"].contains(key))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let source = |more: &str| format!("[[sources.custom]]\nname = \"s\"\n{more}\n");
    let hubspot = "preset = \"hubspot\"\nsecrets = [\"a-secret-of-more-than-24-bytes\"]\n";
    assert_eq!(warnings(&source(hubspot)), ["require_signed_time"]);
    for decided in [true, false] {
        let text = source(&format!("{hubspot}require_signed_time = {decided}"));
        assert_eq!(warnings(&text), Vec::<String>::new());
    }
    let slack = "preset = \"slack\"\nsecrets = [\"a-secret-of-more-than-24-bytes\"]\n";
    assert_eq!(warnings(&source(slack)), Vec::<String>::new());
    let timeless = source(&format!("{slack}tolerance_s = 0"));
    assert_eq!(warnings(&timeless), ["tolerance_s"]);
    let jwt = "entity = \"/id\"\nevent = \"/type\"\n\
               secrets = [\"JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\"]\n";
    let scheme = |more: &str| {
        source(&format!(
            "{jwt}scheme = {{ format = \"jwt\", algorithm = \"ed25519\", header = \"X-Token\"{more} }}"
        ))
    };
    assert_eq!(warnings(&scheme("")), ["scheme.audience"]);
    assert_eq!(
        warnings(&scheme(", issuer = \"crm\"")),
        Vec::<String>::new()
    );
    let unused = problems(&source(
        "preset = \"github\"\nsecrets = [\"a\"]\nrequire_signed_time = true",
    ));
    assert!(unused[0].contains("signs no timestamp"), "{unused:?}");
}

/// The check of 5,000 sources took 47 s, and a minute more if variables set their secrets.
#[test]
fn the_check_of_many_sources_is_quick() {
    use std::fmt::Write;

    use crate::clock::{Clock, SystemClock};

    const SOURCES: usize = 5_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("h.toml");
    let mut text = String::new();
    for number in 0..SOURCES {
        let source = format!("[[sources.custom]]\nname = \"s{number}\"\npreset = \"github\"\n\n");
        text.write_str(&source).expect("memory");
    }
    std::fs::write(&path, text).expect("writable");
    let admin = "0123456789abcdef01234567".to_owned();
    let admin = ("HOOKYARD_ADMIN__TOKEN".to_owned(), admin);
    let secrets = (0..SOURCES).map(|number| {
        let name = format!("HOOKYARD_SOURCES__CUSTOM__S{number}__SECRETS");
        (name, format!("0123456789abcdef-{number:07}"))
    });
    let env: Vec<_> = secrets.chain([admin]).collect();

    let clock = SystemClock::default();
    let draft = ConfigDraft::from_toml(Some(&path), env);
    let config = draft.finish(ConfigPurpose::Node).expect("valid");
    assert_eq!(config.sources.custom.len(), SOURCES);
    // A few seconds without optimization on a busy machine; quadratic work takes minutes.
    let took = clock.monotonic();
    assert!(took < std::time::Duration::from_secs(30), "{took:?}");
}

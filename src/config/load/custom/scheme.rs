//! Validates the scheme of a configured source: its format, its algorithm, and the keys that each
//! of them needs or excludes.

use std::borrow::Cow;

use super::super::super::custom::CustomSourceTable;
use super::super::super::draft::ConfigDraft;
use super::super::super::setting::SettingValue;
use super::super::super::values::parse_string;
use super::{describe_wrong, join_names, parse_choice, require_header_name};
use crate::provider::{
    JwtScheme, MessageSignatureScheme, SignatureAlgorithm, SignatureEncoding, SignatureHeaderForm,
    SignatureHeaderParts, SignatureScheme, SignedComponent, SignedContentPart, SignedTemplate,
    parse_header_name,
};

/// Form in which a sender presents its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemeFormat {
    /// Header with the signature, or the secret itself.
    Header,
    /// JSON Web Token in a header.
    Jwt,
    /// HTTP message signatures of components.
    MessageSignature,
}

const SCHEME_FORMATS: [(&str, SchemeFormat); 3] = [
    ("header", SchemeFormat::Header),
    ("jwt", SchemeFormat::Jwt),
    ("message-signature", SchemeFormat::MessageSignature),
];

/// Kind of scheme that an algorithm name selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemeType {
    Signature(SignatureAlgorithm),
    Token,
    Basic,
}

const SCHEME_TYPES: [(&str, SchemeType); 8] = [
    (
        "hmac-sha256",
        SchemeType::Signature(SignatureAlgorithm::HmacSha256),
    ),
    (
        "hmac-sha512",
        SchemeType::Signature(SignatureAlgorithm::HmacSha512),
    ),
    (
        "hmac-sha1",
        SchemeType::Signature(SignatureAlgorithm::HmacSha1),
    ),
    (
        "ed25519",
        SchemeType::Signature(SignatureAlgorithm::Ed25519),
    ),
    (
        "ecdsa-p256",
        SchemeType::Signature(SignatureAlgorithm::EcdsaP256),
    ),
    (
        "rsa-sha256",
        SchemeType::Signature(SignatureAlgorithm::RsaSha256),
    ),
    ("token", SchemeType::Token),
    ("basic", SchemeType::Basic),
];

/// Keys that only a token has.
const JWT_KEYS: [&str; 3] = ["audience", "body_hash", "issuer"];
/// Keys that only message signatures have.
const MESSAGE_SIGNATURE_KEYS: [&str; 2] = ["covers", "label"];
/// Keys of a signature in a header, which the other formats fix.
const HEADER_KEYS: [&str; 4] = ["encoding", "parts", "signed", "timestamp_header"];

impl ConfigDraft {
    pub(super) fn read_scheme(&mut self, table: &CustomSourceTable) -> Option<SignatureScheme> {
        let key = |name: &str| format!("{}.scheme.{name}", table.section);
        let is_format_set = self.is_set(&key("format"));
        let format = self.read_optional(&key("format"), |text| parse_choice(text, &SCHEME_FORMATS));
        if format.is_none() && is_format_set {
            // The format is reported; what depends on it cannot be judged.
            return None;
        }
        let is_algorithm_set = self.is_set(&key("algorithm"));
        let algorithm =
            self.read_optional(&key("algorithm"), |text| parse_choice(text, &SCHEME_TYPES));
        let format = format.unwrap_or(SchemeFormat::Header);
        let Some(scheme_type) = algorithm else {
            if !is_algorithm_set {
                let detail = format!("missing: one of {}", join_names(&SCHEME_TYPES));
                self.report_problem(table, "scheme.algorithm", detail);
            }
            if format == SchemeFormat::Header {
                // The other keys are wrong or right by themselves; this scheme is not used.
                let header = self.read_header_name(table, false);
                let prefix = self.read_prefix(table);
                self.read_signature_scheme(table, SignatureAlgorithm::HmacSha256, header, prefix);
            }
            return None;
        };

        match format {
            SchemeFormat::Header => self.read_header_scheme(table, scheme_type),
            SchemeFormat::Jwt => self.read_jwt_scheme(table, scheme_type),
            SchemeFormat::MessageSignature => self.read_message_scheme(table, scheme_type),
        }
    }

    fn read_header_scheme(
        &mut self,
        table: &CustomSourceTable,
        scheme_type: SchemeType,
    ) -> Option<SignatureScheme> {
        self.report_unused_keys(table, &JWT_KEYS, "format header");
        self.report_unused_keys(table, &MESSAGE_SIGNATURE_KEYS, "format header");
        let header = self.read_header_name(table, scheme_type != SchemeType::Basic);
        let prefix = self.read_prefix(table);
        match scheme_type {
            SchemeType::Signature(algorithm) => {
                self.read_signature_scheme(table, algorithm, header, prefix)
            }
            SchemeType::Token => {
                self.report_unused_keys(table, &HEADER_KEYS, "algorithm token");
                self.report_unused_keys(table, &["tolerance_s"], "algorithm token");
                Some(SignatureScheme::Token {
                    header: header?,
                    prefix: prefix.unwrap_or_default(),
                })
            }
            SchemeType::Basic => {
                self.report_unused_keys(table, &HEADER_KEYS, "algorithm basic");
                self.report_unused_keys(table, &["tolerance_s", "prefix"], "algorithm basic");
                Some(SignatureScheme::Basic {
                    header: header.unwrap_or(Cow::Borrowed("authorization")),
                })
            }
        }
    }

    fn read_jwt_scheme(
        &mut self,
        table: &CustomSourceTable,
        scheme_type: SchemeType,
    ) -> Option<SignatureScheme> {
        self.report_unused_keys(table, &HEADER_KEYS, "format jwt");
        self.report_unused_keys(table, &MESSAGE_SIGNATURE_KEYS, "format jwt");
        let header = self.read_header_name(table, true);
        let prefix = self.read_prefix(table);
        let algorithm = self.fit_algorithm(table, scheme_type, JwtScheme::algorithm_name);
        let [body_hash, issuer, audience] = ["body_hash", "issuer", "audience"].map(|name| {
            let key = format!("{}.scheme.{name}", table.section);
            self.read_optional(&key, |text| Ok(text.into()))
        });
        Some(SignatureScheme::Jwt(JwtScheme {
            header: header?,
            prefix: prefix.unwrap_or_default(),
            algorithm: algorithm?,
            body_hash,
            issuer,
            audience,
        }))
    }

    fn read_message_scheme(
        &mut self,
        table: &CustomSourceTable,
        scheme_type: SchemeType,
    ) -> Option<SignatureScheme> {
        let format = "format message-signature";
        self.report_unused_keys(table, &HEADER_KEYS, format);
        self.report_unused_keys(table, &JWT_KEYS, format);
        self.report_unused_keys(table, &["header", "prefix"], format);
        let algorithm =
            self.fit_algorithm(table, scheme_type, MessageSignatureScheme::algorithm_name);
        let label = self.read_optional(&format!("{}.scheme.label", table.section), |text| {
            Ok(text.into())
        });
        let covers = self.read_list(&format!("{}.scheme.covers", table.section), |value| {
            let text = parse_string(value)?;
            SignedComponent::parse(text.expose())
                .map_err(|wrong| describe_wrong(wrong, text.expose()))
        });
        Some(SignatureScheme::MessageSignature(MessageSignatureScheme {
            algorithm: algorithm?,
            label,
            covers,
        }))
    }

    /// Returns the algorithm of `scheme_type` in a format that names algorithms by `name`; `None`
    /// after a reported problem.
    fn fit_algorithm(
        &mut self,
        table: &CustomSourceTable,
        scheme_type: SchemeType,
        name: fn(SignatureAlgorithm) -> Option<&'static str>,
    ) -> Option<SignatureAlgorithm> {
        let fit = |scheme_type| match scheme_type {
            // Both formats have the two numbers of a signature side by side, not in ASN.1.
            SchemeType::Signature(SignatureAlgorithm::EcdsaP256) => {
                Some(SignatureAlgorithm::EcdsaP256Fixed)
            }
            SchemeType::Signature(algorithm) => name(algorithm).map(|_| algorithm),
            SchemeType::Token | SchemeType::Basic => None,
        };
        let fitted = fit(scheme_type);
        if fitted.is_none() {
            let fitting = SCHEME_TYPES
                .iter()
                .filter(|(_, known)| fit(*known).is_some());
            let names: Vec<_> = fitting.map(|(name, _)| *name).collect();
            let detail = format!("expected one of {} in this format", names.join(", "));
            self.report_problem(table, "scheme.algorithm", detail);
        }
        fitted
    }

    /// Reads the name of the header with the signature or the token.
    fn read_header_name(
        &mut self,
        table: &CustomSourceTable,
        is_required: bool,
    ) -> Option<Cow<'static, str>> {
        let key = format!("{}.scheme.header", table.section);
        if is_required && !self.is_set(&key) {
            let detail = "missing: the header that carries the signature or the token";
            self.report_problem(table, "scheme.header", detail);
        }
        self.read_optional(&key, |text| require_header_name(text).map(Cow::Owned))
    }

    fn read_prefix(&mut self, table: &CustomSourceTable) -> Option<Cow<'static, str>> {
        let key = format!("{}.scheme.prefix", table.section);
        self.read_optional(&key, |text| Ok(Cow::Owned(text.to_owned())))
    }

    fn read_signature_scheme(
        &mut self,
        table: &CustomSourceTable,
        algorithm: SignatureAlgorithm,
        header: Option<Cow<'static, str>>,
        prefix: Option<Cow<'static, str>>,
    ) -> Option<SignatureScheme> {
        let key = |name: &str| format!("{}.scheme.{name}", table.section);
        let encoding = self
            .read_optional(&key("encoding"), |text| {
                parse_choice(text, &SignatureEncoding::ALL)
            })
            .unwrap_or(SignatureEncoding::Hex);
        let signed = self.read_optional(&key("signed"), |text| {
            SignedTemplate::parse(text).map_err(|wrong| format!("{wrong}, found {text:?}"))
        });
        let timestamp_header = self.read_optional(&key("timestamp_header"), |text| {
            require_header_name(text).map(Cow::Owned)
        });

        let form = self.read_header_form(table, prefix);
        if signed.is_none() && self.is_set(&key("signed")) {
            // The template is reported; what depends on it cannot be judged.
            return None;
        }
        let signed = signed.unwrap_or(SignedTemplate::BODY);
        let is_form_known = form.is_some();
        let has_time_part = form.as_ref().is_some_and(SignatureHeaderForm::has_time);
        let has_time = has_time_part || self.is_set(&key("timestamp_header"));
        match (signed.has_part(&SignedContentPart::Timestamp), has_time) {
            (true, false) if is_form_known => self.report_problem(
                table,
                "scheme.timestamp_header",
                "missing: scheme.signed contains {timestamp}",
            ),
            (false, true) => {
                let name = if has_time_part {
                    "scheme.parts"
                } else {
                    "scheme.timestamp_header"
                };
                let detail =
                    "expected {timestamp} in scheme.signed: an unsigned time proves nothing";
                self.report_problem(table, name, detail);
            }
            (true, true) if has_time_part && timestamp_header.is_some() => self.report_problem(
                table,
                "scheme.timestamp_header",
                "not used: scheme.parts says where the time is",
            ),
            (true, _) | (false, false) => {}
        }

        let id_header = if signed.has_part(&SignedContentPart::Id) {
            self.read_id_header(table)
        } else {
            None
        };
        Some(SignatureScheme::Signature {
            header: header?,
            form: form?,
            algorithm,
            encoding,
            signed,
            timestamp_header,
            id_header,
        })
    }

    /// Reads the form of the header: named parts, or a list with `prefix`; `None` after a reported
    /// problem.
    fn read_header_form(
        &mut self,
        table: &CustomSourceTable,
        prefix: Option<Cow<'static, str>>,
    ) -> Option<SignatureHeaderForm> {
        let key = format!("{}.scheme.parts", table.section);
        if !self.is_set(&key) {
            let prefix = prefix.unwrap_or_default();
            return Some(SignatureHeaderForm::List { prefix });
        }
        if prefix.is_some() {
            let detail = "not used: scheme.parts names the parts of the header";
            self.report_problem(table, "scheme.prefix", detail);
        }
        self.read_optional(&key, |text| {
            SignatureHeaderParts::parse(text).map_err(|wrong| format!("{wrong}, found {text:?}"))
        })
        .map(SignatureHeaderForm::Parts)
    }

    /// Returns the header that `{id}` in the signed template refers to.
    fn read_id_header(&mut self, table: &CustomSourceTable) -> Option<Cow<'static, str>> {
        let key = format!("{}.idempotency_key", table.section);
        let first = match self.settings.get(&key).map(|setting| &setting.value) {
            Some(SettingValue::List(items)) => items.first().map(|item| item.value.clone()),
            other => other.cloned(),
        };
        let text = first.and_then(|value| parse_string(value).ok());
        let header = text.and_then(|text| parse_header_name(text.expose()));
        if header.is_none() {
            let detail =
                "expected the name of a header: {id} in scheme.signed stands for its value";
            self.report_problem(table, "idempotency_key", detail);
        }
        header.map(Cow::Owned)
    }

    /// Reports each of `names` that is set although `user`, an algorithm or a
    /// format, does not use it.
    fn report_unused_keys(&mut self, table: &CustomSourceTable, names: &[&str], user: &str) {
        for name in names {
            if self.is_set(&format!("{}.scheme.{name}", table.section)) {
                self.report_problem(
                    table,
                    &format!("scheme.{name}"),
                    format!("not used by the {user}"),
                );
            }
        }
    }
}

//! Members of a new token, read from a request.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::fields::{FieldErrors, non_null};
use super::super::source::CRM;
use crate::entity::conversation;
use crate::event::{Kind, Timestamp};
use crate::token::{PublishScope, TOKEN_NAME_MAX_BYTES, TokenRole, is_valid_token_name};

/// Members of a new token.
const MEMBERS: [&str; 7] = [
    "name",
    "role",
    "sources",
    "kinds",
    "accounts",
    "expires_at",
    "expires_in_s",
];

/// Longest life of a token that has an end, in seconds: ten years.
const LIFE_MAX_S: u64 = 10 * 366 * 24 * 3_600;

/// Most kinds of a token.
const KINDS_MAX: usize = 100;
const KIND_MAX_BYTES: usize = 128;

/// Most accounts of a token.
const ACCOUNTS_MAX: usize = 100;
const ACCOUNT_MAX_BYTES: usize = 64;

/// Checked members of a request to create a token.
#[derive(Debug)]
pub(super) struct TokenInput {
    pub(super) name: String,
    pub(super) role: TokenRole,
    pub(super) scope: PublishScope,
    pub(super) expires_at: Option<Timestamp>,
}

impl TokenInput {
    /// Parses `json` at the time `now`.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] with every wrong member. An unknown
    /// member is wrong: a misspelt bound would make the token mightier than it was meant to be.
    pub(super) fn parse(json: &str, now: Timestamp) -> Result<Self, ApiError> {
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(json).map_err(|error| ApiError::from_json_error(&error))?;
        let member = |name: &str| members.get(name).copied();
        let mut errors = FieldErrors::default();
        errors.add_unknown_members(members.keys(), &MEMBERS);

        let name = read_name(member("name"), &mut errors);
        let names = TokenRole::ALL.map(TokenRole::as_str);
        let role = errors.read_one_of("role", member("role"), &names);
        let role = TokenRole::parse(&role);
        let scope = PublishScope {
            sources: read_sources(member("sources"), &mut errors),
            kinds: read_kinds(member("kinds"), &mut errors),
            accounts: errors.read_text_list(
                "accounts",
                member("accounts"),
                ACCOUNTS_MAX,
                ACCOUNT_MAX_BYTES,
            ),
        };
        if role.is_some_and(|role| role != TokenRole::Publish) && !scope.is_unbounded() {
            errors.add(
                "role",
                "must be publish if sources, kinds or accounts are given, since they bound what is \
                 published",
            );
        }
        let expires_at = read_end(
            member("expires_at"),
            member("expires_in_s"),
            now,
            &mut errors,
        );
        // A role that is missing or unknown has added an error.
        let role = role.unwrap_or(TokenRole::Publish);
        errors.finish(Self {
            name,
            role,
            scope,
            expires_at,
        })
    }
}

/// Makes the schema of a new token.
pub(super) fn token_schema() -> Value {
    let names = |most: usize, item: Value| json!({"type": ["array", "null"], "maxItems": most, "items": item});
    json!({
        "type": "object", "required": ["name", "role"], "additionalProperties": false,
        "properties": {
            "name": {
                "type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]*$", "maxLength": TOKEN_NAME_MAX_BYTES,
            },
            "role": {"type": "string", "enum": TokenRole::ALL.map(TokenRole::as_str)},
            "sources": names(2, json!({"type": "string", "enum": [CRM.as_str(), conversation::SOURCE.as_str()]})),
            "kinds": names(KINDS_MAX, json!({"$ref": "#/components/schemas/EntityKind"})),
            "accounts": names(ACCOUNTS_MAX, json!({"type": "string", "maxLength": ACCOUNT_MAX_BYTES})),
            "expires_at": {"type": ["string", "null"], "format": "date-time"},
            "expires_in_s": {"type": ["integer", "null"], "minimum": 1, "maximum": LIFE_MAX_S},
        },
    })
}

fn read_name(raw: Option<&RawValue>, errors: &mut FieldErrors) -> String {
    let name = errors.read_text("name", raw);
    if raw.is_some_and(|raw| raw.get().starts_with('"')) && !is_valid_token_name(&name) {
        let problem = format!(
            "must have 1 to {TOKEN_NAME_MAX_BYTES} lower-case letters, digits and -_., \
             and begin with a letter or digit"
        );
        errors.add("name", problem);
    }
    name
}

fn read_sources(raw: Option<&RawValue>, errors: &mut FieldErrors) -> Vec<String> {
    let known = [CRM.as_str(), conversation::SOURCE.as_str()];
    let sources = errors.read_text_list("sources", raw, known.len(), KIND_MAX_BYTES);
    if sources.iter().any(|name| !known.contains(&name.as_str())) {
        let problem = format!("must be some of {}", known.join(", "));
        errors.add("sources", problem);
    }
    sources
}

fn read_kinds(raw: Option<&RawValue>, errors: &mut FieldErrors) -> Vec<String> {
    let kinds = errors.read_text_list("kinds", raw, KINDS_MAX, KIND_MAX_BYTES);
    if kinds.iter().any(|name| Kind::parse(name).is_none()) {
        let names = Kind::BUILT_IN.map(Kind::as_str).join(", ");
        let problem =
            format!("must be some of {names}, or custom:<name> for a name that is configured");
        errors.add("kinds", problem);
    }
    kinds
}

fn read_end(
    at: Option<&RawValue>,
    after: Option<&RawValue>,
    now: Timestamp,
    errors: &mut FieldErrors,
) -> Option<Timestamp> {
    let at = errors.read_optional_time("expires_at", at);
    if at.is_some_and(|at| at <= now) {
        errors.add("expires_at", "must be in the future");
    }
    let after = non_null(after);
    if at.is_some() && after.is_some() {
        errors.add("expires_in_s", "must not be given beside expires_at");
    }
    let after = after.map(|raw| errors.read_number("expires_in_s", Some(raw), 1, LIFE_MAX_S));
    at.or_else(|| after.map(|seconds| now.saturating_add(Duration::from_secs(seconds))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_fields(json: &str) -> Vec<String> {
        match TokenInput::parse(json, Timestamp::from_micros(1_000_000)) {
            Ok(_) => Vec::new(),
            Err(ApiError::InvalidFields(errors)) => errors
                .into_iter()
                .map(|error| error.field.into_owned())
                .collect(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_wrong_member_is_named() {
        for (json, expected) in [
            (r#"{"name":"ci","role":"read"}"#, &[][..]),
            (
                r#"{"name":"ci","role":"publish","kinds":["task"],"sources":["crm"]}"#,
                &[],
            ),
            ("{}", &["name", "role"]),
            (r#"{"name":"C I","role":"root"}"#, &["name", "role"]),
            (
                r#"{"name":"ci","role":"publish","kind":["task"]}"#,
                &["kind"],
            ),
            (
                r#"{"name":"ci","role":"publish","kinds":["car"],"sources":["shop"]}"#,
                &["sources", "kinds"],
            ),
            (
                r#"{"name":"ci","role":"admin","kinds":["task"]}"#,
                &["role"],
            ),
            (
                r#"{"name":"ci","role":"read","accounts":["acc_1"]}"#,
                &["role"],
            ),
            (
                r#"{"name":"ci","role":"publish","accounts":["acc_1"]}"#,
                &[],
            ),
            (
                r#"{"name":"ci","role":"read","expires_at":"1970-01-01T00:00:01Z"}"#,
                &["expires_at"],
            ),
            (
                r#"{"name":"ci","role":"read","expires_in_s":0}"#,
                &["expires_in_s"],
            ),
            (
                r#"{"name":"ci","role":"read","expires_at":"2070-01-01T00:00:01Z","expires_in_s":1}"#,
                &["expires_in_s"],
            ),
        ] {
            assert_eq!(wrong_fields(json), expected, "{json}");
        }
    }

    #[test]
    fn an_end_may_be_a_time_or_a_distance() {
        let end = |json: &str| {
            let input = TokenInput::parse(json, Timestamp::from_micros(1_000_000));
            input.expect("valid").expires_at.map(Timestamp::as_micros)
        };
        assert_eq!(end(r#"{"name":"a","role":"read"}"#), None);
        assert_eq!(
            end(r#"{"name":"a","role":"read","expires_in_s":2}"#),
            Some(3_000_000)
        );
        assert_eq!(
            end(r#"{"name":"a","role":"read","expires_at":"1970-01-01T00:00:09Z"}"#),
            Some(9_000_000)
        );
    }
}

//! Members of an account, read from a request: a member may have a value, be null (which means the
//! default), or be absent.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::fields::{FieldErrors, PatchField, non_null, read_patch_field};
use super::super::raw_json;
use crate::account::Account;
use crate::config::{
    AutoReply, COOLDOWN_MAX_S, REPLY_MAX_BYTES, Secret, URL_MAX_BYTES, WebUrlError, parse_web_url,
};
use crate::event::{Position, Timestamp, find_members};
use crate::subscriber::attempt::target_address;

const ID_MAX_BYTES: usize = 64;
/// Longest id of a business account; it is a participant of every message, and as long as those.
const INSTAGRAM_ID_MAX_BYTES: usize = 100;
const SECRET_MAX_BYTES: usize = 128;
const TOKEN_MAX_BYTES: usize = 1_000;

/// Checked members of a request to create or change an account.
#[derive(Debug)]
pub(super) struct AccountInput {
    account_id: Option<String>,
    instagram_account_id: Option<String>,
    crm_webhook_url: PatchField<String>,
    webhook_secret: PatchField<Secret>,
    access_token: PatchField<Secret>,
    auto_reply: PatchField<AutoReply>,
}

impl AccountInput {
    /// Parses `json` for the account `id`, or for a new account. `cooldown` is the default of an
    /// `auto_reply` without one; `allow_targets` are the non-public networks that messages may be
    /// forwarded to.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] with every wrong member.
    pub(super) fn parse(
        json: &str,
        id: Option<&str>,
        cooldown: Duration,
        allow_targets: &[IpNet],
    ) -> Result<Self, ApiError> {
        let names = [
            "account_id",
            "instagram_account_id",
            "crm_webhook_url",
            "webhook_secret",
            "access_token",
            "auto_reply",
        ];
        let [account_id, instagram_account_id, url, secret, token, reply] =
            find_members(json, names).map_err(|error| ApiError::from_json_error(&error))?;
        let mut errors = FieldErrors::default();

        let input = Self {
            account_id: read_account_id(account_id, id, &mut errors),
            instagram_account_id: read_instagram_account_id(
                instagram_account_id,
                id.is_none(),
                &mut errors,
            ),
            crm_webhook_url: read_patch_field(url, |raw| {
                read_webhook_url(raw, allow_targets, &mut errors)
            }),
            webhook_secret: read_patch_field(secret, |raw| {
                read_secret("webhook_secret", raw, SECRET_MAX_BYTES, &mut errors)
            }),
            access_token: read_patch_field(token, |raw| {
                read_secret("access_token", raw, TOKEN_MAX_BYTES, &mut errors)
            }),
            auto_reply: read_patch_field(reply, |raw| read_auto_reply(raw, cooldown, &mut errors)),
        };
        errors.finish(input)
    }

    /// Builds the new account, created at `now`, with a generated id and secret if the request
    /// gives none. Its messages are forwarded from position `from` on.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if the operating system provides no random bytes.
    pub(super) fn into_account(self, from: Position, now: Timestamp) -> Result<Account, ApiError> {
        Ok(Account {
            id: self.account_id.map_or_else(generate_account_id, Ok)?,
            // Parsing requires this member of a new account.
            instagram_account_id: self.instagram_account_id.ok_or(ApiError::Internal)?,
            crm_webhook_url: self.crm_webhook_url.flatten(),
            webhook_secret: self
                .webhook_secret
                .flatten()
                .map_or_else(generate_secret, Ok)?,
            access_token: self.access_token.flatten(),
            auto_reply: self.auto_reply.flatten(),
            created_at: now,
            updated_at: now,
            from,
        })
    }

    /// Generates a new secret if the request sets `webhook_secret` to null.
    ///
    /// # Errors
    /// As for [`AccountInput::into_account`].
    pub(super) fn make_replacement_secret(&self) -> Result<Option<Secret>, ApiError> {
        matches!(self.webhook_secret, Some(None))
            .then(generate_secret)
            .transpose()
    }

    /// Applies the given members to `account`; absent members keep their values. `new_secret` is
    /// the result of [`AccountInput::make_replacement_secret`]. A changed `instagram_account_id`
    /// takes effect from position `from` on. The change is made at `now`.
    pub(super) fn apply_to(
        self,
        account: &mut Account,
        new_secret: Option<Secret>,
        from: Position,
        now: Timestamp,
    ) {
        account.updated_at = now;
        if let Some(id) = self
            .instagram_account_id
            .filter(|id| *id != account.instagram_account_id)
        {
            account.instagram_account_id = id;
            account.from = from;
        }
        if let Some(url) = self.crm_webhook_url {
            account.crm_webhook_url = url;
        }
        if let Some(secret) = self.webhook_secret.flatten().or(new_secret) {
            account.webhook_secret = secret;
        }
        if let Some(token) = self.access_token {
            account.access_token = token;
        }
        if let Some(reply) = self.auto_reply {
            account.auto_reply = reply;
        }
    }
}

/// Makes the schema of a change of an account; a member that is absent stays as it is.
pub(super) fn account_schema() -> Value {
    let secret = |most: usize| json!({"type": ["string", "null"], "minLength": 1, "maxLength": most, "pattern": "^[!-~]+$"});
    json!({"type": "object", "properties": {
        "account_id": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]+$", "maxLength": ID_MAX_BYTES},
        "instagram_account_id": {
            "type": ["string", "integer"], "minLength": 1, "maxLength": INSTAGRAM_ID_MAX_BYTES,
        },
        "crm_webhook_url": {"type": ["string", "null"], "format": "uri", "maxLength": URL_MAX_BYTES},
        "webhook_secret": secret(SECRET_MAX_BYTES),
        "access_token": secret(TOKEN_MAX_BYTES),
        "auto_reply": {
            "type": ["object", "null"], "required": ["text"],
            "properties": {
                "text": {"type": "string", "maxLength": REPLY_MAX_BYTES},
                "cooldown_s": {"type": ["number", "null"], "minimum": 0, "maximum": COOLDOWN_MAX_S},
            },
        },
    }})
}

/// Makes the schema of a new account.
pub(super) fn new_account_schema() -> Value {
    let mut schema = account_schema();
    schema["required"] = json!(["instagram_account_id"]);
    schema
}

/// Reads the id of a new account, or checks it against the id `known` from the path.
fn read_account_id(
    raw: Option<&RawValue>,
    known: Option<&str>,
    errors: &mut FieldErrors,
) -> Option<String> {
    let id = errors.read_optional_text("account_id", non_null(raw))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let fits = (1..=ID_MAX_BYTES).contains(&id.len()) && id.bytes().all(plain);
    match known {
        Some(known) if known != id => errors.add(
            "account_id",
            "must be the id in the path; it cannot be changed",
        ),
        None if !fits && raw.is_some_and(|raw| raw.get().starts_with('"')) => {
            errors.add(
                "account_id",
                format!("must be 1 to {ID_MAX_BYTES} letters, digits, _ and -"),
            );
        }
        Some(_) | None => {}
    }
    Some(id)
}

fn read_instagram_account_id(
    raw: Option<&RawValue>,
    is_required: bool,
    errors: &mut FieldErrors,
) -> Option<String> {
    const NAME: &str = "instagram_account_id";
    let Some(raw) = raw else {
        if is_required {
            errors.add(NAME, "is required");
        }
        return None;
    };
    let id = raw_json::parse_id(raw).filter(|id| id.len() <= INSTAGRAM_ID_MAX_BYTES);
    if id.is_none() {
        errors.add(
            NAME,
            format!(
                "must be an id of 1 to {INSTAGRAM_ID_MAX_BYTES} bytes, as a \
                string or a whole number"
            ),
        );
    }
    id
}

fn read_webhook_url(raw: &RawValue, allow_targets: &[IpNet], errors: &mut FieldErrors) -> String {
    const NAME: &str = "crm_webhook_url";
    let url = errors.read_text(NAME, Some(raw));
    if !raw.get().starts_with('"') {
        return url;
    }
    let parsed = match parse_web_url(&url) {
        Ok(parsed) => parsed,
        Err(error) => {
            let problem = match error {
                WebUrlError::Scheme(_) => "must be an http or https URL".to_owned(),
                error => format!("must be an http or https URL: {error}"),
            };
            errors.add(NAME, problem);
            return url;
        }
    };
    if url.len().max(parsed.as_str().len()) > URL_MAX_BYTES {
        errors.add(NAME, format!("must have at most {URL_MAX_BYTES} bytes"));
    }
    // The addresses of a host name are checked at each connection.
    if let Err(error) = target_address::check_target_host(&parsed, allow_targets) {
        errors.add(NAME, format!("must lead to a public address: {error}"));
    }
    parsed.into()
}

fn read_secret(
    name: &'static str,
    raw: &RawValue,
    bytes_max: usize,
    errors: &mut FieldErrors,
) -> Secret {
    let secret = Secret::new(errors.read_text(name, Some(raw)));
    let text = secret.expose();
    let fits =
        (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if raw.get().starts_with('"') && !fits {
        errors.add(
            name,
            format!("must be 1 to {bytes_max} printable ASCII characters without spaces"),
        );
    }
    secret
}

fn read_auto_reply(raw: &RawValue, cooldown: Duration, errors: &mut FieldErrors) -> AutoReply {
    errors.check_optional_object("auto_reply", Some(raw));
    let [text, cooldown_s] = find_members(raw.get(), ["text", "cooldown_s"]).unwrap_or_default();
    let mut reply = AutoReply {
        text: String::new(),
        cooldown,
    };
    if raw_json::is_object(raw) {
        reply.text = errors.read_text("auto_reply.text", text);
    }
    let has_control = reply
        .text
        .chars()
        .any(|character| character.is_control() && character != '\n');
    if reply.text.len() > REPLY_MAX_BYTES || has_control {
        let problem = format!(
            "must have at most {REPLY_MAX_BYTES} bytes and no control characters but line ends"
        );
        errors.add("auto_reply.text", problem);
    }
    if let Some(raw) = non_null(cooldown_s) {
        match parse_cooldown(raw) {
            Some(cooldown) => reply.cooldown = cooldown,
            None => errors.add(
                "auto_reply.cooldown_s",
                format!("must be a number from 0 to {COOLDOWN_MAX_S}"),
            ),
        }
    }
    reply
}

fn parse_cooldown(raw: &RawValue) -> Option<Duration> {
    let seconds: f64 = raw.get().parse().ok()?;
    (0.0..=COOLDOWN_MAX_S)
        .contains(&seconds)
        .then(|| Duration::from_millis((seconds * 1_000.0).round() as u64))
}

fn generate_account_id() -> Result<String, ApiError> {
    Ok(format!("acc_{}", hex::encode(random_bytes::<12>()?)))
}

fn generate_secret() -> Result<Secret, ApiError> {
    Ok(Secret::new(format!(
        "whsec_{}",
        STANDARD.encode(random_bytes::<32>()?)
    )))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "operating system provided no random bytes");
        ApiError::Internal
    })?;
    Ok(bytes)
}

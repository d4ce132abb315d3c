//! `/api/v1/tokens`: named tokens. A secret is in the answer to its creation only.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use tracing::{error, info};
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::access::{self, CONFIG_ADMIN};
use super::blocking::run_blocking;
use super::context::RequestContext;
use super::docs::schemas;
use super::error::ApiError;
use super::list::ListPage;
use super::state::Edge;
use super::{answer, body};
use crate::config::Secret;
use crate::entity::Rejection;
use crate::event::Timestamp;
use crate::token::{
    NamedToken, TokenChangeError, TokenHash, TokenRole, TokenSnapshot, generate_token_secret,
};

mod input;
pub(super) mod spec;

use input::TokenInput;

/// Token, as answers show it.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(in crate::edge) struct TokenView<'a> {
    pub(in crate::edge) name: &'a str,
    #[schema(schema_with = roles)]
    pub(in crate::edge) role: &'static str,
    sources: &'a [String],
    kinds: &'a [String],
    accounts: &'a [String],
    created_at: Option<Timestamp>,
    created_by: Option<&'a str>,
    expires_at: Option<Timestamp>,
    is_expired: bool,
    /// True for a token of the configuration, which is changed there.
    is_configured: bool,
    /// Set only in the answer to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<&'a str>,
}

fn roles() -> Schema {
    schemas::one_of(TokenRole::ALL.map(TokenRole::as_str))
}

impl<'a> TokenView<'a> {
    fn of_config(name: &'a str, role: TokenRole) -> Self {
        Self {
            name,
            role: role.as_str(),
            sources: &[],
            kinds: &[],
            accounts: &[],
            created_at: None,
            created_by: None,
            expires_at: None,
            is_expired: false,
            is_configured: true,
            secret: None,
        }
    }

    fn of_named(token: &'a NamedToken, now: Timestamp) -> Self {
        Self {
            name: &token.name,
            role: token.role.as_str(),
            sources: &token.scope.sources,
            kinds: &token.scope.kinds,
            accounts: &token.scope.accounts,
            created_at: Some(token.created_at),
            created_by: Some(&token.created_by),
            expires_at: token.expires_at,
            is_expired: token.is_expired(now),
            is_configured: false,
            secret: None,
        }
    }
}

/// Handles `GET /api/v1/tokens`: lists the tokens of the configuration, then the named ones.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&["page", "page_size"]);
    let page = parameters.page_request();
    let page = parameters.finish(page)?;
    let (known, configured) = (known_tokens(context)?, configured_tokens(&context.edge));
    let now = context.edge.clock.wall();
    let configured = configured.iter();
    let all: Vec<_> = configured
        .map(|(name, role)| TokenView::of_config(name, *role))
        .chain(known.iter().map(|token| TokenView::of_named(token, now)))
        .collect();
    let total = all.len() as u64;
    let items: Vec<_> = page.select(&all).collect();
    Ok(answer::ok_json(&ListPage::new(items, total, page)))
}

/// Handles `GET /api/v1/tokens/{name}`: shows a token.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let name: String = context.parse_path()?;
    context.refuse_parameters()?;
    let (known, configured) = (known_tokens(context)?, configured_tokens(&context.edge));
    let configured = configured.iter().find(|(known, _)| *known == name);
    if let Some((name, role)) = configured {
        return Ok(answer::ok_json(&TokenView::of_config(name, *role)));
    }
    let token = known.get(&name).ok_or(TokenChangeError::NotFound)?;
    let now = context.edge.clock.wall();
    Ok(answer::ok_json(&TokenView::of_named(token, now)))
}

/// Handles `POST /api/v1/tokens`: creates a token, and shows its secret once.
pub(super) async fn create(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let body = context.read_json().await?;
    let caller = context.call.caller().ok_or(ApiError::Unauthorized)?;
    let creator = caller.name.to_string();
    let json = body::body_text(&body)?;
    let (created, secret) = create_from_json(&context.edge, &creator, json).await?;
    context.call.note_object(&created.name);
    let now = context.edge.clock.wall();
    Ok(answer::ok_json(&TokenView {
        secret: Some(secret.expose()),
        ..TokenView::of_named(&created, now)
    }))
}

/// Creates the token that `json` defines, for `creator`, and returns it with its secret.
///
/// # Errors
/// As for [`TokenInput::parse`], and as for a write of definitions.
pub(in crate::edge) async fn create_from_json(
    edge: &Edge,
    creator: &str,
    json: &str,
) -> Result<(Arc<NamedToken>, Secret), ApiError> {
    let now = edge.clock.wall();
    let input = TokenInput::parse(json, now)?;
    let secret = new_secret()?;
    let token = NamedToken {
        name: input.name.into(),
        role: input.role,
        scope: input.scope,
        hash: TokenHash::from_secret(secret.expose().as_bytes()),
        created_at: now,
        created_by: creator.to_owned(),
        expires_at: input.expires_at,
    };
    let created = run_blocking(edge.core()?, move |core| core.tokens.create(token)).await?;
    info!(
        name = &*created.name,
        role = created.role.as_str(),
        "token created"
    );
    Ok((created, secret))
}

/// Handles `DELETE /api/v1/tokens/{name}`: revokes a token; it is refused from the answer on.
pub(super) async fn revoke(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let name: String = context.parse_path()?;
    revoke_token(&context.edge, &name).await?;
    Ok(HttpResponse::new(StatusCode::NO_CONTENT))
}

/// Revokes the token `name`, which is refused from then on.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::Rejected`] for a token of the configuration.
pub(in crate::edge) async fn revoke_token(edge: &Edge, name: &str) -> Result<(), ApiError> {
    let configured = configured_tokens(edge);
    if configured.iter().any(|(known, _)| known == name) {
        let message = "this token is in the configuration; remove it there";
        let rejection = Rejection::conflict("token_configured", message);
        return Err(ApiError::Rejected(rejection));
    }
    let (core, revoked) = (edge.core()?, name.to_owned());
    run_blocking(core, move |core| core.tokens.revoke(&revoked)).await?;
    info!(name, "token revoked");
    Ok(())
}

fn known_tokens(context: &RequestContext) -> Result<Arc<TokenSnapshot>, ApiError> {
    Ok(context.edge.core()?.tokens.snapshot())
}

/// Names and roles of the configuration's tokens.
pub(in crate::edge) fn configured_tokens(edge: &Edge) -> Vec<(String, TokenRole)> {
    let crm = &edge.config.sources.crm;
    let publishers = if crm.enabled { crm.tokens.len() } else { 0 };
    let publisher = |index| (access::publisher_name(index), TokenRole::Publish);
    std::iter::once((CONFIG_ADMIN.to_owned(), TokenRole::Admin))
        .chain((0..publishers).map(publisher))
        .collect()
}

fn new_secret() -> Result<Secret, ApiError> {
    generate_token_secret().map_err(|error| {
        error!(%error, "operating system provided no random bytes");
        ApiError::Internal
    })
}

impl From<TokenChangeError> for ApiError {
    fn from(error: TokenChangeError) -> Self {
        let message = error.to_string();
        match error {
            TokenChangeError::NotFound => ApiError::NotFound(message),
            TokenChangeError::Exists(_) => {
                ApiError::Rejected(Rejection::conflict("token_exists", message))
            }
            TokenChangeError::TooMany(_) => {
                ApiError::Rejected(Rejection::conflict("too_many_tokens", message))
            }
            TokenChangeError::OutcomeUnknown(source) => {
                error!(
                    error = &source as &dyn std::error::Error,
                    "token write failed"
                );
                ApiError::Rejected(Rejection {
                    status: 503,
                    code: "unavailable",
                    message,
                    member: None,
                })
            }
        }
    }
}

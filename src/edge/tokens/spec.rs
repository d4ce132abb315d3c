//! OpenAPI descriptions of the endpoints of tokens.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::TokenView;
use super::input::token_schema;

const TAG: &str = "Access";
const NAME: &str = "billing";
const SECRET: &str = "hyt_only-an-example-of-43-characters-not-a-secret";

fn token() -> Value {
    json!({
        "name": NAME, "role": "publish", "sources": ["crm"], "kinds": ["task"], "accounts": [],
        "created_at": "2026-03-01T09:30:00.000Z", "created_by": "config:admin",
        "expires_at": "2027-03-01T09:30:00.000Z", "is_expired": false, "is_configured": false,
    })
}

fn configured() -> Value {
    json!({
        "name": "config:admin", "role": "admin", "sources": [], "kinds": [], "accounts": [], "created_at": null,
        "created_by": null, "expires_at": null, "is_expired": false, "is_configured": true,
    })
}

fn add_name_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .part("name", "The name of the token.", schemas::string(), NAME)
        .refuses(404, "not_found", "there is no such token")
        .refuses_when_not_ready()
}

pub(in crate::edge) fn list() -> EndpointDoc {
    EndpointDoc::new(TAG, "listTokens", "List tokens")
        .about("The tokens of the configuration come first, then the named ones by name. No answer shows a secret.")
        .access(EndpointAccess::Admin)
        .paged()
        .answers_page::<TokenView<'_>>(&[configured(), token()])
        .refuses_when_not_ready()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    add_name_parameter(EndpointDoc::new(TAG, "getToken", "Show a token")).answers::<TokenView<'_>>(
        200,
        "The token.",
        token(),
    )
}

pub(in crate::edge) fn create() -> EndpointDoc {
    let mut created = token();
    created["secret"] = SECRET.into();
    let request = json!({
        "name": NAME, "role": "publish", "sources": ["crm"], "kinds": ["task"], "expires_in_s": 31_536_000,
    });
    let dated = json!({"name": "ana", "role": "read", "expires_at": "2027-03-01T09:30:00.000Z"});
    EndpointDoc::new(TAG, "createToken", "Create a token")
        .about(
            "Only this answer shows the secret. The role is `admin`, `operator`, `read` or `publish`. `sources` \
             (`crm`, `instagram`) and `kinds` bound what a token with the role `publish` may publish; without \
             them it may publish everything. `expires_at` or `expires_in_s` gives the token an end.",
        )
        .access(EndpointAccess::Admin)
        .takes("publisher", request)
        .takes("reader", dated)
        .takes_type("NewToken", token_schema())
        .refuses_bodies()
        .refuses_field("role", "role must be one of admin, operator, read, publish")
        .answers::<TokenView<'_>>(200, "The token, with its secret.", created)
        .refuses(409, "token_exists", "there is a token billing already; revoke it, or choose another name")
        .refuses(409, "too_many_tokens", "there are 1000 tokens already; admin.tokens_max allows no more")
        .refuses_when_not_ready()
        .refuses(503, "unavailable", "it is not known whether the token was stored, look at it and try again")
}

pub(in crate::edge) fn revoke() -> EndpointDoc {
    add_name_parameter(EndpointDoc::new(TAG, "revokeToken", "Revoke a token"))
        .about("The token is refused from the answer on, and sessions of the dashboard that it began end.")
        .answers_nothing(204, "The token is revoked.")
        .refuses(409, "token_configured", "this token is in the configuration; remove it there")
}

//! OpenAPI descriptions of the endpoints of accounts.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::input::{account_schema, new_account_schema};
use super::view::AccountView;

const TAG: &str = "Instagram";
const ID: &str = "acc_xyz789";
const SECRET: &str = "whsec_Zm9yIHRoZSBleGFtcGxlIG9ubHksIG5vdCBhIHNlY3JldA==";
const TOKEN: &str = "token-for-the-example-only";

const ABOUT_TOKENS: &str = "\
`access_token` authenticates replies to Instagram. No answer shows it; `has_access_token` is true if \
the account or `sources.instagram.access_token` has a token.";

fn account() -> Value {
    json!({
        "account_id": ID, "instagram_account_id": "0987654321", "crm_webhook_url": "https://crm.example/hooks/instagram",
        "auto_reply": {"text": "Thank you, we answer within a day.", "cooldown_s": 3600}, "has_access_token": true,
    })
}

fn account_with_secret() -> Value {
    let mut account = account();
    account["webhook_secret"] = SECRET.into();
    account
}

fn example_request() -> Value {
    json!({
        "account_id": ID, "instagram_account_id": "0987654321", "crm_webhook_url": "https://crm.example/hooks/instagram",
        "webhook_secret": SECRET, "access_token": TOKEN,
        "auto_reply": {"text": "Thank you, we answer within a day.", "cooldown_s": 3600},
    })
}

fn add_id_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .part(
            "account_id",
            "The id of the account.",
            schemas::string(),
            ID,
        )
        .refuses(404, "not_found", "there is no such account")
        .refuses_when_not_ready()
}

fn add_body_refusals(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .refuses_bodies()
        .refuses_field(
            "crm_webhook_url",
            "crm_webhook_url must be an http or https URL of at most 500 bytes, without \
                a user name",
        )
        .refuses_field(
            "crm_webhook_url",
            "crm_webhook_url must lead to a public address: 127.0.0.1 is a loopback \
                address, and delivery.allow_targets does not name it",
        )
        .refuses(
            409,
            "instagram_account_claimed",
            "account acc_xyz789 has this instagram_account_id already",
        )
}

pub(in crate::edge) fn create() -> EndpointDoc {
    add_body_refusals(EndpointDoc::new(TAG, "createAccount", "Create an account"))
        .about(format!(
            "Only this answer shows `webhook_secret`. Members that are absent or \
            null take their defaults. {ABOUT_TOKENS}"
        ))
        .access(EndpointAccess::Admin)
        .takes("account", example_request())
        .takes_type("NewAccount", new_account_schema())
        .answers::<AccountView<'_>>(200, "The account, with its secret.", account_with_secret())
        .refuses(
            409,
            "account_exists",
            "there is an account acc_xyz789 already",
        )
        .refuses(
            409,
            "too_many_accounts",
            "there are 1000 accounts already; \
            sources.instagram.accounts_max allows no more",
        )
        .refuses_when_not_ready()
        .refuses(
            503,
            "unavailable",
            "it is not known whether the account was stored, look at \
            it and try again",
        )
}

pub(in crate::edge) fn list() -> EndpointDoc {
    EndpointDoc::new(TAG, "listAccounts", "List accounts, newest first")
        .access(EndpointAccess::Admin)
        .paged()
        .answers_page::<AccountView<'_>>(&[account()])
        .refuses_when_not_ready()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "getAccount", "Show an account"))
        .answers::<AccountView<'_>>(200, "The account.", account())
}

pub(in crate::edge) fn change() -> EndpointDoc {
    add_body_refusals(add_id_parameter(EndpointDoc::new(
        TAG,
        "updateAccount",
        "Change an account",
    )))
    .about(format!(
        "Changes only the members given; null means the default. Null in \
            `webhook_secret` generates a new secret, which the answer shows. \
            {ABOUT_TOKENS}"
    ))
    .takes(
        "change",
        json!({"crm_webhook_url": "https://crm.example/hooks/instagram", "access_token": TOKEN}),
    )
    .takes_type("AccountChange", account_schema())
    .answers::<AccountView<'_>>(200, "The account.", account())
}

pub(in crate::edge) fn remove() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "deleteAccount", "Delete an account"))
        .answers_nothing(204, "The account is deleted.")
}

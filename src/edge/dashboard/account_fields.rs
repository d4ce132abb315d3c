//! Fields of an account's form: filled in from an account, and turned into the request that the API
//! takes, so that the API's rules are the form's rules.

use serde_json::{Map, Value, json};

use super::form::FormFields;
use super::stale_form::{FieldDifference, SEEN, find_differences, seen_value};
use crate::account::Account;

/// Value of the field `reply` of an account with an automatic reply of its own.
pub(super) const OWN_REPLY: &str = "own";

/// Names of the fields of a stored account that the form shows, with their labels.
const LABELS: [(&str, &str); 5] = [
    ("instagram_account_id", "Instagram account"),
    ("crm_webhook_url", "Messages go to"),
    ("reply", "Automatic reply"),
    ("reply_text", "Text"),
    ("cooldown_s", "Pause in seconds"),
];

/// Fields of the form of `account`. Secrets are not among them.
pub(super) fn fields_of(account: &Account) -> FormFields {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let reply = account.auto_reply.as_ref();
    let cooldown = reply.map(|reply| reply.cooldown.as_secs_f64().to_string());
    let pairs = [
        ("instagram_account_id", account.instagram_account_id.clone()),
        ("crm_webhook_url", text(account.crm_webhook_url.as_deref())),
        ("reply", text(reply.map(|_| OWN_REPLY))),
        ("reply_text", text(reply.map(|reply| reply.text.as_str()))),
        ("cooldown_s", cooldown.unwrap_or_default()),
        (SEEN, seen_value(account.updated_at)),
    ];
    let pairs = pairs.into_iter();
    FormFields::new(
        pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// Fields in which `typed` differs from `stored`.
pub(super) fn differences(stored: &FormFields, typed: &FormFields) -> Vec<FieldDifference> {
    let texts = |fields: &FormFields, name| vec![fields.text(name).to_owned()];
    find_differences(&LABELS, stored, typed, texts)
}

/// Builds the request of the API that creates an account with the values of `form`.
pub(super) fn creation_request(form: &FormFields) -> String {
    let mut members = members_of(form);
    members.insert("account_id".to_owned(), json!(form.text("account_id")));
    Value::Object(members).to_string()
}

/// Builds the request of the API that changes an account to the values of `form`.
pub(super) fn change_request(form: &FormFields) -> String {
    Value::Object(members_of(form)).to_string()
}

/// Members that have the values of `form`: an absent member keeps its value, and null is the
/// configured default.
fn members_of(form: &FormFields) -> Map<String, Value> {
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);

    set(
        "instagram_account_id",
        json!(form.text("instagram_account_id")),
    );
    let url = form.text("crm_webhook_url");
    set(
        "crm_webhook_url",
        if url.is_empty() {
            Value::Null
        } else {
            json!(url)
        },
    );
    match form.text("webhook_secret") {
        "" if form.has("new_secret") => drop(set("webhook_secret", Value::Null)),
        "" => {}
        secret => drop(set("webhook_secret", json!(secret))),
    }
    match form.text("access_token") {
        "" if form.has("forget_token") => drop(set("access_token", Value::Null)),
        "" => {}
        token => drop(set("access_token", json!(token))),
    }
    if form.text("reply") == OWN_REPLY {
        let mut reply = json!({ "text": form.text("reply_text") });
        let cooldown = form.text("cooldown_s");
        if !cooldown.is_empty() {
            // Any other text stays as it is, and the API says that it should be a number.
            let number = serde_json::from_str::<serde_json::Number>(cooldown);
            reply["cooldown_s"] = number.map_or_else(|_| json!(cooldown), Value::Number);
        }
        set("auto_reply", reply);
    } else {
        set("auto_reply", Value::Null);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(form: &[u8]) -> Value {
        serde_json::from_str(&change_request(&FormFields::parse(form))).expect("JSON")
    }

    #[test]
    fn an_untouched_form_keeps_the_secrets_and_takes_the_defaults() {
        let expected = json!({
            "instagram_account_id": "7", "crm_webhook_url": null, "auto_reply": null,
        });
        let form = b"instagram_account_id=7&crm_webhook_url=&webhook_secret=&access_token=&reply=\
            &reply_text=old&cooldown_s=5";
        assert_eq!(request(form), expected);
    }

    #[test]
    fn fields_become_the_members_of_a_request() {
        let expected = json!({
            "instagram_account_id": "7", "crm_webhook_url": "https://a.example",
            "webhook_secret": null, "access_token": "t",
            "auto_reply": {"text": "a\nb", "cooldown_s": "soon"},
        });
        let form = b"instagram_account_id=7&crm_webhook_url=https://a.example&webhook_secret=\
            &new_secret=on&access_token=t&forget_token=on&reply=own&reply_text=a%0D%0Ab\
            &cooldown_s=soon";
        assert_eq!(request(form), expected);
        let own = request(b"reply=own&webhook_secret=s&forget_token=on&cooldown_s=2.5");
        assert_eq!(own["auto_reply"], json!({"text": "", "cooldown_s": 2.5}));
        assert_eq!(own["webhook_secret"], "s");
        assert_eq!(own["access_token"], Value::Null);
    }
}

//! Bytes of a stored account: a format byte and JSON, under the account's id.
//!
//! Only the owner of the store's folder can read it, and with an encryption key the whole value is
//! encrypted, so secrets are members like others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::Account;
use crate::config::{AutoReply, Secret};
use crate::event::{Position, Timestamp};
use crate::table_store::{DefinitionOpenError, DefinitionSort, JournaledTableId};

const FORMAT: u8 = 1;

/// Names of the accounts in the store.
pub(super) const SORT: DefinitionSort = DefinitionSort {
    table: JournaledTableId::Accounts,
    one: "account",
    many: "accounts",
};

/// Stored form of an account. Members that are added later need a default.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    instagram_account_id: String,
    crm_webhook_url: Option<String>,
    webhook_secret: String,
    access_token: Option<String>,
    auto_reply: Option<StoredAutoReply>,
    /// Time in microseconds since 1970, UTC.
    created_at: i64,
    /// Time of the last change in microseconds since 1970; none if there was no change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    /// Position of the first record. Accounts written before deliveries existed lack it.
    #[serde(default, skip_serializing_if = "is_first")]
    from: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredAutoReply {
    text: String,
    cooldown_ms: u64,
}

fn is_first(from: &u64) -> bool {
    *from == Position::FIRST.get()
}

pub(super) fn encode_account(account: &Account) -> Vec<u8> {
    let to_stored_reply = |reply: &AutoReply| StoredAutoReply {
        text: reply.text.clone(),
        // The longest cooldown is 30 days, so the conversion cannot fail.
        cooldown_ms: u64::try_from(reply.cooldown.as_millis()).unwrap_or(u64::MAX),
    };
    let stored = StoredAccount {
        instagram_account_id: account.instagram_account_id.clone(),
        crm_webhook_url: account.crm_webhook_url.clone(),
        webhook_secret: account.webhook_secret.expose().to_owned(),
        access_token: account
            .access_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        auto_reply: account.auto_reply.as_ref().map(to_stored_reply),
        created_at: account.created_at.as_micros(),
        updated_at: (account.updated_at != account.created_at)
            .then(|| account.updated_at.as_micros()),
        from: account.from.get(),
    };
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, &stored)
        .expect("every member has a JSON form, and writing to a Vec cannot fail");
    bytes
}

pub(super) fn decode_account(id: &str, bytes: &[u8]) -> Result<Account, DefinitionOpenError> {
    let json = SORT.split_format(id, bytes, FORMAT)?;
    let stored: StoredAccount = serde_json::from_slice(json).map_err(|_| SORT.corrupt(id))?;
    let from_stored_reply = |StoredAutoReply { text, cooldown_ms }| AutoReply {
        text,
        cooldown: Duration::from_millis(cooldown_ms),
    };
    Ok(Account {
        id: id.to_owned(),
        instagram_account_id: stored.instagram_account_id,
        crm_webhook_url: stored.crm_webhook_url,
        webhook_secret: Secret::new(stored.webhook_secret),
        access_token: stored.access_token.map(Secret::new),
        auto_reply: stored.auto_reply.map(from_stored_reply),
        created_at: Timestamp::from_micros(stored.created_at),
        updated_at: Timestamp::from_micros(stored.updated_at.unwrap_or(stored.created_at)),
        from: Position::new(stored.from).max(Position::FIRST),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn sample() -> Account {
        Account {
            id: "acc_1".into(),
            instagram_account_id: "9".into(),
            crm_webhook_url: Some("https://crm.example/hook".into()),
            webhook_secret: Secret::new("hush"),
            access_token: Some(Secret::new("token")),
            auto_reply: Some(AutoReply {
                text: "Soon.".into(),
                cooldown: Duration::from_millis(1_500),
            }),
            created_at: Timestamp::from_micros(7),
            updated_at: Timestamp::from_micros(7),
            from: Position::FIRST,
        }
    }

    /// Stores outlive versions: later versions must read these bytes.
    #[test]
    fn the_bytes_of_an_account_never_change() {
        let json = r#"{"instagram_account_id":"9","crm_webhook_url":"https://crm.example/hook","webhook_secret":"hush","access_token":"token","auto_reply":{"text":"Soon.","cooldown_ms":1500},"created_at":7}"#;
        let bytes = encode_account(&sample());
        assert_eq!((bytes[0], std::str::from_utf8(&bytes[1..])), (1, Ok(json)));
        let read = decode_account("acc_1", &bytes).expect("just written");
        assert_eq!(encode_account(&read), bytes);
        assert_eq!(read.id, "acc_1");
        let later = encode_account(&Account {
            updated_at: Timestamp::from_micros(9),
            from: Position::new(42),
            ..sample()
        });
        let end = br#""created_at":7,"updated_at":9,"from":42}"#;
        assert!(later.ends_with(end), "{}", String::from_utf8_lossy(&later));
        let later = decode_account("acc_1", &later).expect("just written");
        assert_eq!(later.from, Position::new(42));
        assert_eq!(later.updated_at, Timestamp::from_micros(9));
        assert_eq!(read.updated_at, read.created_at);
    }

    #[test]
    fn what_is_no_account_of_ours_is_refused_by_its_name() {
        let mut bytes = encode_account(&sample());
        bytes[0] = 2;
        assert!(
            matches!(decode_account("acc_1", &bytes), Err(DefinitionOpenError::Format { found: 2, id, .. }) if id == "acc_1")
        );
        for bytes in [&b""[..], b"\x01", b"\x01{}"] {
            assert!(
                matches!(decode_account("acc_1", bytes), Err(DefinitionOpenError::Corrupt { id, .. }) if id == "acc_1")
            );
        }
    }

    #[test]
    fn nothing_that_shows_an_account_shows_its_secrets() {
        let shown = format!("{:?}", sample());
        assert!(
            !shown.contains("hush") && !shown.contains("\"token\""),
            "{shown}"
        );
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_account_is_read_or_refused(bytes in damaged(&[encode_account(&sample())])) {
            let _ = decode_account("acc_1", &bytes);
        }
    }
}

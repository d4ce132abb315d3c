//! Bytes of a stored token: a format byte and JSON, under the token's name. The secret is not stored,
//! only its hash.

use serde::{Deserialize, Serialize};

use super::definition::{NamedToken, PublishScope};
use super::role::TokenRole;
use super::secret::TokenHash;
use crate::event::Timestamp;
use crate::table_store::{DefinitionOpenError, DefinitionSort, JournaledTableId};

const FORMAT: u8 = 1;

/// Names of the tokens in the store.
pub(super) const SORT: DefinitionSort = DefinitionSort {
    table: JournaledTableId::Tokens,
    one: "token",
    many: "tokens",
};

/// Stored form of a token. Members that are added later need a default. Times are microseconds since
/// 1970, UTC.
#[derive(Serialize, Deserialize)]
struct StoredToken {
    role: String,
    sources: Vec<String>,
    kinds: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<String>,
    /// SHA-256 of the secret, in hex.
    hash: String,
    created_at: i64,
    created_by: String,
    expires_at: Option<i64>,
}

pub(super) fn encode_token(token: &NamedToken) -> Vec<u8> {
    let stored = StoredToken {
        role: token.role.as_str().to_owned(),
        sources: token.scope.sources.clone(),
        kinds: token.scope.kinds.clone(),
        accounts: token.scope.accounts.clone(),
        hash: hex::encode(token.hash.as_bytes()),
        created_at: token.created_at.as_micros(),
        created_by: token.created_by.clone(),
        expires_at: token.expires_at.map(Timestamp::as_micros),
    };
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, &stored)
        .expect("every member has a JSON form, and writing to a Vec cannot fail");
    bytes
}

pub(super) fn decode_token(name: &str, bytes: &[u8]) -> Result<NamedToken, DefinitionOpenError> {
    let corrupt = || SORT.corrupt(name);
    let json = SORT.split_format(name, bytes, FORMAT)?;
    let stored: StoredToken = serde_json::from_slice(json).map_err(|_| corrupt())?;
    let mut hash = [0; 32];
    hex::decode_to_slice(&stored.hash, &mut hash).map_err(|_| corrupt())?;
    Ok(NamedToken {
        name: name.into(),
        role: TokenRole::parse(&stored.role).ok_or_else(corrupt)?,
        scope: PublishScope {
            sources: stored.sources,
            kinds: stored.kinds,
            accounts: stored.accounts,
        },
        hash: TokenHash::from_bytes(hash),
        created_at: Timestamp::from_micros(stored.created_at),
        created_by: stored.created_by,
        expires_at: stored.expires_at.map(Timestamp::from_micros),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    /// Stores outlive versions: later versions must read these bytes.
    #[test]
    fn the_bytes_of_a_token_never_change() {
        let token = NamedToken {
            name: "ci".into(),
            role: TokenRole::Publish,
            scope: PublishScope {
                sources: vec!["crm".to_owned()],
                kinds: vec!["task".to_owned()],
                accounts: Vec::new(),
            },
            hash: TokenHash::from_bytes([7; 32]),
            created_at: Timestamp::from_micros(5),
            created_by: "config:admin".to_owned(),
            expires_at: Some(Timestamp::from_micros(9)),
        };
        let json = format!(
            r#"{{"role":"publish","sources":["crm"],"kinds":["task"],"hash":"{}","created_at":5,"created_by":"config:admin","expires_at":9}}"#,
            "07".repeat(32)
        );
        let bytes = encode_token(&token);
        assert_eq!(
            (bytes[0], std::str::from_utf8(&bytes[1..])),
            (1, Ok(&*json))
        );
        assert_eq!(decode_token("ci", &bytes).expect("just written"), token);

        let bound = json.replace(r#","hash""#, r#","accounts":["acc_1"],"hash""#);
        let decoded = decode_token("ci", &[&[1][..], bound.as_bytes()].concat());
        let decoded = decoded.expect("a token that is bound to an account");
        assert_eq!(decoded.scope.accounts, ["acc_1"]);
        assert_eq!(&encode_token(&decoded)[1..], bound.as_bytes());

        let mightier = json.replace("\"publish\"", "\"root\"");
        for wrong in [
            &b""[..],
            b"\x01{}",
            &[&[1][..], mightier.as_bytes()].concat(),
        ] {
            assert!(
                matches!(decode_token("ci", wrong), Err(DefinitionOpenError::Corrupt { id, .. }) if id == "ci")
            );
        }
        assert!(matches!(
            decode_token("ci", b"\x02{}"),
            Err(DefinitionOpenError::Format { found: 2, .. })
        ));
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_token_is_read_or_refused(bytes in damaged(&[format!(
            "\u{1}{{\"role\":\"publish\",\"sources\":[\"crm\"],\"hash\":\"{}\",\"created_at\":5,\"created_by\":\"x\",\"expires_at\":9}}",
            "07".repeat(32)
        )])) {
            let _ = decode_token("ci", &bytes);
        }
    }
}

//! `hookyard tokens`: the named tokens of a running node.

use std::io::Write;

use reqwest::Method;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::error::CliError;
use super::node_args::NodeArgs;
use super::terminal_text::{cell_text, print_table};

/// Seconds of each unit that a life is given in.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Manage the named tokens of a running node
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  hookyard tokens create ana --role read --expires-in 90d\n  \
    hookyard tokens list"
)]
pub(super) enum TokensCommand {
    Create(CreateTokenCommand),
    List(ListTokensCommand),
    Revoke(RevokeTokenCommand),
}

/// Create a token and print its secret, which no later answer shows
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  hookyard tokens create billing --role publish --kinds task --expires-in 365d"
)]
pub(super) struct CreateTokenCommand {
    /// Name of the token, as events and the audit log show it
    #[arg(value_name = "NAME")]
    name: String,
    /// Role, which says what the token may do
    #[arg(long, value_name = "ROLE", value_parser = ["admin", "operator", "read", "publish"])]
    role: String,
    /// Sources that it may publish to, separated by commas: crm, instagram [default: all]
    #[arg(long, value_name = "SOURCES", value_delimiter = ',')]
    sources: Vec<String>,
    /// Kinds of entities that it may publish events of, separated by commas [default: all]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Instagram accounts by which it may send messages, separated by commas [default: all]
    #[arg(long, value_name = "ACCOUNTS", value_delimiter = ',')]
    accounts: Vec<String>,
    /// Life of the token, such as 90d, 12h or 30m [default: no end]
    #[arg(long, value_name = "TIME", value_parser = parse_life)]
    expires_in: Option<u64>,
    /// Time at which the token ends, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// List the tokens, those of the configuration first; no secret is shown
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard tokens list --json | jq .name")]
pub(super) struct ListTokensCommand {
    /// Print JSON, one token per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Revoke a token; it is refused from now on
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard tokens revoke ana")]
pub(super) struct RevokeTokenCommand {
    /// Name of the token, as `tokens list` shows it
    #[arg(value_name = "NAME")]
    name: String,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl TokensCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        system.block_on(async {
            match self {
                Self::Create(create) => create.run(out).await,
                Self::List(list) => list.run(out).await,
                Self::Revoke(revoke) => revoke.run(out).await,
            }
        })
    }
}

impl CreateTokenCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let created: Value = node.post(&["tokens"], Some(&self.body())).await?;
        if self.json {
            writeln!(out, "{created}")?;
            return Ok(());
        }
        writeln!(
            out,
            "token {} created, with the role {}\nits secret, which is not shown again: {}",
            cell_text(&created["name"]),
            cell_text(&created["role"]),
            cell_text(&created["secret"]),
        )?;
        Ok(())
    }

    fn body(&self) -> Value {
        let mut body = json!({"name": self.name, "role": self.role});
        for (name, list) in [
            ("sources", &self.sources),
            ("kinds", &self.kinds),
            ("accounts", &self.accounts),
        ] {
            if !list.is_empty() {
                body[name] = list.as_slice().into();
            }
        }
        if let Some(seconds) = self.expires_in {
            body["expires_in_s"] = seconds.into();
        }
        if let Some(time) = &self.expires_at {
            body["expires_at"] = time.as_str().into();
        }
        body
    }
}

impl ListTokensCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let all = node.list_all(&["tokens"], &[]).await?;
        if self.json {
            all.iter().try_for_each(|item| writeln!(out, "{item}"))?;
            return Ok(());
        }
        let rows: Vec<_> = all.iter().map(list_row).collect();
        let heading = [
            "NAME",
            "ROLE",
            "SOURCES",
            "KINDS",
            "ACCOUNTS",
            "EXPIRES",
            "CREATED BY",
        ];
        Ok(print_table(heading, &rows, out)?)
    }
}

fn list_row(token: &Value) -> [String; 7] {
    let end = match token["is_expired"] == true {
        true => "expired".to_owned(),
        false => cell_text(&token["expires_at"]),
    };
    [
        cell_text(&token["name"]),
        cell_text(&token["role"]),
        cell_text(&token["sources"]),
        cell_text(&token["kinds"]),
        cell_text(&token["accounts"]),
        end,
        cell_text(&token["created_by"]),
    ]
}

impl RevokeTokenCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let url = node.url(&["tokens", &self.name], &[])?;
        node.call(Method::DELETE, url, None).await?;
        match self.json {
            true => writeln!(out, "{}", json!({"name": self.name, "revoked": true}))?,
            false => writeln!(out, "token {}: revoked", self.name)?,
        }
        Ok(())
    }
}

/// Parses a life such as `90d` into seconds.
fn parse_life(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a whole number with a unit, such as 90d, 12h or 30m";
    let unit = |(unit, seconds): &(char, u64)| Some((text.strip_suffix(*unit)?, *seconds));
    let (number, seconds) = UNITS.iter().find_map(unit).ok_or(EXPECTED)?;
    let number = number.parse::<u64>().map_err(|_| EXPECTED)?;
    let life = number.checked_mul(seconds).filter(|life| *life > 0);
    life.ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_a_unit() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("12h", 43_200),
            ("30m", 1_800),
            ("5s", 5),
        ] {
            assert_eq!(parse_life(text), Ok(seconds), "{text}");
        }
        for text in ["", "90", "d", "0d", "-1d", "1.5h", "99999999999999999999d"] {
            assert!(parse_life(text).is_err(), "{text}");
        }
    }
}

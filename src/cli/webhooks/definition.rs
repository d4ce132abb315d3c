//! Definition of a subscription on the command line: creation and change.

use std::io::Write;

use clap::ArgGroup;
use reqwest::Method;
use serde_json::{Map, Value};

use super::call_args::{CallArgs, parse_webhook_id};
use crate::cli::admin_client::AdminClient;
use crate::cli::error::CliError;
use crate::cli::node_url::parse_url;
use crate::cli::terminal_text::cell_text;

/// Create a subscription and print its secret, which no later answer shows
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard webhooks create https://crm.example/hook --events 'ticket:*,lead.*'\n  \
    hookyard webhooks create --pull --events 'ticket:*'",
    override_usage = "hookyard webhooks create [OPTIONS] <TARGET|--pull>"
)]
pub(in crate::cli) struct CreateWebhookCommand {
    /// URL that the node delivers to
    #[arg(value_name = "TARGET", value_parser = parse_url, required_unless_present = "pull")]
    target: Option<String>,
    /// Deliver to no URL: the receiver reads its events itself (GET /api/v1/webhooks/ID/events)
    #[arg(long, conflicts_with = "target")]
    pull: bool,
    /// Patterns of the events to deliver, separated by commas
    #[arg(
        long,
        value_name = "EVENTS",
        value_delimiter = ',',
        default_value = "*"
    )]
    events: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Id of your choice for the subscription
    #[arg(long, value_name = "ID")]
    uid: Option<String>,
    #[command(flatten)]
    call: CallArgs,
}

/// Change what a subscription gets; what is not given stays as it is
///
/// An empty text, such as `--filter ''`, removes what there was.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard webhooks edit 1 --events 'ticket:*,lead.*'\n  \
    hookyard webhooks edit 1 --target https://crm.example/hook --filter ''",
    group = ArgGroup::new("change").required(true).multiple(true)
        .args(["target", "events", "description", "filter", "transform", "signing"])
)]
pub(in crate::cli) struct EditWebhookCommand {
    /// Id of the subscription, as `webhooks list` shows it
    #[arg(value_name = "ID", value_parser = parse_webhook_id)]
    id: u64,
    /// URL that the node delivers to from now on
    #[arg(long, value_name = "TARGET", value_parser = parse_url)]
    target: Option<String>,
    /// Patterns of the events to deliver, separated by commas
    #[arg(long, value_name = "EVENTS", value_delimiter = ',')]
    events: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    call: CallArgs,
}

/// Settings that a new subscription may have and a change may give.
#[derive(clap::Args, Debug)]
struct SettingsArgs {
    /// Description of the subscription for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// CEL expression that selects events
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// CEL expression that makes the body to send
    #[arg(long, value_name = "CEL")]
    transform: Option<String>,
    /// Signature styles, separated by commas: crm, standard, hub, v1a [default: crm and standard]
    #[arg(long, value_name = "STYLES", value_delimiter = ',')]
    signing: Vec<String>,
}

impl SettingsArgs {
    /// Adds the members that are given; an empty text becomes null.
    fn add_members(&self, members: &mut Map<String, Value>) {
        let texts = [
            ("description", &self.description),
            ("filter", &self.filter),
            ("transform", &self.transform),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                let value = Some(text.as_str()).filter(|text| !text.is_empty());
                members.insert(name.to_owned(), value.into());
            }
        }
        if !self.signing.is_empty() {
            members.insert("signing".to_owned(), self.signing.as_slice().into());
        }
    }
}

impl CreateWebhookCommand {
    pub(super) async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let created: Value = node.post(&["webhooks"], Some(&self.body())).await?;
        if self.call.json {
            writeln!(out, "{created}")?;
            return Ok(());
        }
        writeln!(
            out,
            "subscription {} created: {} to {}\nits secret, which is not shown again: {}",
            created["id"],
            cell_text(&created["events"]),
            match self.pull {
                true => "whoever reads them".to_owned(),
                false => cell_text(&created["url"]),
            },
            cell_text(&created["secret"]),
        )?;
        if let Value::String(key) = &created["public_key"] {
            writeln!(out, "its public key: {key}")?;
        }
        if self.pull {
            let segments = ["webhooks", &created["id"].to_string(), "events"];
            let url = node.url(&segments, &[("wait", "30")])?;
            writeln!(
                out,
                "read its events, with a token of the node in TOKEN:\n  \
                 curl -H \"Authorization: Bearer $TOKEN\" '{url}'\n\
                 and the next ones with &cursor= and the cursor of the answer"
            )?;
        }
        Ok(())
    }

    fn body(&self) -> Value {
        let mut members = Map::new();
        match &self.target {
            Some(target) => members.insert("url".to_owned(), target.as_str().into()),
            None => members.insert("delivery".to_owned(), "pull".into()),
        };
        members.insert("events".to_owned(), self.events.as_slice().into());
        self.settings.add_members(&mut members);
        if let Some(uid) = &self.uid {
            members.insert("uid".to_owned(), uid.as_str().into());
        }
        Value::Object(members)
    }
}

impl EditWebhookCommand {
    pub(super) async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let url = node.url(&["webhooks", &self.id.to_string()], &[])?;
        let answer = node.call(Method::PUT, url, Some(&self.body())).await?;
        let changed: Value = node.read(answer).await?;
        match self.call.json {
            true => writeln!(out, "{changed}")?,
            false => writeln!(out, "subscription {}: changed", self.id)?,
        }
        Ok(())
    }

    fn body(&self) -> Value {
        let mut members = Map::new();
        if let Some(target) = &self.target {
            members.insert("url".to_owned(), target.as_str().into());
        }
        if !self.events.is_empty() {
            members.insert("events".to_owned(), self.events.as_slice().into());
        }
        self.settings.add_members(&mut members);
        Value::Object(members)
    }
}

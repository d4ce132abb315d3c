//! `hookyard webhooks`: the subscriptions of a running node.

use std::io::{self, Write};

use reqwest::Method;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, given_filters};
use super::error::CliError;
use super::node_args::NodeArgs;
use super::terminal_text::{cell_text, print_answer, print_table};
use call_args::CallArgs;
pub(super) use call_args::parse_webhook_id;
use definition::{CreateWebhookCommand, EditWebhookCommand};
use redelivery::{DeliveriesCommand, RecoverCommand, ReplayCommand};

mod call_args;
mod definition;
mod redelivery;

/// Manage the subscriptions of a running node
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  hookyard webhooks create https://crm.example/hook --events 'lead.*'\n  \
    hookyard webhooks list"
)]
pub(super) enum WebhooksCommand {
    List(ListWebhooksCommand),
    Create(CreateWebhookCommand),
    Edit(EditWebhookCommand),
    Show(ShowWebhookCommand),
    Deliveries(DeliveriesCommand),
    Pause(PauseWebhookCommand),
    Resume(ResumeWebhookCommand),
    Test(TestWebhookCommand),
    RotateSecret(RotateSecretCommand),
    Recover(RecoverCommand),
    Replay(ReplayCommand),
    Delete(DeleteWebhookCommand),
}

/// List the subscriptions, the newest first, each with its circuit breaker and its backlog
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks list --json | jq .url")]
pub(super) struct ListWebhooksCommand {
    /// Only subscriptions that are active
    #[arg(long)]
    active: bool,
    /// Print JSON, one subscription per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Show a subscription with its counters
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks show 1")]
pub(super) struct ShowWebhookCommand {
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// Pause a subscription; its events wait for it
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks pause 1")]
pub(super) struct PauseWebhookCommand {
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// Resume a paused or disabled subscription, and try what waits at once
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks resume 1")]
pub(super) struct ResumeWebhookCommand {
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// Send a signed ping and show the answer; the exit code is 1 if it is not a success
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks test 1")]
pub(super) struct TestWebhookCommand {
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// Replace the secret of a subscription and print the new one, which no later answer shows
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks rotate-secret 1 --overlap-h 48")]
pub(super) struct RotateSecretCommand {
    /// Hours for which deliveries are signed with the old secret too [default: 24]
    #[arg(long, value_name = "HOURS")]
    overlap_h: Option<f64>,
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// Delete a subscription together with its backlog
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard webhooks delete 1")]
pub(super) struct DeleteWebhookCommand {
    #[command(flatten)]
    webhook: WebhookArgs,
}

/// Arguments that name a subscription.
#[derive(clap::Args, Debug)]
struct WebhookArgs {
    /// Id of the subscription, as `webhooks list` shows it
    #[arg(value_name = "ID", value_parser = parse_webhook_id)]
    id: u64,
    #[command(flatten)]
    call: CallArgs,
}

impl WebhooksCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let system = actix_rt::System::new();
        system.block_on(async {
            match self {
                Self::List(list) => list.run(out).await,
                Self::Create(create) => create.run(out).await,
                Self::Edit(edit) => edit.run(out).await,
                Self::Deliveries(deliveries) => deliveries.run(out).await,
                Self::Show(show) => show.webhook.show(out).await,
                Self::Pause(pause) => pause.webhook.act("pause", out).await,
                Self::Resume(resume) => resume.webhook.act("resume", out).await,
                Self::Test(test) => test.webhook.test(out).await,
                Self::RotateSecret(rotation) => {
                    rotation.webhook.rotate(rotation.overlap_h, out).await
                }
                Self::Recover(recover) => recover.run(out).await,
                Self::Replay(replay) => replay.run(out).await,
                Self::Delete(delete) => delete.webhook.delete(out).await,
            }
        })
    }
}

impl ListWebhooksCommand {
    async fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.node.resolve_node()?)?;
        let filter = given_filters([("is_active", self.active.then_some("true"))]);
        let all = node.list_all(&["webhooks"], &filter).await?;
        if self.json {
            all.iter().try_for_each(|item| writeln!(out, "{item}"))?;
            return Ok(());
        }
        if all.is_empty() {
            writeln!(
                out,
                "there are no subscriptions; `hookyard webhooks create` makes one"
            )?;
            return Ok(());
        }
        let rows: Vec<_> = all.iter().map(list_row).collect();
        let heading = [
            "ID",
            "STATE",
            "BREAKER",
            "BACKLOG",
            "DEAD LETTERS",
            "EVENTS",
            "URL",
        ];
        Ok(print_table(heading, &rows, out)?)
    }
}

fn list_row(webhook: &Value) -> [String; 7] {
    let stats = &webhook["stats"];
    // A node of an earlier version has no figure for what waits behind stopped lanes.
    let waiting =
        ["behind", "waiting", "deferred"].map(|name| stats[name].as_u64().unwrap_or_default());
    let backlog = match stats {
        Value::Null => json!("?"),
        _ => json!(waiting.iter().sum::<u64>()),
    };
    [
        &webhook["id"],
        &webhook["state"],
        &stats["breaker"],
        &backlog,
        &stats["dead_letters"],
        &webhook["events"],
        &webhook["url"],
    ]
    .map(cell_text)
}

impl WebhookArgs {
    async fn show(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let webhook: Value = node.get(&["webhooks", &self.id.to_string()], &[]).await?;
        Ok(print_answer(&webhook, self.call.json, out)?)
    }

    /// Pauses or resumes the subscription.
    async fn act(&self, action: &str, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let webhook: Value = node
            .post(&["webhooks", &self.id.to_string(), action], None)
            .await?;
        self.print_outcome(&webhook, &cell_text(&webhook["state"]), out)
    }

    async fn test(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let ping: Value = node
            .post(&["webhooks", &self.id.to_string(), "test"], None)
            .await?;
        print_answer(&ping, self.call.json, out)?;
        match ping["is_successful"] == true {
            true => Ok(()),
            false => Err(CliError::PingRefused),
        }
    }

    async fn rotate(&self, overlap_h: Option<f64>, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let body = overlap_h.map(|hours| json!({"overlap_h": hours}));
        let segments = ["webhooks", &self.id.to_string(), "rotate-secret"];
        let rotated: Value = node.post(&segments, body.as_ref()).await?;
        let secret = cell_text(&rotated["secret"]);
        let outcome = format!("new secret, which is not shown again: {secret}");
        self.print_outcome(&rotated, &outcome, out)
    }

    async fn delete(&self, out: &mut impl Write) -> Result<(), CliError> {
        let node = AdminClient::try_new(self.call.node.resolve_node()?)?;
        let url = node.url(&["webhooks", &self.id.to_string()], &[])?;
        node.call(Method::DELETE, url, None).await?;
        self.print_outcome(&json!({"id": self.id, "deleted": true}), "deleted", out)
    }

    fn print_outcome(
        &self,
        answer: &Value,
        outcome: &str,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let printed: io::Result<()> = match self.call.json {
            true => writeln!(out, "{answer}"),
            false => writeln!(out, "subscription {}: {outcome}", self.id),
        };
        Ok(printed?)
    }
}

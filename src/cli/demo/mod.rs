//! `hookyard demo`: a node with simulated CRMs and subscribers, and the story of what happens there.
//!
//! ```text
//!  traffic ──signed events──> node ──deliveries──> audience (receivers that check the order)
//!     └──────────── story: what is sent, broken and repaired ────────────┘
//!                     └──narrator──> sentences on the terminal
//! ```

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::admin_client::AdminClient;
use super::dev_mode;
use super::error::CliError;
use super::node_url::base_url;
use super::random_secret::generate_secret;
use super::selected_node::SelectedNode;
use super::send::EventSender;
use super::stop_signals::StopSignals;
use super::temporary_folder::TemporaryFolder;
use crate::app::{Node, NodeDeps};
use crate::config::{Config, ConfigDraft, ConfigPurpose, DevSecrets, Secret};
use audience::DemoAudience;
use narrator::DemoNarrator;
use story::DemoStory;
use traffic::DemoTraffic;

mod audience;
mod error;
mod ledger;
mod narrator;
mod story;
mod summary;
mod traffic;
mod visitor;

pub(super) use error::DemoError;

/// Configuration of the demo's node. The pauses are short, so that a person need not wait, and rates
/// are not limited.
const CONFIG: &str = include_str!("demo.toml");

/// Watch a node at work, with simulated CRMs and subscribers
///
/// Starts a node in a temporary folder, CRMs that send it signed events, and three subscribers, one
/// of which fails and recovers. Tells what happens, and removes everything at the end. Nothing leaves
/// this machine.
///
/// Ctrl-C ends it with a summary. The exit code is 0 only if each event of the demo was delivered to
/// each subscriber, in the order of its entity and with a right signature. Look around in the
/// dashboard, and change what you like: a subscriber whose subscription you changed is not judged.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard demo\n  hookyard demo --seconds 10 --json")]
pub(super) struct DemoCommand {
    /// Port of the node on loopback [default: a free one]
    #[arg(
        long,
        value_name = "PORT",
        default_value = "0",
        hide_default_value = true
    )]
    port: u16,
    /// End after this time, but not before the whole story was told once
    #[arg(long, value_name = "NUMBER")]
    seconds: Option<u32>,
    /// Keep the node after the summary, until the next Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Folder and configuration of the node, with the secret of the configured source.
struct DemoSurroundings {
    folder: TemporaryFolder,
    config: Config,
    github_secret: Secret,
}

impl DemoCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let folder =
            TemporaryFolder::create(&std::env::temp_dir(), "hookyard-demo", DemoError::Folder)?;
        let github_secret = generate_secret()?;
        let config = self.load_config(folder.path(), &github_secret)?;
        let surroundings = DemoSurroundings {
            folder,
            config,
            github_secret,
        };
        actix_rt::System::new().block_on(self.run_demo(&surroundings, out))
    }

    /// Builds the configuration. The environment is left out: a demo is the same everywhere.
    fn load_config(&self, folder: &Path, github_secret: &Secret) -> Result<Config, CliError> {
        let file = folder.join("hookyard.toml");
        fs::write(&file, CONFIG).map_err(DemoError::Folder)?;
        let leads_secret = generate_secret()?;
        let env = [
            ("HOOKYARD_STORE__PATH", folder.join("data").into_os_string()),
            (
                "HOOKYARD_SERVER__BIND",
                format!("127.0.0.1:{}", self.port).into(),
            ),
            (
                "HOOKYARD_SOURCES__LEADS__SECRETS",
                leads_secret.expose().into(),
            ),
            (
                "HOOKYARD_SOURCES__CUSTOM__GITHUB__SECRETS",
                github_secret.expose().into(),
            ),
        ];
        let mut draft = ConfigDraft::from_toml(Some(&file), env);
        draft.apply_dev_mode(&DevSecrets::generate(dev_mode::make_secret)?);
        Ok(draft.finish(ConfigPurpose::Trial)?)
    }

    async fn run_demo(
        &self,
        surroundings: &DemoSurroundings,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        // Handlers first: from the start of the node on there is something to remove.
        let mut signals = StopSignals::new().map_err(DemoError::Signals)?;
        let (stop, stopping) = watch::channel(0);
        actix_rt::spawn(async move {
            loop {
                signals.wait().await;
                stop.send_modify(|signals| *signals += 1);
            }
        });

        let node = Node::start(surroundings.config.clone(), NodeDeps::default()).await?;
        let told = self.tell_story(&node, surroundings, stopping, out).await;
        let stopped = node.stop().await;
        let audience = told?;
        audience.stop().await;
        Ok(stopped?)
    }

    /// Tells the story until its end, and judges what was promised.
    async fn tell_story(
        &self,
        node: &Node,
        surroundings: &DemoSurroundings,
        stopping: watch::Receiver<u32>,
        out: &mut impl Write,
    ) -> Result<DemoAudience, CliError> {
        let DemoSurroundings {
            folder,
            config,
            github_secret,
        } = surroundings;
        let base = base_url(&node.address().to_string());
        let client = AdminClient::try_new(SelectedNode {
            base: base.clone(),
            token: config.admin.token.clone(),
            is_own: true,
        })?;
        let mut narrator = DemoNarrator::new(self.json, out);
        greet(&mut narrator, node, &base, &config.admin.token, folder)?;

        let audience = DemoAudience::subscribe(&client).await?;
        let sender = EventSender::try_new(config, &base)?;
        let traffic = DemoTraffic::new(sender, github_secret.clone(), audience.ledgers());
        let story = DemoStory::new(client, traffic, &audience, stopping.clone());
        let login_link = || make_login_link(node, &base);
        let limit = self
            .seconds
            .map(|seconds| Duration::from_secs(seconds.into()));
        let summary = story.tell(limit, login_link, &mut narrator).await?;

        narrator.show_summary(&summary)?;
        summary.check_claims()?;
        if self.stay {
            wait_for_next_signal(stopping, &mut narrator).await?;
        }
        Ok(audience)
    }
}

/// Keeps the node as it is until a signal comes that is not the one which ended the story.
async fn wait_for_next_signal(
    mut stopping: watch::Receiver<u32>,
    narrator: &mut DemoNarrator<'_, impl Write>,
) -> Result<(), CliError> {
    let seen = *stopping.borrow_and_update();
    narrator
        .tell("The node stays, with all that it has. Ctrl-C ends it and removes everything.")?;
    // The sender lives as long as the actix system.
    let _ = stopping.wait_for(|signals| *signals > seen).await;
    Ok(())
}

fn make_login_link(node: &Node, base: &str) -> Option<String> {
    node.login_link()
        .map(|link| format!("{base}{}", link.expose()))
}

/// Prints where the node is, and the way into its dashboard.
fn greet(
    narrator: &mut DemoNarrator<'_, impl Write>,
    node: &Node,
    base: &str,
    token: &Secret,
    folder: &TemporaryFolder,
) -> Result<(), CliError> {
    let link = make_login_link(node, base);
    let folder = folder.path().display().to_string();
    let start = json!({
        "url": base,
        "dashboard": format!("{base}/dashboard"),
        "login_link": link,
        "token": token.expose(),
        "folder": folder,
    });
    let mut lines = vec![format!("A node runs at {base}, with its data in {folder}.")];
    if let Some(link) = link {
        lines.push("Watch it in a browser; the link logs in once, within ten minutes:".to_owned());
        lines.push(format!("  {link}"));
    }
    lines.push(format!(
        "The dashboard's token, for later: {}",
        token.expose()
    ));
    lines.push("Ctrl-C ends the demo and removes everything.".to_owned());
    Ok(narrator.show_start(&start, &lines)?)
}

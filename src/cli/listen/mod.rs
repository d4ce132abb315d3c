//! `hookyard listen`: a subscriber to try things out with. It verifies each delivery's signatures
//! and its place in the order, says so, and answers as it is told to.
//!
//! ```text
//!  request ──keys──> signatures ┐
//!     └──delivery──> whose, which ├──behaviour──> answer
//!                └──book──> mark ┘       └──report──> a line
//! ```

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::send::{base_url, parse_url};
use super::{dev_mode, format_count, secret};
use crate::config::{ConfigDraft, ConfigPurpose, Secret};
use crate::error_chain;
use crate::provider::VerificationKeyError;
use behaviour::{AnswerBehaviour, parse_delay, parse_share};
use keys::ListenerKeys;
use registration::{ListenerRegistration, NodeClient, RegistrationRequest};
use report::ReportLine;
use server::ListenerContext;

mod behaviour;
mod delivery;
mod keys;
mod order_tracker;
mod registration;
mod report;
mod server;

/// Secrets, with commas between them, that are not to stand on a command line.
const SECRETS_VARIABLE: &str = "HOOKYARD_LISTEN_SECRET";

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

/// Receive deliveries, verify their signatures and their order, and print them
///
/// Prints a line for each delivery: when it came, what it was answered, the event, its entity and
/// number there, and how each of its signatures turned out. Marks what did not come in its turn:
///
/// SWAP: a later event of the same entity was accepted before, or an earlier one is still being
/// answered.
///
/// REPEAT: it was accepted before, as can happen to deliveries that are made at least once.
///
/// GAP: events before it did not come, which the subscription may not want.
///
/// AGAIN: the node was asked to deliver it again, so it is in no order.
///
/// Ctrl-C ends it with a summary, and with exit code 1 if something was swapped or wrongly signed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListenCommand {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    bind: SocketAddr,
    /// Secret of the subscription, any of several; also taken from HOOKYARD_LISTEN_SECRET, which no
    /// list of processes shows
    #[arg(long = "secret", value_name = "SECRET", value_parser = parse_secret)]
    secrets: Vec<Secret>,
    /// Public key of the subscription, for v1a
    #[arg(long = "public-key", value_name = "WHPK")]
    public_keys: Vec<String>,
    /// Share of the attempts that are answered 500, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    fail: f64,
    /// Which attempts those are: the same for the same number [default: a random one]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How long each answer takes, such as 200ms or 1.5s
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_delay)]
    delay: Duration,
    /// Status of the other answers
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    subscription: SubscribeArgs,
}

/// The subscription that the listener makes for itself.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "To subscribe at a node")]
struct SubscribeArgs {
    /// Subscribe at the node of this folder, with the token that `hookyard serve --dev` made
    #[arg(long)]
    dev: bool,
    /// Subscribe at this node
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    subscribe: Option<String>,
    /// The node's admin token [default: admin.token of the configuration]
    #[arg(long, value_name = "TOKEN", value_parser = parse_secret)]
    token: Option<Secret>,
    /// Configuration file of the node, for its address and token
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Events to subscribe to, with commas between them
    #[arg(
        long,
        value_name = "EVENTS",
        value_delimiter = ',',
        default_value = "*"
    )]
    events: Vec<String>,
    /// How deliveries are signed: crm, standard, hub, v1a, with commas between them [default: crm
    /// and standard]
    #[arg(long, value_name = "STYLES", value_delimiter = ',')]
    signing: Vec<String>,
    /// Where the node reaches this listener [default: the address it listens on]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    public_url: Option<String>,
    /// Leave the subscription there at the end: the next listener at this address takes it over,
    /// and gets what comes meanwhile
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  hookyard listen --dev
  hookyard listen --dev --fail 0.2 --delay 100ms --events 'ticket:*'
  HOOKYARD_LISTEN_SECRET=whsec_… hookyard listen --bind 127.0.0.1:9000 --json";

/// Why nothing is listened to, or what was wrong with what came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("cannot listen on {address}; stop what is using it, or choose another with --bind")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("a key cannot be used")]
    Key(#[from] VerificationKeyError),
    #[error(
        "to subscribe takes the node's admin token: start `hookyard serve --dev` in this folder first, name the node's \
         configuration with --config, or give --token"
    )]
    NoToken,
    #[error("cannot subscribe")]
    Subscribe(#[source] registration::RegistrationError),
    #[error("the receiver cannot be set up")]
    Setup(#[source] io::Error),
    #[error("of {}, {swaps} came out of order and {wrong} had a wrong signature or none", format_count(*.deliveries, "delivery", "deliveries"))]
    Found {
        deliveries: u64,
        swaps: u64,
        wrong: u64,
    },
}

impl ListenCommand {
    pub(super) fn run(mut self, out: &mut impl Write) -> Result<(), super::CliError> {
        let from_environment = std::env::var(SECRETS_VARIABLE).unwrap_or_default();
        self.secrets.extend(
            from_environment
                .split(',')
                .filter(|text| !text.is_empty())
                .map(Secret::new),
        );
        let seed = self.seed.map_or_else(
            || secret::random_bytes().map(|bytes| u64::from(bytes[0])),
            Ok,
        )?;
        actix_rt::System::new().block_on(self.run_listener(seed, out))
    }

    async fn run_listener(self, seed: u64, out: &mut impl Write) -> Result<(), super::CliError> {
        // The end may be asked for as soon as there is something to undo.
        let mut ends = StopSignals::new()?;
        let taken = |source| ListenError::Bind {
            address: self.bind,
            source,
        };
        let (socket, address) = reserve_address(self.bind).map_err(taken)?;
        let url = self
            .subscription
            .public_url
            .clone()
            .unwrap_or_else(|| base_url(&address.to_string()));
        let wanted = self.registration_request(&url);
        let node = self
            .subscription
            .resolve_node()?
            .map(|(base, token)| NodeClient::try_new(&base, token));
        let node = node.transpose().map_err(ListenError::Subscribe)?;
        // Nothing that is signed with a secret of before gets in until here.
        let taken_over = match &node {
            Some(node) => tokio::select! {
                () = ends.wait() => return Ok(()),
                found = node.take_over(&wanted, || print_waiting(node)) => found.map_err(ListenError::Subscribe)?,
            },
            None => None,
        };
        let listener = socket
            .listen(BACKLOG)
            .and_then(tokio::net::TcpListener::into_std)
            .map_err(taken)?;
        // Whatever is delivered from here on waits until the keys are known.
        let registered = match node {
            Some(node) => Some(
                register(node, taken_over, &wanted)
                    .await
                    .map_err(ListenError::Subscribe)?,
            ),
            None => None,
        };
        let keys = self.build_keys(registered.as_ref().map(|(_, registration)| registration))?;
        let behaviour = AnswerBehaviour {
            fail: self.fail,
            seed,
            status: self.status,
            delay: self.delay,
        };
        let (lines, mut told) = mpsc::channel(server::LINES_MAX);
        let desk = Arc::new(ListenerContext::new(keys, behaviour, lines));
        let server =
            server::serve_receiver(Arc::clone(&desk), listener).map_err(ListenError::Setup)?;
        let handle = server.handle();
        actix_rt::spawn(server);
        let mut written = self.print_greeting(&desk, address, registered.as_ref(), out);
        while written.is_ok() {
            let line: ReportLine = tokio::select! {
                () = ends.wait() => break,
                Some(line) = told.recv() => line,
            };
            written = self.print_line(&line, out);
        }
        if let Some((node, registration)) = registered.filter(|_| !self.subscription.keep) {
            remove_registration(&node, registration.id).await;
        }
        handle.stop(true).await;
        while let Ok(line) = told.try_recv() {
            written = written.and_then(|()| self.print_line(&line, out));
        }
        written?;
        self.print_summary(&desk, out)
    }
}

impl ListenCommand {
    /// What to subscribe to.
    fn registration_request<'a>(&'a self, url: &'a str) -> RegistrationRequest<'a> {
        let SubscribeArgs {
            events, signing, ..
        } = &self.subscription;
        RegistrationRequest {
            url,
            events,
            signing,
            secret: self.secrets.first(),
        }
    }

    /// All keys there are: those given, and those of the subscription.
    fn build_keys(
        &self,
        registration: Option<&ListenerRegistration>,
    ) -> Result<ListenerKeys, ListenError> {
        let mut keys = ListenerKeys::default();
        let made = registration
            .map(|registration| &registration.secret)
            .filter(|secret| !secret.is_empty());
        // One that was given comes back in the answer.
        let made = made.filter(|made| {
            self.secrets
                .iter()
                .all(|given| !given.matches(made.expose().as_bytes()))
        });
        for secret in self.secrets.iter().chain(made) {
            keys.add_secret(secret.expose())?;
        }
        let public = registration.and_then(|registration| registration.public_key.as_ref());
        for key in self.public_keys.iter().chain(public) {
            keys.add_public(key)?;
        }
        Ok(keys)
    }

    fn print_greeting(
        &self,
        desk: &ListenerContext,
        address: SocketAddr,
        registered: Option<&(NodeClient, ListenerRegistration)>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let (url, AnswerBehaviour { seed, .. }) = (base_url(&address.to_string()), desk.behaviour);
        let is_taken_over = registered.is_some_and(|(_, registration)| registration.is_taken_over);
        if self.json {
            let subscription = registered.map(|(_, registration)| registration.id);
            writeln!(
                out,
                "{}",
                json!({"listening": url, "subscription": subscription, "taken_over": is_taken_over, "seed": seed})
            )?;
            return out.flush();
        }
        match registered {
            Some((node, registration)) => {
                let events = self.subscription.events.join(", ");
                writeln!(
                    out,
                    "listening on {url}, as subscription {} of {} to {events}",
                    registration.id,
                    node.base()
                )?;
            }
            None => writeln!(out, "listening on {url}")?,
        }
        if is_taken_over {
            writeln!(
                out,
                "an earlier listener left it: what is owed since then comes when its next attempt is due"
            )?;
        }
        if desk.keys.is_empty() {
            writeln!(out, "signatures are not checked, as there is no --secret")?;
        }
        if self.fail > 0.0 {
            writeln!(
                out,
                "a share of {} is answered 500 (--seed {seed})",
                self.fail
            )?;
        }
        writeln!(out, "Ctrl-C ends it\n")?;
        out.flush()
    }

    fn print_line(&self, line: &ReportLine, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            writeln!(out, "{}", line.to_json())?
        } else {
            writeln!(out, "{line}")?
        }
        out.flush()
    }

    /// Sums up; an error if something was wrong with what came.
    fn print_summary(
        &self,
        desk: &ListenerContext,
        out: &mut impl Write,
    ) -> Result<(), super::CliError> {
        let (totals, entities) = desk.totals();
        match self.json {
            true => writeln!(out, "{}", totals.to_json(entities))?,
            false => writeln!(out, "\n{}", totals.describe(entities))?,
        }
        let (deliveries, swaps, wrong) = (totals.deliveries, totals.swaps, totals.wrongly_signed);
        if swaps + wrong == 0 {
            Ok(())
        } else {
            Err(ListenError::Found {
                deliveries,
                swaps,
                wrong,
            }
            .into())
        }
    }
}

impl SubscribeArgs {
    /// The node to subscribe at and its admin's token, if there is to be a subscription.
    fn resolve_node(&self) -> Result<Option<(String, Secret)>, super::CliError> {
        if !self.dev && self.subscribe.is_none() {
            return Ok(None);
        }
        if let (Some(url), Some(token)) = (&self.subscribe, &self.token) {
            return Ok(Some((url.clone(), token.clone())));
        }
        let mut draft = ConfigDraft::from_toml(self.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev_mode::read_secrets(&draft.store_path())? {
            draft.fill_missing_secrets(&secrets);
        }
        let config = draft.finish(ConfigPurpose::Tool)?;
        let token = self.token.as_ref().unwrap_or(&config.admin.token);
        if token.is_empty() {
            return Err(ListenError::NoToken.into());
        }
        let url = self
            .subscribe
            .clone()
            .unwrap_or_else(|| base_url(&config.server.bind));
        Ok(Some((url, token.clone())))
    }
}

/// Reserves `address`, and says which one it is. Calls to it are refused until it is listened on.
fn reserve_address(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Or the address would be taken for a minute by the connections of a listener before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// The subscription that was taken over, which goes on now, or else a new one.
async fn register(
    node: NodeClient,
    taken_over: Option<ListenerRegistration>,
    wanted: &RegistrationRequest<'_>,
) -> Result<(NodeClient, ListenerRegistration), registration::RegistrationError> {
    let registration = match taken_over {
        Some(registration) => node.resume(registration.id).await.map(|()| registration)?,
        None => node.subscribe(wanted).await?,
    };
    Ok((node, registration))
}

/// Removes the listener's subscription. That it is still there, or that something was owed to it,
/// is worth a word, but no failure.
async fn remove_registration(node: &NodeClient, id: u64) {
    // A node that cannot say it can hardly remove it either.
    let is_owed = node.has_backlog(id).await.unwrap_or(false);
    match node.unsubscribe(id).await {
        Ok(()) if is_owed => {
            print_notice(&format!(
                "subscription {id} is removed with what it was still owed; --keep would leave it for the next listener"
            ));
        }
        Ok(()) => {}
        Err(error) => {
            let reason = error_chain::format_error_chain(&error);
            print_notice(&format!(
                "subscription {id} of {} could not be removed: {reason}; the next listener at this address takes it over",
                node.base()
            ));
        }
    }
}

fn print_waiting(node: &NodeClient) {
    print_notice(&format!("waiting for a node at {}", node.base()));
}

/// Says what is no delivery. Nothing is left to be told to if the terminal is gone.
fn print_notice(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The two ways in which a person or a script asks it to end.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<Self, ListenError> {
        let made = |kind| signal(kind).map_err(ListenError::Setup);
        Ok(Self {
            interrupt: made(SignalKind::interrupt())?,
            terminate: made(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }
}

fn parse_secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        Err("expected a secret, not an empty one".to_owned())
    } else {
        Ok(Secret::new(text))
    }
}

//! `hookyard listen`: a subscriber for trials. It verifies the signatures and the order of each
//! delivery, prints the result, and answers as configured.
//!
//! ```text
//!  request ──keys──> signatures ─────────────┐
//!     └──delivery──> entity, sequence        ├──report──> printed line
//!           ├──order_tracker──> order mark ──┤
//!           └──behaviour──> status, delay ───┴──server──> answer
//! ```

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::admin_client::{AdminCallError, AdminClient};
use super::error::CliError;
use super::node_args::{load_folder_config, select_node};
use super::node_url::{base_url, parse_url};
use super::random_secret::random_bytes;
use super::selected_node::SelectedNode;
use super::stop_signals::StopSignals;
use super::terminal_text::print_notice;
use crate::config::Secret;
use crate::error_chain;
use behaviour::{AnswerBehaviour, parse_delay, parse_share};
use keys::ListenerKeys;
use registration::{ListenerNode, ListenerRegistration, RegistrationRequest};
use report::ReportLine;
use server::ListenerContext;

mod behaviour;
mod delivery;
mod error;
mod keys;
mod order_tracker;
mod registration;
mod report;
mod server;
mod trial_receiver;

pub(super) use error::ListenError;
pub(super) use report::ReportTotals;
pub(super) use trial_receiver::TrialReceiver;

/// Environment variable with comma-separated secrets; unlike arguments, it is not shown in process
/// lists.
const SECRETS_VARIABLE: &str = "HOOKYARD_LISTEN_SECRET";

/// Longest wait for the removal of the subscription at the end.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Receive deliveries, verify their signatures and order, and print them
///
/// Prints a line for each delivery: time, status of the answer, event, entity with sequence, and
/// the result for each signature. Deliveries out of order are marked:
///
/// SWAP: a later event of the same entity was accepted before, or an earlier event is still being
/// answered.
///
/// REPEAT: the event was accepted before; delivery is at least once.
///
/// GAP: events before this one did not arrive; the subscription may filter them out.
///
/// AGAIN: a retry or replay job of the node delivers the event again, outside the order.
///
/// Ctrl-C stops the listener and prints a summary. The exit code is 1 if a delivery was out of
/// order or had a wrong signature.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListenCommand {
    /// Address to listen on, with the port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    bind: SocketAddr,
    /// Secret of the subscription; may be repeated. HOOKYARD_LISTEN_SECRET sets it too, out of
    /// sight of process lists
    #[arg(long = "secret", value_name = "SECRET", value_parser = parse_secret)]
    secrets: Vec<Secret>,
    /// Public key of the subscription, for the style v1a
    #[arg(long = "public-key", value_name = "WHPK")]
    public_keys: Vec<String>,
    /// Share of attempts that are answered with 500, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    fail: f64,
    /// Seed that selects the failing attempts; the same seed selects the same attempts [default:
    /// random]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Delay before each answer, such as 200ms or 1.5s
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_delay)]
    delay: Duration,
    /// Status of all answers that do not fail
    #[arg(
        long,
        value_name = "STATUS",
        default_value = "200",
        value_parser = clap::value_parser!(u16).range(200..=599)
    )]
    status: u16,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    subscription: SubscribeArgs,
}

/// Options of the subscription that the listener creates.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "To subscribe at a node")]
struct SubscribeArgs {
    /// Subscribe to the node of this folder, with the token of `hookyard serve --dev`
    #[arg(long)]
    dev: bool,
    /// URL of the node to subscribe to
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    subscribe: Option<String>,
    /// Admin token of the node [default: admin.token of the configuration]
    #[arg(long, value_name = "TOKEN", value_parser = parse_secret)]
    token: Option<Secret>,
    /// Configuration file of the node to subscribe to, for its address and token
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Events to subscribe to, separated by commas
    #[arg(
        long,
        value_name = "EVENTS",
        value_delimiter = ',',
        default_value = "*"
    )]
    events: Vec<String>,
    /// Signature styles, separated by commas: crm, standard, hub, v1a [default: crm and standard]
    #[arg(long, value_name = "STYLES", value_delimiter = ',')]
    signing: Vec<String>,
    /// URL at which the node reaches the listener [default: the listen address]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    public_url: Option<String>,
    /// Keep the subscription at the end. The next listener at this address takes it over and
    /// receives the events of the meantime
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  hookyard listen --dev
  hookyard listen --dev --fail 0.2 --delay 100ms --events 'ticket:*'
  HOOKYARD_LISTEN_SECRET=whsec_… hookyard listen --bind 127.0.0.1:9000 --json";

impl ListenCommand {
    pub(super) fn run(mut self, out: &mut impl Write) -> Result<(), CliError> {
        let from_environment = std::env::var(SECRETS_VARIABLE).unwrap_or_default();
        self.secrets.extend(
            from_environment
                .split(',')
                .filter(|text| !text.is_empty())
                .map(Secret::new),
        );
        let seed = self
            .seed
            .map_or_else(|| random_bytes().map(|bytes| u64::from(bytes[0])), Ok)?;
        actix_rt::System::new().block_on(self.run_listener(seed, out))
    }

    async fn run_listener(self, seed: u64, out: &mut impl Write) -> Result<(), CliError> {
        // Handlers first: from the subscription on, an interrupted listener has something to clean
        // up.
        let mut stop_signals = StopSignals::new().map_err(ListenError::Setup)?;
        let bind_error = |source| ListenError::Bind {
            address: self.bind,
            source,
        };

        let (socket, address) = reserve_address(self.bind).map_err(bind_error)?;
        let url = self
            .subscription
            .public_url
            .clone()
            .unwrap_or_else(|| base_url(&address.to_string()));
        let request = self.registration_request(&url);
        let node = self.subscription.resolve_node()?;
        let client = node.map(AdminClient::try_new).transpose();
        let node = client
            .map_err(ListenError::Subscribe)?
            .map(ListenerNode::new);

        // Take over before listening, so no delivery signed with an earlier secret arrives.
        let taken_over = match &node {
            Some(node) => tokio::select! {
                () = stop_signals.wait() => return Ok(()),
                found = node.take_over(&request, || print_waiting(node)) => {
                    found.map_err(ListenError::Subscribe)?
                }
            },
            None => None,
        };

        let listener = socket
            .listen(BACKLOG)
            .and_then(tokio::net::TcpListener::into_std)
            .map_err(bind_error)?;
        // Listen before subscribing: deliveries wait in the backlog until the keys are known.
        let registration = match node {
            Some(node) => Some(
                register(node, taken_over, &request)
                    .await
                    .map_err(ListenError::Subscribe)?,
            ),
            None => None,
        };

        let keys = self.build_keys(registration.as_ref().map(|(_, registration)| registration))?;
        let behaviour = AnswerBehaviour {
            fail: self.fail,
            seed,
            status: self.status,
            delay: self.delay,
        };

        let (lines, mut line_receiver) = mpsc::channel(server::LINES_MAX);
        let context = Arc::new(ListenerContext::new(keys, behaviour, lines));
        let server =
            server::serve_receiver(Arc::clone(&context), listener).map_err(ListenError::Setup)?;
        let handle = server.handle();
        actix_rt::spawn(server);

        let mut output = self.print_greeting(&context, address, registration.as_ref(), out);
        while output.is_ok() {
            let line: ReportLine = tokio::select! {
                () = stop_signals.wait() => break,
                Some(line) = line_receiver.recv() => line,
            };
            output = self.print_line(&line, out);
        }

        // Unsubscribe before stopping, so the node attempts no delivery to a closed port.
        if let Some((node, registration)) = registration.filter(|_| !self.subscription.keep) {
            let removal = remove_registration(&node, registration.id);
            if timeout(REMOVAL_PATIENCE, removal).await.is_err() {
                print_kept(&node, registration.id, "no answer");
            }
        }
        handle.stop(true).await;
        while let Ok(line) = line_receiver.try_recv() {
            output = output.and_then(|()| self.print_line(&line, out));
        }
        output?;
        self.print_summary(&context, out)
    }
}

impl ListenCommand {
    /// Describes the subscription to create or update.
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

    /// Collects the given keys and those of the subscription.
    fn build_keys(
        &self,
        registration: Option<&ListenerRegistration>,
    ) -> Result<ListenerKeys, ListenError> {
        let mut keys = ListenerKeys::default();
        let returned_secret = registration
            .map(|registration| &registration.secret)
            .filter(|secret| !secret.is_empty());
        // The node returns a given secret; adding the secret twice would verify twice.
        let returned_secret = returned_secret.filter(|returned_secret| {
            self.secrets
                .iter()
                .all(|given| !given.matches(returned_secret.expose().as_bytes()))
        });
        for secret in self.secrets.iter().chain(returned_secret) {
            keys.add_secret(secret.expose())?;
        }
        let public_key = registration.and_then(|registration| registration.public_key.as_ref());
        for key in self.public_keys.iter().chain(public_key) {
            keys.add_public(key)?;
        }
        Ok(keys)
    }

    fn print_greeting(
        &self,
        context: &ListenerContext,
        address: SocketAddr,
        registration: Option<&(ListenerNode, ListenerRegistration)>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let (url, AnswerBehaviour { seed, .. }) =
            (base_url(&address.to_string()), context.behaviour());
        let is_taken_over =
            registration.is_some_and(|(_, registration)| registration.is_taken_over);
        if self.json {
            let subscription = registration.map(|(_, registration)| registration.id);
            writeln!(
                out,
                "{}",
                json!({
                    "listening": url,
                    "subscription": subscription,
                    "taken_over": is_taken_over,
                    "seed": seed,
                })
            )?;
            return out.flush();
        }
        match registration {
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
                "taken over from an earlier listener: undelivered events follow now"
            )?;
        }
        if context.keys.is_empty() {
            writeln!(out, "signatures are not checked: no --secret given")?;
        }
        if self.fail > 0.0 {
            writeln!(
                out,
                "a share of {} is answered with 500 (--seed {seed})",
                self.fail
            )?;
        }
        writeln!(out, "Ctrl-C stops the listener\n")?;
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

    /// Prints the summary.
    ///
    /// # Errors
    /// Fails if a delivery was out of order or had a wrong signature.
    fn print_summary(
        &self,
        context: &ListenerContext,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let (totals, entities) = context.totals();
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
    /// Returns the node to subscribe at; `None` without a subscription.
    fn resolve_node(&self) -> Result<Option<SelectedNode>, CliError> {
        if !self.dev && self.subscribe.is_none() && self.config.is_none() {
            return Ok(None);
        }
        let load_config = || load_folder_config(self.config.as_deref());
        select_node(self.subscribe.as_deref(), self.token.as_ref(), load_config).map(Some)
    }
}

/// Binds `address` and returns the actual one, with its port. Connections are refused until the
/// socket listens.
fn reserve_address(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of an earlier listener would otherwise block the address for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Resumes the subscription that was taken over, or creates one.
async fn register(
    node: ListenerNode,
    taken_over: Option<ListenerRegistration>,
    request: &RegistrationRequest<'_>,
) -> Result<(ListenerNode, ListenerRegistration), AdminCallError> {
    let registration = match taken_over {
        Some(registration) => node.resume(registration.id).await.map(|()| registration)?,
        None => node.subscribe(request).await?,
    };
    Ok((node, registration))
}

/// Removes the listener's subscription. A failure is only reported: the next listener takes the
/// subscription over.
async fn remove_registration(node: &ListenerNode, id: u64) {
    // A node that cannot answer this call can hardly remove the subscription either.
    let is_owed = node.has_backlog(id).await.unwrap_or(false);
    match node.unsubscribe(id).await {
        Ok(()) if is_owed => {
            print_notice(&format!(
                "subscription {id} removed with its undelivered events; --keep leaves them for \
                 the next listener"
            ));
        }
        Ok(()) => {}
        Err(error) => {
            let reason = error_chain::format_error_chain(&error);
            print_kept(node, id, &reason);
        }
    }
}

fn print_kept(node: &ListenerNode, id: u64, reason: &str) {
    print_notice(&format!(
        "subscription {id} of {} could not be removed: {reason}; the next listener at this address \
         takes the subscription over",
        node.base()
    ));
}

fn print_waiting(node: &ListenerNode) {
    print_notice(&format!("waiting for a node at {}", node.base()));
}

fn parse_secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        Err("expected a secret, not an empty one".to_owned())
    } else {
        Ok(Secret::new(text))
    }
}

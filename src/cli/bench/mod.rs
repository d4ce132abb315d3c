//! `hookyard bench`: the ordering benchmark.
//!
//! ```text
//!  traffic ──dispatch──> sender ──signed events──> target (own node, running node, other system)
//!  (seeded)   (one event of an    │                   │ kills, usage
//!              entity at a time)  │                   ▼
//!                               ledger <──────── receiver (fails, hangs, restarts if asked to)
//!                                 │                   store_check reads the node's store
//!                                 └──order_audit──> verdict ──> report (table, JSON, HTML)
//! ```

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config_args::ConfigArgs;
use super::dev_mode;
use super::error::CliError;
use super::node_args::parse_token;
use super::node_url::parse_url;
use super::random_secret::random_bytes;
use super::selected_node::SelectedNode;
use super::stop_signals::StopSignals;
use super::temporary_folder::TemporaryFolder;
use crate::config::{Config, ConfigDraft, ConfigPurpose, Secret};
use adapter::AdapterFile;
use bare_server::{bare_program, serve_bare};
use child_server::ChildServer;
use ledger::BenchLedger;
use machine::{MachineDescription, is_in_memory};
use own_node::OwnNodeSecrets;
use receiver::{BenchReceivers, SubscriberFault};
use report::BenchReport;
use report_figures::{BaselineRun, BenchOutcome, build_report};
use run::{BenchRun, RunMeasurements};
use settings::LoadSettings;
use subject::BenchSubject;
use target::{EventTarget, SupportSigner};

mod adapter;
mod bare_server;
mod child_server;
mod disk_writes;
mod dispatch;
mod error;
mod latency;
mod ledger;
mod machine;
mod order_audit;
mod own_node;
mod pause;
mod process_usage;
mod receiver;
mod report;
mod report_figures;
mod run;
mod sender;
mod settings;
mod store_check;
mod subject;
mod target;
mod template;
mod traffic;

pub(super) use error::BenchError;

/// Measure how a system keeps the order of each entity's events under load
///
/// Sends signed events over many connections, receives their deliveries, and reads the store. Reports
/// rates, latencies, processor time and memory, and counts what must never happen:
///
/// swap: an event came after a later one of its entity.
///
/// gap: an event never came although a later one of its entity did.
///
/// double: an event came again under another webhook-id, or is in the store twice. A redelivery under
/// the same webhook-id is counted apart; delivery is at least once.
///
/// loss: an acknowledged event is not in the store, or never came.
///
/// The target is a node of its own in a temporary folder, a running node (--target), or another
/// system (--adapter). A sender gets its answer before it sends the entity's next event, and repeats
/// an unanswered event with the same idempotency key. The same seed gives the same traffic. Ctrl-C
/// ends a run early, with a report.
///
/// The exit code is 1 if anything was swapped, missing, doubled, lost or wrongly signed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchCommand {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Becomes the bare handler of --baseline, on this port
    #[arg(long, value_name = "PORT", hide = true)]
    serve_bare: Option<u16>,
}

/// Options of the traffic and the subscribers.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Load")]
struct LoadArgs {
    /// Number of entities that get events
    #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    entities: u32,
    /// Number of events to send
    #[arg(long, value_name = "NUMBER", default_value = "100000", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: u64,
    /// Connections, each with one event under way
    #[arg(long, value_name = "NUMBER", default_value = "32", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Exponent of Zipf's law: 0 gives each entity equally many events, 1 makes a few very busy
    #[arg(long, value_name = "NUMBER", default_value = "0.5", value_parser = parse_skew)]
    skew: f64,
    /// Length of the text in each event
    #[arg(long, value_name = "NUMBER", default_value = "300", value_parser = clap::value_parser!(u32).range(0..=500_000))]
    payload_bytes: u32,
    /// Events a second; latencies then count from the time at which an event is due [default: as
    /// fast as answers come]
    #[arg(long, value_name = "NUMBER", value_parser = parse_positive)]
    rate: Option<f64>,
    /// Subscribers that get every event
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u16).range(0..=1000))]
    subscribers: u16,
    /// Further subscribers with a fault, separated by commas
    #[arg(long, value_name = "FAULTS", value_enum, value_delimiter = ',')]
    faults: Vec<SubscriberFault>,
    /// Kill the own node with SIGKILL after every so many seconds, and start it again
    #[arg(long, value_name = "SECONDS", value_parser = parse_positive, conflicts_with_all = ["target", "adapter"])]
    kill_every: Option<f64>,
    /// Seed of the traffic; the same seed gives the same traffic
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    seed: u64,
    /// Seconds without any answer, or at the end without any delivery, after which what is missing
    /// counts as lost
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_positive)]
    wait: f64,
}

/// Options of the system under test.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Target")]
struct TargetArgs {
    /// Running node, with its source support enabled [default: a node of its own]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    target: Option<String>,
    /// Admin token of the running node [default: admin.token of the configuration]
    #[arg(long, value_name = "TOKEN", requires = "target", value_parser = parse_token)]
    token: Option<Secret>,
    /// Description of another system (TOML); `hookyard guide benchmark` shows some
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    adapter: Option<PathBuf>,
    /// Send to a node on another machine, which keeps the events
    #[arg(long)]
    yes: bool,
    /// Address on which the receivers listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// URL at which the target reaches the receivers [default: their address]
    #[arg(long, value_name = "URL", value_parser = parse_url, conflicts_with = "faults")]
    public_url: Option<String>,
    /// Folder in which the own node's temporary folder is made [default: that of the system]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Options of the report and its files.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Report")]
struct OutputArgs {
    /// Send the same load to a bare HTTP handler too, and show the ratios
    #[arg(long)]
    baseline: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  hookyard bench
  hookyard bench --baseline --html report.html
  hookyard bench --events 20000 --kill-every 2 --faults fail,hang,restart
  hookyard bench --rate 300 --events 3000
  hookyard bench --target http://127.0.0.1:8080 --dev
  hookyard bench --adapter other.toml --bind 127.0.0.1:9000";

const PAUSES_REMARK: &str = "because of the faults, the own node gives an attempt 2 s and tries again \
                             after 0.2 s, 0.5 s, 1 s …; all else is as by default";

fn parse_skew(text: &str) -> Result<f64, String> {
    let skew = text.parse().ok().filter(|skew| (0.0..=10.0).contains(skew));
    skew.ok_or_else(|| "expected a number from 0 to 10, such as 0.5".to_owned())
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (0.001..=10_000_000.0).contains(number));
    number.ok_or_else(|| "expected a number above 0, such as 1.5".to_owned())
}

impl BenchCommand {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), CliError> {
        if let Some(port) = self.serve_bare {
            return Ok(serve_bare(port)?);
        }
        let report = actix_rt::System::new().block_on(self.measure(out))?;
        report::table::print_report(&report, out)?;
        if let Some(path) = &self.output.json {
            report::json::write_report(&report, path)?;
        }
        if let Some(path) = &self.output.html {
            report::html::write_report(&report, path)?;
        }
        match report.verdict.is_clean {
            true => Ok(()),
            false => Err(BenchError::Faults(report.verdict.describe_faults()).into()),
        }
    }

    /// Measures the target, and the bare handler if asked to.
    async fn measure(&self, out: &mut impl Write) -> Result<BenchReport, CliError> {
        let mut signals = StopSignals::new().map_err(BenchError::Signals)?;
        let machine = MachineDescription::read();
        let load = self.load_settings();
        let parent = match &self.target.folder {
            Some(folder) => folder.clone(),
            None => std::env::temp_dir(),
        };
        let folder = TemporaryFolder::create(&parent, "hookyard-bench", BenchError::Folder)?;
        let secrets = OwnNodeSecrets::generate()?;

        let mut subject = self.select_subject(folder.path(), &secrets).await?;
        let description = subject.description.clone();
        let mut remarks = Vec::new();
        if subject.server.is_some() && is_in_memory(folder.path()) {
            remarks.push(
                "the store is in memory, where a sync costs nothing; --folder names a disk"
                    .to_owned(),
            );
        }
        if subject.server.is_some() && !load.faults.is_empty() {
            remarks.push(PAUSES_REMARK.to_owned());
        }
        let measured = self
            .measure_subject(&load, &mut subject, &mut signals, out)
            .await;
        // A running node goes on without the subscriptions, also after a failure.
        let unsubscribed = subject.unsubscribe().await;
        let (ledger, measurements) = measured?;
        unsubscribed?;
        // The own node ends here, before the bare handler starts.
        drop(subject);

        let baseline = match self.output.baseline && !measurements.is_interrupted {
            true => Some(
                self.measure_baseline(&load, folder.path(), &secrets, &mut signals)
                    .await?,
            ),
            false => None,
        };
        Ok(build_report(BenchOutcome {
            command: self.command_to_repeat(&load),
            target: description,
            machine,
            load,
            remarks,
            ledger,
            measurements,
            baseline,
        }))
    }

    fn load_settings(&self) -> LoadSettings {
        let load = &self.load;
        LoadSettings {
            entities: load.entities,
            events: load.events,
            connections: load.connections.into(),
            skew: load.skew,
            payload_bytes: load.payload_bytes as usize,
            seed: load.seed,
            rate: load.rate,
            subscribers: load.subscribers.into(),
            faults: load.faults.clone(),
            kill_every_s: load.kill_every,
            patience: Duration::from_secs_f64(load.wait),
        }
    }

    async fn select_subject(
        &self,
        folder: &Path,
        secrets: &OwnNodeSecrets,
    ) -> Result<BenchSubject, CliError> {
        let args = &self.target;
        if let Some(path) = &args.adapter {
            let adapter = AdapterFile::read(path)?;
            return Ok(BenchSubject::other_system(adapter, &unique_label()?)?);
        }
        let Some(url) = &args.target else {
            let has_faults = !self.load.faults.is_empty();
            return BenchSubject::start_node(folder, secrets, has_faults).await;
        };
        if !args.yes && !is_this_machine(url) {
            let (events, target) = (self.load.events, url.clone());
            return Err(BenchError::Unconfirmed { events, target }.into());
        }
        let config = args.load_config()?;
        let support = &config.sources.support;
        let (Some(api_key), Some(secret)) = (support.api_keys.first(), support.secrets.first())
        else {
            return Err(BenchError::NoSecrets.into());
        };
        let signer = SupportSigner {
            api_key: api_key.clone(),
            secret: secret.clone(),
        };
        let token = match &args.token {
            Some(token) => token.clone(),
            None => config.admin.token.clone(),
        };
        if token.is_empty() {
            return Err(CliError::NoToken);
        }
        let base = url.trim_end_matches('/').to_owned();
        let selected = SelectedNode {
            base,
            token,
            is_own: false,
        };
        BenchSubject::running_node(selected, signer, &unique_label()?)
    }

    async fn measure_subject(
        &self,
        load: &LoadSettings,
        subject: &mut BenchSubject,
        signals: &mut StopSignals,
        out: &mut impl Write,
    ) -> Result<(Arc<BenchLedger>, RunMeasurements), CliError> {
        let faults = load.subscriber_faults();
        let faulty: Vec<_> = faults.iter().map(Option::is_some).collect();
        let ledger = Arc::new(BenchLedger::new(load.entities, &faulty));
        let receivers = BenchReceivers::start(
            self.target.bind,
            self.target.public_url.as_deref(),
            &faults,
            subject.reading.clone(),
            load.seed,
            Arc::clone(&ledger),
        )?;
        for url in subject.urls_to_register(receivers.urls()) {
            writeln!(out, "the target has to deliver to {url}")?;
        }
        out.flush()?;
        subject.subscribe(receivers.urls()).await?;
        let run = BenchRun::new(load, Arc::clone(&ledger), signals);
        let measurements = run.measure(subject).await?;
        receivers.stop().await;
        Ok((ledger, measurements))
    }

    /// Sends the same traffic to the bare handler.
    async fn measure_baseline(
        &self,
        load: &LoadSettings,
        folder: &Path,
        secrets: &OwnNodeSecrets,
        signals: &mut StopSignals,
    ) -> Result<BaselineRun, CliError> {
        let load = LoadSettings {
            kill_every_s: None,
            ..load.clone()
        };
        let server = ChildServer::start(bare_program(folder, secrets)?).await?;
        let target = EventTarget::for_node(&server.base(), secrets.signer.clone(), "bench")?;
        let ledger = Arc::new(BenchLedger::new(load.entities, &[]));
        let run = BenchRun::new(&load, Arc::clone(&ledger), signals);
        let measurements = run.measure_bare(target, server).await?;
        Ok(BaselineRun {
            ledger,
            measurements,
        })
    }

    /// Returns the command that repeats the run; secrets are left out.
    fn command_to_repeat(&self, load: &LoadSettings) -> String {
        let args = &self.target;
        let mut command = format!("hookyard bench {}", load.to_options());
        let mut add = |option: Option<String>| command.extend(option);
        add(args.target.as_ref().map(|url| format!(" --target {url}")));
        let adapter = args.adapter.as_ref();
        add(adapter.map(|path| format!(" --adapter {}", path.display())));
        let has_address = args.bind.port() != 0;
        add(has_address.then(|| format!(" --bind {}", args.bind)));
        add(args
            .public_url
            .as_ref()
            .map(|url| format!(" --public-url {url}")));
        let folder = args.folder.as_ref();
        add(folder.map(|folder| format!(" --folder {}", folder.display())));
        add(self.output.baseline.then(|| " --baseline".to_owned()));
        command
    }
}

impl TargetArgs {
    /// Loads the configuration of the running node, with the secrets of `hookyard serve --dev` if
    /// there are any.
    fn load_config(&self) -> Result<Config, CliError> {
        if self.config.dev {
            return Ok(self.config.load(ConfigPurpose::Tool)?.config);
        }
        let mut draft = ConfigDraft::from_toml(self.config.config.as_deref(), std::env::vars_os());
        if let Some(secrets) = dev_mode::read_secrets(&draft.store_path())? {
            draft.fill_missing_secrets(&secrets);
        }
        Ok(draft.finish(ConfigPurpose::Tool)?)
    }
}

/// Makes the begin of the ids of a run's entities, so that no two runs share an entity or a key.
fn unique_label() -> Result<String, CliError> {
    Ok(format!("bench-{}", hex::encode(&random_bytes()?[..4])))
}

fn is_this_machine(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

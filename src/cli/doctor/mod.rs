//! `hookyard doctor`: looks at a store and at what is around it, and says what to do.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Builder;

use super::check;
use super::config_args::ConfigArgs;
use super::error::CliError;
use super::node_url::{admin_base, client_builder};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigPurpose};
use crate::error_chain::format_error_chain;
use crate::journal::ContentCipher;
use finding::{DoctorFinding, FindingState};
use store_checks::StoreUse;

mod error;
mod finding;
mod store_checks;
mod surroundings;

pub(super) use error::DoctorVerdict;

/// Longest wait for the running node to list its subscriptions.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// Look at a store and its surroundings, and say what to do
///
/// Looks at the configuration, the store with its journal and derived data, the clock, free space,
/// permissions, and the targets of a running node. Changes nothing without --repair or
/// --repair-times. The exit code is 1 if there is a problem; warnings leave it 0.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  hookyard doctor --config hookyard.toml\n  \
    hookyard doctor --config hookyard.toml --repair")]
pub(super) struct DoctorCommand {
    /// Data folder to look at [default: store.path]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Drop an incomplete commit at the end of the journal, and derive lost or damaged read tables
    /// again; the node must be stopped
    #[arg(long)]
    repair: bool,
    /// Give events with a time in the future the present one: this machine's clock must be right, and
    /// the node stopped
    #[arg(long)]
    repair_times: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl DoctorCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let mut findings = vec![self.check_config()];
        let mut config = self.config.load(ConfigPurpose::Tool)?.config;
        if let Some(folder) = &self.data {
            config.store.path.clone_from(folder);
        }

        findings.extend(self.check_store(&config));
        let folder = &config.store.path;
        findings.push(surroundings::check_free_space(
            folder,
            config.store.segment_bytes,
        ));
        findings.extend(surroundings::check_certificate(
            &config,
            SystemClock::default().wall(),
        ));
        let file = self.config.config.as_deref();
        findings.extend(surroundings::check_permissions(folder, file));

        match self.json {
            true => finding::print_findings_as_json(&findings, out)?,
            false => finding::print_findings(&findings, out)?,
        }
        match finding::count_in_state(&findings, FindingState::Problem) {
            0 => Ok(()),
            problems => Err(DoctorVerdict { problems }.into()),
        }
    }

    fn check_config(&self) -> DoctorFinding {
        const CHECK: &str = "configuration";
        match self.config.load(ConfigPurpose::Node) {
            Ok(loaded) => match check::describe_warning(&loaded.config) {
                "" => DoctorFinding::ok(CHECK, "valid"),
                warning => DoctorFinding::warning(
                    CHECK,
                    "valid, but no source is enabled",
                    warning.trim_start_matches("warning: ").trim_end(),
                ),
            },
            Err(error) => DoctorFinding::problem(
                CHECK,
                format_error_chain(&error),
                "Correct it: `hookyard check` reports the same problems",
            ),
        }
    }

    fn check_store(&self, config: &Config) -> Vec<DoctorFinding> {
        let folder = &config.store.path;
        let (usage, finding) = store_checks::check_lock(folder);
        let mut findings = vec![finding];
        if usage == StoreUse::Stopped {
            findings.extend(self.repair_times.then(|| repair_times(config)));
            findings.extend(self.repair.then(|| repair_store(config)));
        } else if (self.repair || self.repair_times) && usage == StoreUse::Running {
            findings.push(DoctorFinding::warning(
                "repair",
                "not done: a node uses the store, which repairs it at each start",
                "Stop the node first, if anything is to be repaired",
            ));
        }
        if matches!(usage, StoreUse::Stopped | StoreUse::Running) {
            let now = SystemClock::default().wall();
            findings.extend(store_checks::check_journal(
                folder,
                &ContentCipher::from_config(&config.store),
                usage,
                now,
            ));
        }
        if usage == StoreUse::Stopped {
            findings.push(store_checks::check_derived_data(folder));
        }
        if usage == StoreUse::Running {
            findings.extend(check_node_targets(config));
        }
        findings
    }
}

/// Opens the store once, which drops a torn end and derives what is lost.
fn repair_store(config: &Config) -> DoctorFinding {
    const CHECK: &str = "repair";
    match app::repair_store(config) {
        Ok(()) => DoctorFinding::ok(CHECK, "done: the store was opened and closed in order"),
        Err(error) => DoctorFinding::problem(
            CHECK,
            format_error_chain(&error),
            "Follow the advice of the error; acknowledged events were not changed",
        ),
    }
}

/// Gives events of the future the present time.
fn repair_times(config: &Config) -> DoctorFinding {
    const CHECK: &str = "repair of times";
    match app::repair_times(config) {
        Ok(0) => DoctorFinding::ok(CHECK, "no event has a time in the future"),
        Ok(rewritten) => DoctorFinding::ok(
            CHECK,
            format!("done: {rewritten} segments of the journal were written anew"),
        ),
        Err(error) => DoctorFinding::problem(
            CHECK,
            format_error_chain(&error),
            "Follow the advice of the error, and repeat the repair",
        ),
    }
}

/// Checks the targets of the subscriptions that the running node lists.
fn check_node_targets(config: &Config) -> Vec<DoctorFinding> {
    match list_target_urls(config) {
        Ok(urls) => surroundings::check_targets(&urls, config),
        Err(reason) => vec![DoctorFinding::warning(
            "targets",
            format!("not looked at: {reason}"),
            "Name the node's configuration with --config or --dev, with its admin.token",
        )],
    }
}

/// Asks the running node for the URLs of its active subscriptions.
fn list_target_urls(config: &Config) -> Result<Vec<String>, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let client = client_builder(true).timeout(NODE_TIMEOUT).build();
    let client = client.map_err(|error| error.to_string())?;
    let base = admin_base(config);
    let fetch = async |page: u64| -> Result<Value, String> {
        let url = format!("{base}/api/v1/webhooks?page={page}&page_size=100");
        let request = client.get(url).bearer_auth(config.admin.token.expose());
        let answer = request.send().await;
        let answer = answer.map_err(|_| format!("no node answers at {base}"))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("the node at {base} answered {status}"));
        }
        let body = answer.bytes().await;
        body.ok()
            .and_then(|body| serde_json::from_slice(&body).ok())
            .ok_or_else(|| format!("{base} is no node"))
    };
    runtime.block_on(async {
        let mut urls = Vec::new();
        for number in 1.. {
            let page = fetch(number).await?;
            let items = page["items"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let active = items.iter().filter(|item| item["state"] == "active");
            urls.extend(active.filter_map(|item| Some(item["url"].as_str()?.to_owned())));
            if number >= page["pages"].as_u64().unwrap_or(0) {
                break;
            }
        }
        Ok(urls)
    })
}

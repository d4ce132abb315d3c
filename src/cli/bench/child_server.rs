//! Server process of the benchmark: a node of its own, or the bare handler. It can be killed and
//! started again, and its usage counts over all its lives.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;

use super::disk_writes;
use super::error::BenchError;
use super::pause::pause;
use super::process_usage::ProcessUsage;
use crate::cli::terminal_text::sanitize_text;
use crate::clock::{Clock, SystemClock};

/// Longest wait for a server that starts.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a server that starts.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Lines of the log that an error shows.
const LOG_LINES: usize = 8;

/// Prefix of the variables that set a node's configuration.
const CONFIG_PREFIX: &str = "HOOKYARD_";

/// Program that a server process runs, always on the same port.
#[derive(Clone, Debug)]
pub(super) struct ServerProgram {
    /// Arguments that this binary is started with.
    pub(super) arguments: Vec<String>,
    /// Environment beside that of this process, which gives no configuration.
    pub(super) environment: Vec<(String, String)>,
    pub(super) port: u16,
    /// Path that answers with a success when the server is ready.
    pub(super) ready_path: &'static str,
    pub(super) log_file: PathBuf,
}

/// Running server process, killed when dropped.
pub(super) struct ChildServer {
    program: ServerProgram,
    child: Child,
    client: Client,
    clock: SystemClock,
    /// Usage of the processes that were killed.
    before: ProcessUsage,
    resident_max: u64,
}

impl ChildServer {
    /// Starts `program` and waits until it is ready.
    pub(super) async fn start(program: ServerProgram) -> Result<Self, BenchError> {
        let client = Client::builder().no_proxy().timeout(START_PATIENCE).build();
        let mut server = Self {
            child: spawn(&program)?,
            program,
            client: client.map_err(BenchError::Register)?,
            clock: SystemClock::default(),
            before: ProcessUsage::default(),
            resident_max: 0,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Returns the URL of the server.
    pub(super) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.program.port)
    }

    /// Kills the process with SIGKILL, starts it again, and waits until it is ready.
    pub(super) async fn kill_and_restart(&mut self) -> Result<(), BenchError> {
        self.before = self.usage();
        self.kill();
        self.child = spawn(&self.program)?;
        self.wait_until_ready().await
    }

    /// Reads the usage over all lives of the process, and the memory of this one.
    pub(super) fn usage(&mut self) -> ProcessUsage {
        let usage = ProcessUsage::read(self.child.id()).unwrap_or_default();
        self.resident_max = self.resident_max.max(usage.resident_bytes);
        ProcessUsage {
            cpu: self.before.cpu + usage.cpu,
            resident_bytes: usage.resident_bytes,
        }
    }

    /// Bytes written so far to the disk that holds the server's files, by all processes.
    pub(super) fn disk_bytes(&self) -> Option<u64> {
        disk_writes::count_written_bytes(self.program.log_file.parent()?)
    }

    /// Most memory at any reading so far.
    pub(super) fn resident_max(&self) -> u64 {
        self.resident_max
    }

    async fn wait_until_ready(&mut self) -> Result<(), BenchError> {
        let began = self.clock.monotonic();
        let url = format!("{}{}", self.base(), self.program.ready_path);
        loop {
            let answer = self.client.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let log = || read_log_end(&self.program.log_file);
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return Err(BenchError::Ended { log: log() });
            }
            if self.clock.monotonic().saturating_sub(began) > START_PATIENCE {
                let after_s = START_PATIENCE.as_secs();
                return Err(BenchError::NotReady {
                    after_s,
                    log: log(),
                });
            }
            pause(LOOK_PAUSE).await;
        }
    }

    fn kill(&mut self) {
        // Ignored: the process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &ServerProgram) -> Result<Child, BenchError> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&program.log_file)
        .map_err(BenchError::Folder)?;
    let binary = std::env::current_exe().map_err(BenchError::Spawn)?;
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(CONFIG_PREFIX) {
            command.env_remove(name);
        }
    }
    command
        .args(&program.arguments)
        .envs(program.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C ends the benchmark, which then ends the server.
        .process_group(0)
        .spawn()
        .map_err(BenchError::Spawn)
}

/// Finds a port of loopback that is free now.
pub(super) fn find_free_port() -> Result<u16, BenchError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    let address = bound.map_err(|source| BenchError::Listen {
        address: Ipv4Addr::LOCALHOST.to_string(),
        source,
    })?;
    Ok(address.port())
}

fn read_log_end(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(sanitize_text).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

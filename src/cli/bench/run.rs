//! One run: sends the traffic, kills the node if asked to, waits for the deliveries, and measures.

use std::sync::Arc;
use std::time::Duration;

use super::child_server::ChildServer;
use super::ledger::BenchLedger;
use super::order_audit::OrderVerdict;
use super::pause::pause;
use super::process_usage::ProcessUsage;
use super::sender::{SenderPool, SenderSettings};
use super::settings::LoadSettings;
use super::subject::BenchSubject;
use super::target::EventTarget;
use crate::cli::error::CliError;
use crate::cli::progress_line::ProgressLine;
use crate::cli::stop_signals::StopSignals;

/// Pause between two looks at progress and memory.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Time after the last expected delivery in which an unexpected one may still come.
const QUIET_TIME: Duration = Duration::from_millis(300);

/// Measurements of a run beside those in the ledger.
#[derive(Debug, Default)]
pub(super) struct RunMeasurements {
    pub(super) is_interrupted: bool,
    /// Time from the first request until all is settled.
    pub(super) seconds: f64,
    /// Processor time of the server, the bytes written to its disk, and its memory at the end and at
    /// most.
    pub(super) server_cpu: Option<Duration>,
    pub(super) written_bytes: Option<u64>,
    pub(super) resident_bytes: u64,
    pub(super) resident_max_bytes: u64,
    pub(super) generator_cpu: Option<Duration>,
    pub(super) restarts: Vec<NodeRestart>,
    pub(super) store: Option<OrderVerdict>,
}

/// Kill of the node, with the time at which it was ready again.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeRestart {
    pub(super) killed_at: Duration,
    pub(super) ready_at: Duration,
}

impl NodeRestart {
    /// Time from the kill to the readiness.
    pub(super) fn duration(&self) -> Duration {
        self.ready_at.saturating_sub(self.killed_at)
    }
}

/// Run that is under way.
pub(super) struct BenchRun<'a> {
    pub(super) load: &'a LoadSettings,
    pub(super) ledger: Arc<BenchLedger>,
    pub(super) signals: &'a mut StopSignals,
    pub(super) progress: ProgressLine,
    measurements: RunMeasurements,
}

impl<'a> BenchRun<'a> {
    pub(super) fn new(
        load: &'a LoadSettings,
        ledger: Arc<BenchLedger>,
        signals: &'a mut StopSignals,
    ) -> Self {
        Self {
            load,
            ledger,
            signals,
            progress: ProgressLine::without_end(),
            measurements: RunMeasurements::default(),
        }
    }

    /// Sends all events to `subject`, waits for their deliveries, and reads the store.
    pub(super) async fn measure(
        mut self,
        subject: &mut BenchSubject,
    ) -> Result<RunMeasurements, CliError> {
        let target = subject.target.clone();
        self.measure_server(target, &mut subject.server).await?;
        self.measurements.store = self.check_store(subject).await?;
        Ok(self.measurements)
    }

    /// Sends all events to a server without subscribers.
    pub(super) async fn measure_bare(
        mut self,
        target: EventTarget,
        server: ChildServer,
    ) -> Result<RunMeasurements, CliError> {
        self.measure_server(target, &mut Some(server)).await?;
        Ok(self.measurements)
    }

    async fn measure_server(
        &mut self,
        target: EventTarget,
        server: &mut Option<ChildServer>,
    ) -> Result<(), CliError> {
        let server_before = server
            .as_mut()
            .map(|server| (server.usage(), server.disk_bytes()));
        let generator_before = ProcessUsage::read(std::process::id());
        self.ledger.begin();
        self.send_all(target, server).await?;
        self.settle(server).await;

        let taken =
            |after: ProcessUsage, before: ProcessUsage| after.cpu.saturating_sub(before.cpu);
        let generator_after = ProcessUsage::read(std::process::id());
        self.measurements.seconds = self.ledger.now().as_secs_f64();
        self.measurements.generator_cpu = generator_after
            .zip(generator_before)
            .map(|(after, before)| taken(after, before));
        if let (Some(server), Some((before, disk_before))) = (server, server_before) {
            let after = server.usage();
            // Without `/proc` nothing is known.
            self.measurements.server_cpu = (after.resident_bytes > 0).then(|| taken(after, before));
            self.measurements.written_bytes = server
                .disk_bytes()
                .zip(disk_before)
                .map(|(after, before)| after.saturating_sub(before));
            self.measurements.resident_bytes = after.resident_bytes;
            self.measurements.resident_max_bytes = server.resident_max();
        }

        // After the measurement, because nothing should happen in this time.
        if self.load.has_subscribers() {
            pause(QUIET_TIME).await;
        }
        Ok(())
    }

    /// Sends until every event is answered, or until a person ends it.
    async fn send_all(
        &mut self,
        target: EventTarget,
        server: &mut Option<ChildServer>,
    ) -> Result<(), CliError> {
        let settings = SenderSettings {
            shape: self.load.traffic_shape(),
            connections: self.load.connections,
            rate: self.load.rate,
            patience: self.load.patience,
        };
        let senders = SenderPool::start(target, settings, Arc::clone(&self.ledger))?;
        let stop = senders.stop_handle();
        let sending = senders.wait();
        tokio::pin!(sending);
        let kill_every = self.load.kill_every_s.map(Duration::from_secs_f64);
        let mut next_kill = kill_every;
        loop {
            tokio::select! {
                outcome = &mut sending => return Ok(outcome?),
                () = pause(LOOK_PAUSE) => {}
                () = self.signals.wait() => {
                    stop();
                    self.measurements.is_interrupted = true;
                    next_kill = None;
                }
            }
            self.look(server);
            let is_due = next_kill.is_some_and(|at| self.ledger.now() >= at);
            if let (true, Some(server)) = (is_due, server.as_mut()) {
                let killed_at = self.ledger.now();
                server.kill_and_restart().await?;
                let ready_at = self.ledger.now();
                let restart = NodeRestart {
                    killed_at,
                    ready_at,
                };
                self.measurements.restarts.push(restart);
                next_kill = kill_every.map(|every| self.ledger.now() + every);
            }
        }
    }

    /// Waits until all is delivered, or nothing has come for the patience.
    async fn settle(&mut self, server: &mut Option<ChildServer>) {
        let (_, mut delivered) = self.ledger.progress();
        let mut moved_at = self.ledger.now();
        while !self.ledger.is_all_delivered() {
            tokio::select! {
                () = pause(LOOK_PAUSE) => {}
                () = self.signals.wait() => {
                    self.measurements.is_interrupted = true;
                    return;
                }
            }
            self.look(server);
            let (_, now_delivered) = self.ledger.progress();
            if now_delivered > delivered {
                (delivered, moved_at) = (now_delivered, self.ledger.now());
            }
            if self.ledger.now().saturating_sub(moved_at) > self.load.patience {
                return;
            }
        }
    }

    /// Shows the progress, and notes the memory of the server.
    fn look(&mut self, server: &mut Option<ChildServer>) {
        if let Some(server) = server {
            server.usage();
        }
        let (ledger, load) = (&self.ledger, self.load);
        self.progress.report_text(|| {
            let (acknowledged, delivered) = ledger.progress();
            let seconds = ledger.now().as_secs_f64();
            format!(
                "accepted {acknowledged} of {} ({} %), delivered {delivered}, {:.0}/s",
                load.events,
                acknowledged * 100 / load.events.max(1),
                acknowledged as f64 / seconds.max(0.001)
            )
        });
    }

    async fn check_store(
        &mut self,
        subject: &BenchSubject,
    ) -> Result<Option<OrderVerdict>, CliError> {
        let Some((reader, client)) = subject.store_reader() else {
            return Ok(None);
        };
        let entities = self.load.entities;
        let progress = &mut self.progress;
        let checked = reader.check(client, &subject.reading, &self.ledger, entities, |read| {
            progress.report_text(|| format!("read {read} events of the store"));
        });
        Ok(Some(checked.await?))
    }
}

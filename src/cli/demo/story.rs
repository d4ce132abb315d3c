//! Story of the demo: what is sent, what breaks, and how it is repaired. It tells only what it has
//! seen: each sentence follows from a counter of the receivers or of the node.

use std::cell::RefCell;
use std::io::Write;
use std::time::Duration;

use tokio::sync::watch;

use super::audience::{DemoAudience, DemoSubscriber};
use super::error::DemoError;
use super::narrator::DemoNarrator;
use super::summary::DemoSummary;
use super::traffic::{DemoTraffic, ROUND_EVENTS};
use super::visitor::VisitorChanges;
use crate::cli::admin_client::AdminClient;
use crate::cli::error::CliError;
use crate::cli::plural::format_count;
use crate::clock::{Clock, SystemClock};

/// Pause between two rounds of events: slow enough to follow in a browser.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Pause between two looks at something that is about to happen.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Looks between two questions for what a visitor changed: about a second.
const LOOKS_PER_VISIT: u32 = 20;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rounds of events between two mishaps.
const QUIET_ROUNDS: u32 = 20;

/// Story with all that take part.
pub(super) struct DemoStory<'a> {
    node: AdminClient,
    traffic: DemoTraffic,
    audience: &'a DemoAudience,
    stopping: watch::Receiver<u32>,
    clock: SystemClock,
    visitor: RefCell<VisitorChanges>,
    breakers_opened: u64,
    breakers_closed: u64,
    dead_letters: u64,
}

impl<'a> DemoStory<'a> {
    pub(super) fn new(
        node: AdminClient,
        traffic: DemoTraffic,
        audience: &'a DemoAudience,
        stopping: watch::Receiver<u32>,
    ) -> Self {
        Self {
            node,
            traffic,
            audience,
            stopping,
            clock: SystemClock::default(),
            visitor: RefCell::default(),
            breakers_opened: 0,
            breakers_closed: 0,
            dead_letters: 0,
        }
    }

    /// Tells the story again and again, until a signal or until `limit` has passed. Returns the
    /// figures once everything owed is delivered. `login_link` makes a new way into the dashboard.
    pub(super) async fn tell(
        mut self,
        limit: Option<Duration>,
        login_link: impl Fn() -> Option<String>,
        narrator: &mut DemoNarrator<'_, impl Write>,
    ) -> Result<DemoSummary, CliError> {
        self.tell_beginning(narrator).await?;
        loop {
            self.tell_outage(narrator).await?;
            self.tell_dead_letter(narrator).await?;
            self.audience.flaky().answer_with(200);
            self.tell_remarks(narrator)?;
            let is_over = limit.is_some_and(|limit| self.clock.monotonic() >= limit);
            if is_over || self.is_stopped() {
                break;
            }
            if let Some(link) = login_link() {
                narrator.tell(&format!(
                    "Watch it in a browser, this link logs in once: {link}"
                ))?;
            }
            self.tell_quiet_time(limit, narrator).await?;
        }
        narrator.tell("The demo ends: no more events, and what is still owed is delivered.")?;
        self.settle().await?;
        self.tell_remarks(narrator)?;
        Ok(self.sum_up())
    }

    async fn tell_beginning(
        &mut self,
        narrator: &mut DemoNarrator<'_, impl Write>,
    ) -> Result<(), CliError> {
        narrator.tell(
            "Three subscribers want every event: helpdesk and reporting work, flaky does not \
             always.",
        )?;
        narrator.tell(
            "Five CRMs send signed events: support tickets, leads, Contact2Sale, Instagram, and \
             GitHub as a configured source.",
        )?;
        self.send_rounds(8).await?;
        narrator.tell(&format!(
            "{} accepted: verified, numbered, and written to the disk before the answer.",
            format_count(self.traffic.accepted(), "event", "events"),
        ))?;
        if self.await_all_delivered().await? {
            narrator.tell(&format!(
                "Each of the three has all {}, and {}.",
                self.traffic.accepted(),
                self.describe_order()
            ))?;
        }

        self.traffic.send_twice().await?;
        narrator.tell(
            "A CRM repeats an event, as after a lost answer: 409 names the first one, nothing is \
             stored twice.",
        )?;
        Ok(())
    }

    /// Breaks the flaky subscriber, and repairs it when its circuit breaker is open.
    async fn tell_outage(
        &mut self,
        narrator: &mut DemoNarrator<'_, impl Write>,
    ) -> Result<(), CliError> {
        let flaky = self.audience.flaky();
        if self.is_stopped() || !self.is_judged(flaky) {
            return Ok(());
        }
        let (refused_before, started) = (flaky.totals().0.refused, self.clock.monotonic());
        flaky.answer_with(500);
        narrator.tell("flaky breaks: it answers every delivery with 500.")?;
        while !self.is_breaker("open").await? {
            if self.is_stopped() || self.look_for_visitor().await? {
                return Ok(());
            }
            self.check_patience(started, "the circuit breaker opens")?;
            self.send_rounds(1).await?;
        }
        self.breakers_opened += 1;
        narrator.tell(&format!(
            "After {} its circuit breaker opens: the node lets it rest, and keeps its events.",
            format_count(
                flaky.totals().0.refused - refused_before,
                "failed attempt",
                "failed attempts"
            ),
        ))?;

        self.send_rounds(3).await?;
        let healthy = self.audience.healthy();
        let is_served = async || {
            let judged = healthy.iter().filter(|healthy| self.is_judged(healthy));
            Ok(judged.map(|healthy| healthy.ledger().owed()).sum::<u64>() == 0)
        };
        let expected = "helpdesk and reporting get every event";
        if !self.await_that(expected, is_served).await? {
            return Ok(());
        }
        narrator.tell(&format!(
            "helpdesk and reporting have all {} meanwhile; flaky waits for {}.",
            self.traffic.accepted(),
            flaky.ledger().owed()
        ))?;

        flaky.answer_with(200);
        narrator.tell("flaky works again; the node finds out by itself, with a single probe.")?;
        let expected = "the circuit breaker closes";
        let is_closed = async || self.is_breaker("closed").await;
        if !self.await_that(expected, is_closed).await? {
            return Ok(());
        }
        self.breakers_closed += 1;
        if !self.await_all_delivered().await? {
            return Ok(());
        }
        narrator.tell(&format!(
            "Its breaker is closed, and it has caught up: all {}, and {}.",
            self.traffic.accepted(),
            self.describe_order()
        ))?;
        Ok(())
    }

    /// Has the flaky subscriber refuse one event for good, and delivers it by a retry.
    async fn tell_dead_letter(
        &mut self,
        narrator: &mut DemoNarrator<'_, impl Write>,
    ) -> Result<(), CliError> {
        let flaky = self.audience.flaky();
        if self.is_stopped() || !self.is_judged(flaky) {
            return Ok(());
        }
        flaky.answer_with(422);
        self.traffic.send_ticket_event().await?;
        let expected = "the refused event becomes a dead letter";
        let is_there = async || {
            let stats = flaky.fetch_stats(&self.node).await?;
            Ok(stats.is_some_and(|stats| stats.dead_letters > 0))
        };
        if !self.await_that(expected, is_there).await? {
            return Ok(());
        }
        flaky.answer_with(200);
        self.dead_letters += 1;
        narrator.tell(
            "flaky refuses an event of a ticket with 422: another attempt would not help, so it is a \
             dead letter now.",
        )?;
        self.send_rounds(2).await?;
        if self.look_for_visitor().await? {
            return Ok(());
        }
        flaky.retry_dead_letters(&self.node).await?;
        if !self.await_all_delivered().await? {
            return Ok(());
        }
        narrator.tell(&format!(
            "The dead letter is retried, and flaky accepts it: it has all {} now.",
            self.traffic.accepted()
        ))?;
        Ok(())
    }

    /// Sends events for a while, so that there is something to watch.
    async fn tell_quiet_time(
        &mut self,
        limit: Option<Duration>,
        narrator: &mut DemoNarrator<'_, impl Write>,
    ) -> Result<(), CliError> {
        narrator.tell(&format!(
            "A quiet time: {} a second, until flaky breaks again.",
            format_count(
                ROUND_EVENTS * 1000 / ROUND_PAUSE.as_millis() as u64,
                "event",
                "events"
            ),
        ))?;
        for _ in 0..QUIET_ROUNDS {
            let is_over = limit.is_some_and(|limit| self.clock.monotonic() >= limit);
            if is_over || self.is_stopped() {
                break;
            }
            self.send_rounds(1).await?;
        }
        Ok(())
    }

    /// Repairs what the story broke, and waits until all is delivered. What is not delivered then
    /// counts as lost.
    async fn settle(&self) -> Result<(), CliError> {
        let flaky = self.audience.flaky();
        flaky.answer_with(200);
        self.look_for_visitor().await?;
        if self.is_judged(flaky) {
            flaky.resume(&self.node).await?;
        }
        let is_settled = async || {
            let stats = flaky.fetch_stats(&self.node).await?;
            if stats.is_some_and(|stats| stats.dead_letters > 0) {
                // Another retry of the same dead letters may be running.
                let _ = flaky.retry_dead_letters(&self.node).await;
            }
            Ok(self.are_all_delivered())
        };
        loop {
            match self
                .await_that("no delivery is under way", &is_settled)
                .await
            {
                // A visitor changed something: less is owed now.
                Ok(false) => {}
                Ok(true) | Err(CliError::Demo(DemoError::InVain { .. })) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn sum_up(&self) -> DemoSummary {
        let mut summary = DemoSummary {
            accepted: self.traffic.accepted(),
            duplicates: self.traffic.duplicates(),
            breakers_opened: self.breakers_opened,
            breakers_closed: self.breakers_closed,
            dead_letters: self.dead_letters,
            dead_letters_delivered: self.audience.flaky().totals().0.again,
            failed_attempts: self.audience.flaky().totals().0.refused,
            ..DemoSummary::default()
        };
        for subscriber in self.judged() {
            let (totals, entities) = subscriber.totals();
            summary.subscribers += 1;
            summary.entities = summary.entities.max(entities);
            summary.delivered += subscriber.ledger().delivered();
            summary.swaps += totals.swaps;
            summary.wrongly_signed += totals.wrongly_signed;
            summary.lost += subscriber.ledger().owed();
        }
        summary.not_judged = self.audience.all().len() as u64 - summary.subscribers;
        summary
    }

    /// Sends a number of rounds, with a pause after each.
    async fn send_rounds(&mut self, count: u32) -> Result<(), CliError> {
        for _ in 0..count {
            self.traffic.send_round().await?;
            pause(ROUND_PAUSE).await;
        }
        Ok(())
    }

    /// Tells if the circuit breaker of the flaky subscriber is in this state.
    async fn is_breaker(&self, state: &str) -> Result<bool, CliError> {
        let stats = self.audience.flaky().fetch_stats(&self.node).await?;
        Ok(stats.is_some_and(|stats| stats.breaker == state))
    }

    /// Returns the subscribers that are as the demo made them.
    fn judged(&self) -> impl Iterator<Item = &DemoSubscriber> {
        let all = self.audience.all().iter();
        all.filter(|subscriber| self.is_judged(subscriber))
    }

    fn is_judged(&self, subscriber: &DemoSubscriber) -> bool {
        !self.visitor.borrow().has_changed(subscriber.webhook_id())
    }

    /// Looks for what a visitor changed since the last look, and tells if that makes a wait void.
    async fn look_for_visitor(&self) -> Result<bool, CliError> {
        let entries = VisitorChanges::fetch_entries(&self.node).await?;
        let effect = self.visitor.borrow_mut().note_entries(entries);
        if effect.has_ended_deliveries {
            let all = self.audience.all().iter();
            all.for_each(|subscriber| subscriber.ledger().forgive());
        }
        Ok(effect.has_ended_deliveries || effect.has_changed_webhook)
    }

    fn tell_remarks(&self, narrator: &mut DemoNarrator<'_, impl Write>) -> Result<(), CliError> {
        let remarks = self.visitor.borrow_mut().take_remarks();
        remarks
            .iter()
            .try_for_each(|remark| narrator.tell(remark))?;
        Ok(())
    }

    fn are_all_delivered(&self) -> bool {
        self.judged()
            .all(|subscriber| subscriber.ledger().owed() == 0)
    }

    async fn await_all_delivered(&self) -> Result<bool, CliError> {
        self.await_that("every subscriber gets every event", async || {
            Ok(self.are_all_delivered())
        })
        .await
    }

    /// Looks again and again until `condition` holds. Returns false if a visitor changed something
    /// meanwhile, so that it may never hold.
    async fn await_that(
        &self,
        expected: &'static str,
        condition: impl AsyncFn() -> Result<bool, CliError>,
    ) -> Result<bool, CliError> {
        let started = self.clock.monotonic();
        let mut looks = 0_u32;
        while !condition().await? {
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_VISIT) && self.look_for_visitor().await? {
                return Ok(false);
            }
            self.check_patience(started, expected)?;
            pause(LOOK_PAUSE).await;
        }
        Ok(true)
    }

    fn check_patience(&self, started: Duration, expected: &'static str) -> Result<(), DemoError> {
        if self.clock.monotonic() - started <= PATIENCE {
            return Ok(());
        }
        let after_s = PATIENCE.as_secs();
        Err(DemoError::InVain { expected, after_s })
    }

    /// Describes the order in which the deliveries came, as the receivers saw it.
    fn describe_order(&self) -> String {
        let totals: Vec<_> = self.judged().map(DemoSubscriber::totals).collect();
        let swaps: u64 = totals.iter().map(|(totals, _)| totals.swaps).sum();
        let entities = totals.iter().map(|(_, entities)| *entities).max();
        let entities = format_count(entities.unwrap_or(0), "entity", "entities");
        match swaps {
            0 => format!("the events of each of {entities} came in order"),
            _ => format!("{} OUT OF ORDER", format_count(swaps, "event", "events")),
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stopping.borrow() > 0
    }
}

async fn pause(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the pace of a demonstration, and looks at something that nothing reports"
    )]
    tokio::time::sleep(duration).await;
}

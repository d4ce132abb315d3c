//! The claim table: one `(source, idempotency key)` is accepted once within its window, whichever entity it names.
//!
//! ```text
//!            claim()            committed
//!   (free) ──────────> Pending ───────────> Taken ──passed by the projection──> archive ──window over──> (free)
//!                         │ refused, or lost with its event
//!                         └──────> (free)
//! ```
//!
//! Two tables work like this: that of keys, which are free again after their source's window, and that of codes (such as a
//! customer's), which are held for ever.
//!
//! A claim is made before routing, since one key may come with two entities, and travels with its event: an HTTP request
//! that is given up does not free it. Who meets a pending claim waits for its outcome.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::event::{EntityKey, Fingerprint, Name, Position, Timestamp};
use crate::projection::{Archive, Reads, Unavailable};

/// Locks that share the table, so that HTTP workers seldom wait for each other.
const STRIPES: usize = 64;

/// The first event that took a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) position: Position,
    pub(super) sequence: Option<u64>,
}

/// What became of a claim that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its event is durable, or another one was found to have the key.
    Taken(Taken),
    /// Its event was refused, and the key is free.
    Freed,
}

/// Why a claim was not granted.
#[derive(Debug)]
pub(super) enum Denied {
    /// The key was taken before, within its window.
    Taken(Taken),
    /// Another event holds the key and is on its way; dropped untold when nobody knows what became of that one.
    Pending(oneshot::Receiver<Fate>),
    /// The store could not be asked.
    Unavailable(Unavailable),
}

pub(super) struct ClaimTable {
    stripes: Vec<Mutex<Stripe>>,
    past: Past,
    reads: Reads,
    clock: Arc<dyn Clock>,
    fingerprint: Fingerprint,
}

/// Where a table finds what was taken long ago.
enum Past {
    /// Keys, each remembered for as long as its source says.
    Keys { archive: Arc<Archive>, windows: Windows },
    /// Codes, remembered for ever; the position is how far the rows of codes are written.
    Codes { written: watch::Receiver<Position> },
}

/// How long each source's keys are remembered.
#[derive(Clone, Debug, Default)]
pub struct Windows(pub Vec<(Name, Duration)>);

impl Windows {
    /// How long keys of sources are remembered that say nothing else: past the retries that follow a lost answer.
    pub const DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

    /// The window of `source`.
    #[must_use]
    pub fn of(&self, source: &str) -> Duration {
        self.0.iter().find(|(name, _)| name.as_str() == source).map_or(Self::DEFAULT, |(_, window)| *window)
    }

    /// The longest window of all.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|(_, window)| *window).fold(Self::DEFAULT, Duration::max)
    }
}

#[derive(Default)]
struct Stripe {
    slots: HashMap<u64, Vec<Slot>>,
    /// Taken claims in order, to be dropped here once the archive has them.
    taken: VecDeque<(Position, u64)>,
}

struct Slot {
    name: Key,
    hold: Hold,
}

/// The key in full: fingerprints may collide.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    source: Name,
    key: Box<str>,
}

enum Hold {
    Pending(Vec<oneshot::Sender<Fate>>),
    Taken { by: Taken, claimed_at: Timestamp },
}

/// The right to use a key, for the event that carries it. Freed when dropped.
pub(super) struct Claim {
    table: Arc<ClaimTable>,
    fingerprint: u64,
    name: Key,
    settled: bool,
}

enum Met {
    Granted,
    Taken(Taken),
    Pending(oneshot::Receiver<Fate>),
}

impl ClaimTable {
    /// The table of keys.
    pub(super) fn of_keys(
        archive: Arc<Archive>,
        windows: Windows,
        reads: Reads,
        clock: Arc<dyn Clock>,
        fingerprint: Fingerprint,
    ) -> Arc<Self> {
        Self::new(Past::Keys { archive, windows }, reads, clock, fingerprint)
    }

    /// The table of codes.
    pub(super) fn of_codes(
        written: watch::Receiver<Position>,
        reads: Reads,
        clock: Arc<dyn Clock>,
        fingerprint: Fingerprint,
    ) -> Arc<Self> {
        Self::new(Past::Codes { written }, reads, clock, fingerprint)
    }

    fn new(past: Past, reads: Reads, clock: Arc<dyn Clock>, fingerprint: Fingerprint) -> Arc<Self> {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Arc::new(Self { stripes, past, reads, clock, fingerprint })
    }

    /// Claims `key` of `source`, or says who has it.
    pub(super) async fn claim(self: &Arc<Self>, source: Name, key: &str) -> Result<Claim, Denied> {
        let fingerprint = (self.fingerprint)(&source, key);
        let name = Key { source, key: key.into() };
        match self.meet(fingerprint, &name) {
            Met::Taken(taken) => return Err(Denied::Taken(taken)),
            Met::Pending(outcome) => return Err(Denied::Pending(outcome)),
            Met::Granted => {}
        }
        // From here on the key is pending: whoever comes meanwhile waits for what the past says to us.
        let claim = Claim { table: Arc::clone(self), fingerprint, name, settled: false };
        match self.taken_before(fingerprint, &claim.name).await {
            Ok(None) => Ok(claim),
            Ok(Some(taken)) => {
                claim.deny(taken);
                Err(Denied::Taken(taken))
            }
            Err(error) => Err(Denied::Unavailable(error)),
        }
    }

    /// The entity that holds the code `key`, or whose event that claims it is on its way and arrives.
    pub(super) async fn holder(&self, source: Name, key: &str) -> Result<Option<EntityKey>, Unavailable> {
        let fingerprint = (self.fingerprint)(&source, key);
        let name = Key { source, key: key.into() };
        match self.look(fingerprint, &name) {
            // What is not in memory is written, if it is anywhere.
            None | Some(Met::Granted) => return self.reads.holder_as_written(key).await,
            Some(Met::Taken(_)) => {}
            // If that event fails, the rows say that nobody holds the code.
            Some(Met::Pending(outcome)) => drop(outcome.await),
        }
        self.reads.holder(key).await
    }

    fn meet(&self, fingerprint: u64, name: &Key) -> Met {
        let now = self.clock.wall();
        let mut stripe = self.stripe(fingerprint);
        stripe.forget_archived(self.archived_end());
        let slots = stripe.slots.entry(fingerprint).or_default();
        let met = slots.iter().position(|slot| slot.name == *name);
        if let Some(met) = met {
            match &mut slots[met].hold {
                Hold::Pending(waiting) => {
                    let (tell, outcome) = oneshot::channel();
                    waiting.push(tell);
                    return Met::Pending(outcome);
                }
                Hold::Taken { by, claimed_at } if self.lasts(name, *claimed_at, now) => {
                    return Met::Taken(*by);
                }
                Hold::Taken { .. } => {
                    slots.remove(met);
                }
            }
        }
        slots.push(Slot { name: name.clone(), hold: Hold::Pending(Vec::new()) });
        Met::Granted
    }

    /// Who has the key, without claiming it.
    fn look(&self, fingerprint: u64, name: &Key) -> Option<Met> {
        let mut stripe = self.stripe(fingerprint);
        let slot = stripe.slots.get_mut(&fingerprint)?.iter_mut().find(|slot| slot.name == *name)?;
        match &mut slot.hold {
            Hold::Taken { by, .. } => Some(Met::Taken(*by)),
            Hold::Pending(waiting) => {
                let (tell, outcome) = oneshot::channel();
                waiting.push(tell);
                Some(Met::Pending(outcome))
            }
        }
    }

    /// Claims of events before this position need not be held here: they are found in the past.
    fn archived_end(&self) -> Position {
        match &self.past {
            Past::Keys { archive, .. } => archive.end(),
            Past::Codes { written } => *written.borrow(),
        }
    }

    /// Whether what was claimed at `claimed_at` still holds.
    fn lasts(&self, name: &Key, claimed_at: Timestamp, now: Timestamp) -> bool {
        match &self.past {
            Past::Keys { windows, .. } => claimed_at.saturating_add(windows.of(&name.source)) > now,
            Past::Codes { .. } => true,
        }
    }

    async fn taken_before(&self, fingerprint: u64, name: &Key) -> Result<Option<Taken>, Unavailable> {
        match &self.past {
            Past::Keys { archive, .. } => self.archived(archive, fingerprint, name).await,
            Past::Codes { .. } => {
                let position = self.reads.position_of_code(&name.key).await?;
                Ok(position.map(|position| Taken { position, sequence: Some(1) }))
            }
        }
    }

    /// The newest record in the archive that holds this key and whose window lasts.
    async fn archived(
        &self,
        archive: &Arc<Archive>,
        fingerprint: u64,
        name: &Key,
    ) -> Result<Option<Taken>, Unavailable> {
        let positions = match archive.recall(fingerprint) {
            Some(positions) => positions,
            None => {
                let archive = Arc::clone(archive);
                let find = move || archive.find(fingerprint);
                tokio::task::spawn_blocking(find).await.map_err(|_| Unavailable::Cancelled)??
            }
        };
        let now = self.clock.wall();
        for position in positions.into_iter().rev() {
            let Some(stored) = self.reads.record(position).await? else { continue };
            if !self.lasts(name, stored.received_at, now) {
                break;
            }
            let same = stored.record.source == name.source.as_str()
                && stored.record.idempotency_key.as_deref() == Some(&name.key);
            if same {
                return Ok(Some(Taken { position, sequence: stored.record.sequence }));
            }
        }
        Ok(None)
    }

    fn stripe(&self, fingerprint: u64) -> MutexGuard<'_, Stripe> {
        let stripe = &self.stripes[fingerprint as usize % STRIPES];
        stripe.lock()
    }

    /// Ends a pending claim and hands back who waited for it.
    fn end(&self, claim: &Claim, taken: Option<Taken>) -> Vec<oneshot::Sender<Fate>> {
        let claimed_at = self.clock.wall();
        let mut stripe = self.stripe(claim.fingerprint);
        let Some(slots) = stripe.slots.get_mut(&claim.fingerprint) else { return Vec::new() };
        let Some(ours) = slots.iter().position(|slot| slot.name == claim.name) else { return Vec::new() };
        let hold = match taken {
            Some(by) => {
                let hold = std::mem::replace(&mut slots[ours].hold, Hold::Taken { by, claimed_at });
                stripe.taken.push_back((by.position, claim.fingerprint));
                hold
            }
            None => {
                let hold = slots.swap_remove(ours).hold;
                if slots.is_empty() {
                    stripe.slots.remove(&claim.fingerprint);
                }
                hold
            }
        };
        match hold {
            Hold::Pending(waiting) => waiting,
            Hold::Taken { .. } => Vec::new(),
        }
    }
}

impl Stripe {
    fn forget_archived(&mut self, end: Position) {
        while let Some((position, fingerprint)) = self.taken.front().copied().filter(|(position, _)| *position < end) {
            self.taken.pop_front();
            let Some(slots) = self.slots.get_mut(&fingerprint) else { continue };
            slots.retain(|slot| !matches!(slot.hold, Hold::Taken { by, .. } if by.position == position));
            if slots.is_empty() {
                self.slots.remove(&fingerprint);
            }
        }
    }
}

impl Claim {
    /// The event that carries this claim is durable.
    pub(super) fn take(mut self, taken: Taken) {
        self.settled = true;
        let waiting = self.table.end(&self, Some(taken));
        tell(waiting, Fate::Taken(taken));
    }

    /// The event that carries this claim was refused: the key is free, and who waits may try.
    pub(super) fn free(mut self) {
        self.settled = true;
        let waiting = self.table.end(&self, None);
        tell(waiting, Fate::Freed);
    }

    /// The key was found to be taken long before.
    fn deny(mut self, taken: Taken) {
        self.settled = true;
        let waiting = self.table.end(&self, None);
        tell(waiting, Fate::Taken(taken));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            // Who waits learns from the dropped channel that the outcome is unknown.
            drop(self.table.end(self, None));
        }
    }
}

fn tell(waiting: Vec<oneshot::Sender<Fate>>, fate: Fate) {
    for waiter in waiting {
        // A waiter that is gone need not be told.
        let _ = waiter.send(fate);
    }
}

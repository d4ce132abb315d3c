//! The claim table: one `(source, idempotency key)` is accepted once within its window, whichever entity it names.
//!
//! ```text
//!            claim()            committed
//!   (free) ──────────> Pending ───────────> Taken ──passed by the projection──> archive ──window over──> (free)
//!                         │ dropped
//!                         └──────> (free)
//! ```
//!
//! A claim is made before routing, since one key may come with two entities, and travels with its event: an HTTP request
//! that is given up does not free it. Who meets a pending claim waits for its outcome.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::event::{Fingerprint, Position, Timestamp};
use crate::projection::{Archive, Reads, Unavailable};

/// Locks that share the table, so that HTTP workers seldom wait for each other.
const STRIPES: usize = 64;

/// The first event that took a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) position: Position,
    pub(super) sequence: Option<u64>,
}

/// Why a claim was not granted.
#[derive(Debug)]
pub(super) enum Denied {
    /// The key was taken before, within its window.
    Taken(Taken),
    /// Whoever holds the key failed; whether its event was stored is not known.
    Unknown,
    /// The store could not be asked.
    Unavailable(Unavailable),
}

pub(super) struct ClaimTable {
    stripes: Vec<Mutex<Stripe>>,
    archive: Arc<Archive>,
    reads: Reads,
    clock: Arc<dyn Clock>,
    fingerprint: Fingerprint,
    window: Duration,
}

#[derive(Default)]
struct Stripe {
    slots: HashMap<u64, Vec<Slot>>,
    /// Taken claims in order, to be dropped here once the archive has them.
    taken: VecDeque<(Position, u64)>,
}

struct Slot {
    name: Name,
    hold: Hold,
}

/// The key in full: fingerprints may collide.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    source: &'static str,
    key: Box<str>,
}

enum Hold {
    Pending(Vec<oneshot::Sender<Taken>>),
    Taken { by: Taken, claimed_at: Timestamp },
}

/// The right to use a key, for the event that carries it. Freed when dropped.
pub(super) struct Claim {
    table: Arc<ClaimTable>,
    fingerprint: u64,
    name: Name,
    settled: bool,
}

enum Met {
    Granted,
    Taken(Taken),
    Pending(oneshot::Receiver<Taken>),
}

impl ClaimTable {
    pub(super) fn new(
        archive: Arc<Archive>,
        reads: Reads,
        clock: Arc<dyn Clock>,
        fingerprint: Fingerprint,
        window: Duration,
    ) -> Arc<Self> {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Arc::new(Self { stripes, archive, reads, clock, fingerprint, window })
    }

    /// Claims `key` of `source`, or says who has it.
    pub(super) async fn claim(self: &Arc<Self>, source: &'static str, key: &str) -> Result<Claim, Denied> {
        let fingerprint = (self.fingerprint)(source, key);
        let name = Name { source, key: key.into() };
        match self.meet(fingerprint, &name) {
            Met::Taken(taken) => return Err(Denied::Taken(taken)),
            Met::Pending(outcome) => return Err(outcome.await.map_or(Denied::Unknown, Denied::Taken)),
            Met::Granted => {}
        }
        // From here on the key is pending: whoever comes meanwhile waits for what the archive says to us.
        let claim = Claim { table: Arc::clone(self), fingerprint, name, settled: false };
        match self.archived(fingerprint, &claim.name).await {
            Ok(None) => Ok(claim),
            Ok(Some(taken)) => {
                claim.deny(taken);
                Err(Denied::Taken(taken))
            }
            Err(error) => Err(Denied::Unavailable(error)),
        }
    }

    fn meet(&self, fingerprint: u64, name: &Name) -> Met {
        let now = self.clock.wall();
        let mut stripe = self.stripe(fingerprint);
        stripe.forget_archived(self.archive.end());
        let slots = stripe.slots.entry(fingerprint).or_default();
        let met = slots.iter().position(|slot| slot.name == *name);
        if let Some(met) = met {
            match &mut slots[met].hold {
                Hold::Pending(waiting) => {
                    let (tell, outcome) = oneshot::channel();
                    waiting.push(tell);
                    return Met::Pending(outcome);
                }
                Hold::Taken { by, claimed_at } if claimed_at.saturating_add(self.window) > now => {
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

    /// The newest record in the archive that holds this key and whose window lasts.
    async fn archived(&self, fingerprint: u64, name: &Name) -> Result<Option<Taken>, Unavailable> {
        let positions = match self.archive.recall(fingerprint) {
            Some(positions) => positions,
            None => {
                let archive = Arc::clone(&self.archive);
                let find = move || archive.find(fingerprint);
                tokio::task::spawn_blocking(find).await.map_err(|_| Unavailable::Cancelled)??
            }
        };
        let now = self.clock.wall();
        for position in positions.into_iter().rev() {
            let Some(stored) = self.reads.record(position).await? else { continue };
            if stored.received_at.saturating_add(self.window) <= now {
                break;
            }
            let same =
                stored.record.source == name.source && stored.record.idempotency_key.as_deref() == Some(&name.key);
            if same {
                return Ok(Some(Taken { position, sequence: stored.record.sequence }));
            }
        }
        Ok(None)
    }

    fn stripe(&self, fingerprint: u64) -> MutexGuard<'_, Stripe> {
        let stripe = &self.stripes[fingerprint as usize % STRIPES];
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a pending claim and hands back who waited for it.
    fn end(&self, claim: &Claim, taken: Option<Taken>) -> Vec<oneshot::Sender<Taken>> {
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
        tell(waiting, taken);
    }

    /// The key was found to be taken long before.
    fn deny(mut self, taken: Taken) {
        self.settled = true;
        let waiting = self.table.end(&self, None);
        tell(waiting, taken);
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

fn tell(waiting: Vec<oneshot::Sender<Taken>>, taken: Taken) {
    for waiter in waiting {
        // A waiter that is gone need not be told.
        let _ = waiter.send(taken);
    }
}

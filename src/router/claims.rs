//! Claim table: one `(source, idempotency key)` is accepted once within its window, for whichever
//! entity. Only events of different credentials that differ may share a key, see [`KeyConflict`]. A
//! signed request is claimed in the same way, by the text of its tag.
//!
//! ```text
//!        claim_key()         committed         projected           window over
//!  (free) ────────> Pending ───────────> Taken ─────────> archive ─────────────> (free)
//!                      │ refused, or lost with its event
//!                      └──────> (free)
//! ```
//!
//! There are two tables. Idempotency keys are free again after the window of their source. Unique
//! keys, such as customer codes, are held for ever.
//!
//! An event claims its key before it is routed, since one key may arrive with two entities. The
//! claim travels with the event: a client that disconnects does not free the key. A second event
//! with a pending key waits for the outcome of the first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::event::{
    ClaimOwner, EntityKey, ErasureMark, FingerprintFn, InternedName, KeyConflict, Position,
    SignedRequestTag, Timestamp,
};
use crate::projection::{ClaimArchive, ProjectionReadError, ProjectionReader, StoredRecord};

/// Number of locks over the table, so that HTTP workers rarely wait for each other.
const STRIPES: usize = 64;

/// Event that holds a key, by its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClaimHolder {
    pub(super) position: Position,
    pub(super) sequence: Option<u64>,
}

/// Outcome of a pending claim, as its waiters receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimOutcome {
    /// The event is durable, or an earlier holder was found.
    Taken(ClaimHolder),
    /// The event was refused; the key is free.
    Freed,
}

/// Reason for which a claim was not granted.
#[derive(Debug)]
pub(super) enum KeyClaimError {
    /// Another event claimed the key before, within the window.
    Taken(TakenKey),
    /// Another event with the key is in flight. The channel closes without a message when the
    /// outcome is unknown.
    Pending(PendingKey),
    /// The lookup in the store failed.
    Unavailable(ProjectionReadError),
}

/// Key that an earlier event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TakenKey {
    pub(super) holder: ClaimHolder,
    /// True if the sender has used the key for another event.
    pub(super) is_reused: bool,
}

/// Key that an event in flight holds.
#[derive(Debug)]
pub(super) struct PendingKey {
    pub(super) outcome: oneshot::Receiver<ClaimOutcome>,
    /// True if the sender uses the key for another event.
    pub(super) is_reused: bool,
}

pub(super) struct ClaimTable {
    stripes: Vec<Mutex<ClaimStripe>>,
    history: ClaimHistory,
    reads: ProjectionReader,
    clock: Arc<dyn Clock>,
    fingerprint: FingerprintFn,
}

/// Store of older claims, which the table no longer holds in memory.
enum ClaimHistory {
    /// Claims of idempotency keys, each for the window of its source.
    IdempotencyKeys {
        archive: Arc<ClaimArchive>,
        windows: IdempotencyWindows,
    },
    /// Claims of unique keys, held for ever. `written` is the position up to which the projection
    /// has written its table of unique keys.
    UniqueKeys { written: watch::Receiver<Position> },
}

/// Durations for which the claims of one source are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimWindows {
    /// Window of the idempotency keys of the source.
    pub keys: Duration,
    /// Window of signed requests: they must be remembered for as long as their signatures hold.
    pub requests: Duration,
}

impl ClaimWindows {
    /// Windows of a source that remembers keys for `keys`, and whose signatures hold for at most
    /// `signatures`.
    #[must_use]
    pub fn new(keys: Duration, signatures: Duration) -> Self {
        let requests = keys.max(signatures);
        Self { keys, requests }
    }
}

/// Windows of each source's claims.
#[derive(Clone, Debug, Default)]
pub struct IdempotencyWindows(pub Vec<(InternedName, ClaimWindows)>);

impl IdempotencyWindows {
    /// Window of sources without a setting: longer than the retries of a sender that missed an
    /// answer.
    pub const DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

    /// Window of the claimed `key` of `source`.
    #[must_use]
    pub fn window_of(&self, source: &str, key: &str) -> Duration {
        let windows = self.0.iter().find(|(name, _)| name.as_str() == source);
        windows.map_or(
            Self::DEFAULT,
            |(_, windows)| match SignedRequestTag::is_claim_key(key) {
                true => windows.requests,
                false => windows.keys,
            },
        )
    }

    /// Longest window of all sources.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        self.0
            .iter()
            .map(|(_, windows)| windows.keys.max(windows.requests))
            .fold(Self::DEFAULT, Duration::max)
    }
}

#[derive(Default)]
struct ClaimStripe {
    slots: HashMap<u64, Vec<ClaimSlot>>,
    /// Taken claims in the order of positions; dropped from memory once the archive has them.
    taken: VecDeque<(Position, u64)>,
}

struct ClaimSlot {
    key: ClaimKey,
    state: KeyClaimState,
}

/// Complete key, since fingerprints may collide, and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ClaimKey {
    source: InternedName,
    key: Box<str>,
    owner: Option<ClaimOwner>,
}

impl ClaimKey {
    /// Compares this new claim with an earlier one.
    fn compare(&self, earlier: &Self) -> KeyConflict {
        if self.source != earlier.source || self.key != earlier.key {
            return KeyConflict::None;
        }
        KeyConflict::compare(self.owner.as_ref(), earlier.owner.as_ref())
    }
}

enum KeyClaimState {
    Pending(Vec<oneshot::Sender<ClaimOutcome>>),
    Taken {
        by: ClaimHolder,
        claimed_at: Timestamp,
    },
}

/// Claim of a key, carried by its event. Dropping it frees the key.
pub(super) struct KeyClaim {
    table: Arc<ClaimTable>,
    fingerprint: u64,
    key: ClaimKey,
    settled: bool,
}

/// State of a key that is not free.
enum ClaimProbe {
    Taken(TakenKey),
    Pending(PendingKey),
}

impl ClaimTable {
    /// Creates the table of idempotency keys.
    pub(super) fn for_idempotency_keys(
        archive: Arc<ClaimArchive>,
        windows: IdempotencyWindows,
        reads: ProjectionReader,
        clock: Arc<dyn Clock>,
        fingerprint: FingerprintFn,
    ) -> Arc<Self> {
        Self::new(
            ClaimHistory::IdempotencyKeys { archive, windows },
            reads,
            clock,
            fingerprint,
        )
    }

    /// Creates the table of unique keys.
    pub(super) fn for_unique_keys(
        written: watch::Receiver<Position>,
        reads: ProjectionReader,
        clock: Arc<dyn Clock>,
        fingerprint: FingerprintFn,
    ) -> Arc<Self> {
        Self::new(
            ClaimHistory::UniqueKeys { written },
            reads,
            clock,
            fingerprint,
        )
    }

    fn new(
        history: ClaimHistory,
        reads: ProjectionReader,
        clock: Arc<dyn Clock>,
        fingerprint: FingerprintFn,
    ) -> Arc<Self> {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Arc::new(Self {
            stripes,
            history,
            reads,
            clock,
            fingerprint,
        })
    }

    /// Claims `key` of `source` for an event of `owner`.
    ///
    /// # Errors
    /// [`KeyClaimError`] when another event holds the key or may hold it.
    pub(super) async fn claim_key(
        self: &Arc<Self>,
        source: InternedName,
        key: &str,
        owner: Option<ClaimOwner>,
    ) -> Result<KeyClaim, KeyClaimError> {
        let fingerprint = (self.fingerprint)(&source, key);
        let name = ClaimKey {
            source,
            key: key.into(),
            owner,
        };

        match self.probe_or_claim(fingerprint, &name) {
            Some(ClaimProbe::Taken(taken)) => return Err(KeyClaimError::Taken(taken)),
            Some(ClaimProbe::Pending(pending)) => return Err(KeyClaimError::Pending(pending)),
            None => {}
        }

        // The key is pending from here on, so that a second event waits while this one reads the
        // store.
        let claim = KeyClaim {
            table: Arc::clone(self),
            fingerprint,
            key: name,
            settled: false,
        };

        match self.find_earlier_holder(fingerprint, &claim.key).await {
            Ok(None) => Ok(claim),
            Ok(Some(taken)) => {
                // Waiters compare their own event with the holder.
                claim.release();
                Err(KeyClaimError::Taken(taken))
            }
            Err(error) => Err(KeyClaimError::Unavailable(error)),
        }
    }

    /// Returns the entity that holds the unique key; waits for the outcome of an event in flight
    /// that claims it.
    pub(super) async fn find_holder(
        &self,
        source: InternedName,
        key: &str,
    ) -> Result<Option<EntityKey>, ProjectionReadError> {
        let fingerprint = (self.fingerprint)(&source, key);
        let name = ClaimKey {
            source,
            key: key.into(),
            owner: None,
        };

        match self.probe(fingerprint, &name) {
            // A key that is not in memory is in the projection, or free.
            None => {
                return self.reads.unique_key_holder_as_written(key).await;
            }
            Some(ClaimProbe::Taken(_)) => {}
            // If that event fails, the projection's table shows the key as free.
            Some(ClaimProbe::Pending(pending)) => drop(pending.outcome.await),
        }

        self.reads.unique_key_holder(key).await
    }

    /// Returns the events of `source` that have this key, the newest first. Only keys within their
    /// windows are sure to be found.
    pub(super) async fn find_events(
        &self,
        source: &str,
        key: &str,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        let ClaimHistory::IdempotencyKeys { archive, .. } = &self.history else {
            return Ok(Vec::new());
        };
        // The archive has the claims of all records that the projection has written.
        self.reads.await_durable_written().await?;
        let fingerprint = (self.fingerprint)(source, key);
        let mut events = Vec::new();
        for position in archived_positions(archive, fingerprint)
            .await?
            .into_iter()
            .rev()
        {
            let stored = match self.reads.await_record(position).await {
                Err(error) if error.is_removed() => break,
                found => found?,
            };
            let has_key = |stored: &StoredRecord| {
                let record = &stored.record;
                record.source == source && record.idempotency_key.as_deref() == Some(key)
            };
            events.extend(stored.filter(has_key));
        }
        Ok(events)
    }

    /// Claims the key in memory if it is free there, and returns `None`; otherwise its state.
    fn probe_or_claim(&self, fingerprint: u64, name: &ClaimKey) -> Option<ClaimProbe> {
        let now = self.clock.wall();
        let mut stripe = self.stripe(fingerprint);
        stripe.forget_archived(self.archived_end());
        let slots = stripe.slots.entry(fingerprint).or_default();

        while let Some((index, is_reused)) = find_conflict(slots, name) {
            match &mut slots[index].state {
                KeyClaimState::Pending(waiting) => {
                    let (waiter, outcome) = oneshot::channel();
                    waiting.push(waiter);
                    return Some(ClaimProbe::Pending(PendingKey { outcome, is_reused }));
                }
                KeyClaimState::Taken { by, claimed_at }
                    if self.is_claim_valid(name, *claimed_at, now) =>
                {
                    let holder = *by;
                    return Some(ClaimProbe::Taken(TakenKey { holder, is_reused }));
                }
                KeyClaimState::Taken { .. } => {
                    slots.remove(index);
                }
            }
        }

        slots.push(ClaimSlot {
            key: name.clone(),
            state: KeyClaimState::Pending(Vec::new()),
        });
        None
    }

    /// Looks up the state of the key without claiming it; `None` if no event holds it in memory.
    fn probe(&self, fingerprint: u64, name: &ClaimKey) -> Option<ClaimProbe> {
        let mut stripe = self.stripe(fingerprint);
        let slot = stripe
            .slots
            .get_mut(&fingerprint)?
            .iter_mut()
            .find(|slot| slot.key == *name)?;

        let is_reused = false;
        match &mut slot.state {
            KeyClaimState::Taken { by, .. } => Some(ClaimProbe::Taken(TakenKey {
                holder: *by,
                is_reused,
            })),
            KeyClaimState::Pending(waiting) => {
                let (waiter, outcome) = oneshot::channel();
                waiting.push(waiter);
                Some(ClaimProbe::Pending(PendingKey { outcome, is_reused }))
            }
        }
    }

    /// Position before which claims need not stay in memory, since the store of older claims has
    /// them.
    fn archived_end(&self) -> Position {
        match &self.history {
            ClaimHistory::IdempotencyKeys { archive, .. } => archive.end(),
            ClaimHistory::UniqueKeys { written } => *written.borrow(),
        }
    }

    /// Returns true while a key claimed at `claimed_at` is not free again.
    fn is_claim_valid(&self, name: &ClaimKey, claimed_at: Timestamp, now: Timestamp) -> bool {
        match &self.history {
            ClaimHistory::IdempotencyKeys { windows, .. } => {
                claimed_at.saturating_add(windows.window_of(&name.source, &name.key)) > now
            }
            ClaimHistory::UniqueKeys { .. } => true,
        }
    }

    async fn find_earlier_holder(
        &self,
        fingerprint: u64,
        name: &ClaimKey,
    ) -> Result<Option<TakenKey>, ProjectionReadError> {
        match &self.history {
            ClaimHistory::IdempotencyKeys { archive, .. } => {
                self.find_archived_holder(archive, fingerprint, name).await
            }
            ClaimHistory::UniqueKeys { .. } => {
                let position = self.reads.position_of_unique_key(&name.key).await?;
                Ok(position.map(|position| TakenKey {
                    holder: ClaimHolder {
                        position,
                        sequence: Some(1),
                    },
                    is_reused: false,
                }))
            }
        }
    }

    /// Returns the newest archived record that conflicts with this key, if its window has not ended.
    /// A record of the same credential comes before one of another.
    async fn find_archived_holder(
        &self,
        archive: &Arc<ClaimArchive>,
        fingerprint: u64,
        name: &ClaimKey,
    ) -> Result<Option<TakenKey>, ProjectionReadError> {
        let positions = archived_positions(archive, fingerprint).await?;
        let now = self.clock.wall();
        let mut of_others = None;

        for position in positions.into_iter().rev() {
            let stored = match self.reads.await_record(position).await {
                // Records are kept for longer than any window.
                Err(error) if error.is_removed() => break,
                found => found?,
            };
            let Some(stored) = stored else {
                continue;
            };
            if !self.is_claim_valid(name, stored.received_at, now) {
                break;
            }
            let record = &stored.record;
            // Of an erased record the fingerprint is all that is left of its key.
            let is_erased_key = record.erasure
                == Some(ErasureMark::Erased {
                    claim: Some(fingerprint),
                });
            let is_same_request = record
                .signed_request
                .is_some_and(|request| *request.claim_key() == *name.key);
            let is_same_key = record.source == name.source.as_str()
                && (is_erased_key
                    || is_same_request
                    || record.idempotency_key.as_deref() == Some(&name.key));
            if !is_same_key {
                continue;
            }
            if is_erased_key {
                let owner = name.owner.as_ref().map(|owner| owner.credential);
                if owner.is_some() && record.credential.is_some() && owner != record.credential {
                    continue;
                }
                return Ok(Some(TakenKey {
                    holder: ClaimHolder {
                        position,
                        sequence: record.sequence,
                    },
                    is_reused: false,
                }));
            }
            let earlier = record.claim_owner();
            let conflict = KeyConflict::compare(name.owner.as_ref(), earlier.as_ref());
            if conflict == KeyConflict::None {
                continue;
            }
            let taken = TakenKey {
                holder: ClaimHolder {
                    position,
                    sequence: record.sequence,
                },
                is_reused: conflict == KeyConflict::Reused,
            };
            let is_own = |owner: ClaimOwner| Some(owner.credential) == record.credential;
            if name.owner.is_none_or(is_own) {
                return Ok(Some(taken));
            }
            of_others.get_or_insert(taken);
        }

        Ok(of_others)
    }

    fn stripe(&self, fingerprint: u64) -> MutexGuard<'_, ClaimStripe> {
        let stripe = &self.stripes[fingerprint as usize % STRIPES];
        stripe.lock()
    }

    /// Ends a pending claim and returns its waiters.
    fn end_claim(
        &self,
        claim: &KeyClaim,
        holder: Option<ClaimHolder>,
    ) -> Vec<oneshot::Sender<ClaimOutcome>> {
        let claimed_at = self.clock.wall();
        let mut stripe = self.stripe(claim.fingerprint);
        let Some(slots) = stripe.slots.get_mut(&claim.fingerprint) else {
            return Vec::new();
        };

        let Some(index) = slots.iter().position(|slot| slot.key == claim.key) else {
            return Vec::new();
        };

        let old_state = match holder {
            Some(by) => {
                let old_state = std::mem::replace(
                    &mut slots[index].state,
                    KeyClaimState::Taken { by, claimed_at },
                );
                stripe.taken.push_back((by.position, claim.fingerprint));
                old_state
            }
            None => {
                let old_state = slots.swap_remove(index).state;
                if slots.is_empty() {
                    stripe.slots.remove(&claim.fingerprint);
                }
                old_state
            }
        };

        match old_state {
            KeyClaimState::Pending(waiting) => waiting,
            KeyClaimState::Taken { .. } => Vec::new(),
        }
    }
}

/// Returns the positions of all archived claims with this fingerprint, oldest first.
async fn archived_positions(
    archive: &Arc<ClaimArchive>,
    fingerprint: u64,
) -> Result<Vec<Position>, ProjectionReadError> {
    if let Some(positions) = archive.find_in_memory(fingerprint) {
        return Ok(positions);
    }
    let archive = Arc::clone(archive);
    let find = move || archive.find_positions(fingerprint);
    let found = tokio::task::spawn_blocking(find).await;
    Ok(found.map_err(|_| ProjectionReadError::Cancelled)??)
}

/// Returns the slot that conflicts with the new claim `name`, and true if the sender has used the
/// key for another event. A slot of the same credential comes before one of another.
fn find_conflict(slots: &[ClaimSlot], name: &ClaimKey) -> Option<(usize, bool)> {
    let find = |wanted: KeyConflict| {
        slots
            .iter()
            .position(|slot| name.compare(&slot.key) == wanted)
    };
    match find(KeyConflict::Reused) {
        Some(index) => Some((index, true)),
        None => find(KeyConflict::Repeated).map(|index| (index, false)),
    }
}

impl ClaimStripe {
    fn forget_archived(&mut self, end: Position) {
        while let Some((position, fingerprint)) = self
            .taken
            .front()
            .copied()
            .filter(|(position, _)| *position < end)
        {
            self.taken.pop_front();
            let Some(slots) = self.slots.get_mut(&fingerprint) else {
                continue;
            };
            slots.retain(|slot| match slot.state {
                KeyClaimState::Taken { by, .. } => by.position != position,
                KeyClaimState::Pending(_) => true,
            });
            if slots.is_empty() {
                self.slots.remove(&fingerprint);
            }
        }
    }
}

impl KeyClaim {
    /// Marks the key as taken: the event that carries the claim is durable.
    pub(super) fn confirm(mut self, holder: ClaimHolder) {
        self.settled = true;
        let waiting = self.table.end_claim(&self, Some(holder));
        notify_waiters(waiting, ClaimOutcome::Taken(holder));
    }

    /// Frees the key: the event that carries the claim was refused, and a waiter may claim it.
    pub(super) fn release(mut self) {
        self.settled = true;
        let waiting = self.table.end_claim(&self, None);
        notify_waiters(waiting, ClaimOutcome::Freed);
    }
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        if !self.settled {
            // Dropping the waiters closes their channels, which tells them that the outcome is
            // unknown.
            drop(self.table.end_claim(self, None));
        }
    }
}

fn notify_waiters(waiting: Vec<oneshot::Sender<ClaimOutcome>>, outcome: ClaimOutcome) {
    for waiter in waiting {
        // A waiter whose request has ended needs no message.
        let _ = waiter.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A captured request was taken again after the window of keys, while its signature still held.
    #[test]
    fn a_signed_request_is_remembered_for_as_long_as_its_signature_holds() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let tag = SignedRequestTag::from_bytes([7; SignedRequestTag::BYTES]).claim_key();
        let name = InternedName::from_static("shop");
        let windows = IdempotencyWindows(vec![(name, ClaimWindows::new(HOUR, 30 * HOUR))]);
        assert_eq!(windows.window_of("shop", "k-1"), HOUR);
        assert_eq!(windows.window_of("shop", &tag), 30 * HOUR);
        assert_eq!(windows.longest_window(), 30 * HOUR);
        let longer = ClaimWindows::new(2 * HOUR, HOUR);
        assert_eq!((longer.keys, longer.requests), (2 * HOUR, 2 * HOUR));
        assert_eq!(
            windows.window_of("other", &tag),
            IdempotencyWindows::DEFAULT
        );
    }
}

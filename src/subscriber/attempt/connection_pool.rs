//! All open connections to subscribers, under one bound: those in use, and the idle ones.
//!
//! ```text
//!  attempt ──take_idle──> newest idle connection to that origin ──┐
//!     └─────none: acquire_slot, connect                           ├──> exchange ──put_idle──> idle
//!                    └── no slot is free: close the connection that is idle for longest
//! ```
//!
//! As many connections as attempts are allowed, and each attempt holds at most one. So a slot is
//! free, or an idle connection has it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::SubscriberConnection;
use super::delivery_origin::DeliveryOrigin;
use crate::clock::Clock;

/// Time after which an idle connection is closed: less than the 5 s after which common servers
/// (Node, Apache, Uvicorn) close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Pause between two searches for connections that were idle for too long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Pool of connections. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub(super) struct ConnectionPool(Arc<ConnectionPoolInner>);

struct ConnectionPoolInner {
    slots: Arc<Semaphore>,
    state: Mutex<PoolState>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct PoolState {
    idle: IdleConnections<SubscriberConnection>,
    /// Number of callers that wait for a slot. An idle connection would keep it from them.
    waiting: usize,
    /// True while a task looks for connections that were idle for too long.
    is_swept: bool,
    /// Number of times that all connections were to be closed.
    generation: u64,
}

impl ConnectionPool {
    /// Creates a pool of at most `connections_max` connections.
    pub(super) fn new(connections_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(ConnectionPoolInner {
            slots: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            state: Mutex::default(),
            clock,
        }))
    }

    /// Takes the connection to `origin` that was used last, if one is still open.
    pub(super) async fn take_idle(&self, origin: &DeliveryOrigin) -> Option<SubscriberConnection> {
        loop {
            let taken = self.0.state.lock().idle.take_newest(origin);
            let (mut connection, idle_since) = taken?;
            let is_fresh = self.0.clock.monotonic() < idle_since + IDLE_TIMEOUT;
            if is_fresh && connection.is_ready().await {
                return Some(connection);
            }
        }
    }

    /// Waits for a slot for one more connection. Closes an idle connection if none is free.
    pub(super) async fn acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = loop {
            if let Ok(slot) = Arc::clone(&self.0.slots).try_acquire_owned() {
                return Some(slot);
            }
            let oldest = {
                let mut state = self.0.state.lock();
                let oldest = state.idle.take_oldest();
                state.waiting += usize::from(oldest.is_none());
                oldest
            };
            if oldest.is_none() {
                break WaitingCaller(&self.0);
            }
        };

        // Only calls beyond the attempts come here, such as the test of a subscription.
        Arc::clone(&self.0.slots).acquire_owned().await.ok()
    }

    /// Keeps `connection` for the next attempt at `origin`, if it is ready for one and all are still of
    /// the `generation` in which it was taken or opened.
    pub(super) async fn put_idle(
        &self,
        origin: &Arc<DeliveryOrigin>,
        mut connection: SubscriberConnection,
        generation: u64,
    ) {
        if !connection.is_ready().await {
            return;
        }
        let now = self.0.clock.monotonic();
        let mut state = self.0.state.lock();
        if state.waiting > 0 || state.generation != generation {
            drop(state);
            return drop(connection);
        }
        state.idle.put(origin, connection, now);
        if !std::mem::replace(&mut state.is_swept, true) {
            tokio::spawn(sweep_idle(Arc::downgrade(&self.0)));
        }
    }

    /// Closes all idle connections, whose descriptors others need.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.0.state.lock().idle);
        drop(idle);
    }

    /// Returns the generation of the connections that are taken or opened from now on.
    pub(super) fn generation(&self) -> u64 {
        self.0.state.lock().generation
    }

    /// Closes all idle connections, and the others after their attempts.
    pub(super) fn close_all(&self) {
        self.0.state.lock().generation += 1;
        self.close_idle();
    }

    /// Returns the number of connections that may be opened without closing one.
    #[cfg(test)]
    pub(super) fn free_slots(&self) -> usize {
        self.0.slots.available_permits()
    }
}

/// Caller that is counted among those that wait for a slot until it is dropped.
struct WaitingCaller<'a>(&'a ConnectionPoolInner);

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

/// Closes the connections of `pool` that were idle for too long, until there are none.
async fn sweep_idle(pool: Weak<ConnectionPoolInner>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let now = pool.clock.monotonic();
        let mut state = pool.state.lock();
        let expired = state.idle.take_expired(IDLE_TIMEOUT, now);
        let is_last = state.idle.is_empty();
        state.is_swept = !is_last;
        drop(state);
        drop(expired);
        if is_last {
            return;
        }
    }
}

/// Idle connections in the order in which they became idle.
struct IdleConnections<C> {
    by_number: BTreeMap<u64, IdleConnection<C>>,
    /// Numbers of the connections to each origin, ascending.
    by_origin: HashMap<Arc<DeliveryOrigin>, VecDeque<u64>>,
    next_number: u64,
}

struct IdleConnection<C> {
    connection: C,
    origin: Arc<DeliveryOrigin>,
    since: Duration,
}

impl<C> Default for IdleConnections<C> {
    fn default() -> Self {
        Self {
            by_number: BTreeMap::new(),
            by_origin: HashMap::new(),
            next_number: 0,
        }
    }
}

impl<C> IdleConnections<C> {
    fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    fn put(&mut self, origin: &Arc<DeliveryOrigin>, connection: C, now: Duration) {
        let number = self.next_number;
        self.next_number += 1;
        let idle = IdleConnection {
            connection,
            origin: Arc::clone(origin),
            since: now,
        };
        self.by_number.insert(number, idle);
        let numbers = self.by_origin.entry(Arc::clone(origin)).or_default();
        numbers.push_back(number);
    }

    /// Takes the connection to `origin` that became idle last, with the time when it did.
    fn take_newest(&mut self, origin: &DeliveryOrigin) -> Option<(C, Duration)> {
        let numbers = self.by_origin.get_mut(origin)?;
        let number = numbers.pop_back()?;
        if numbers.is_empty() {
            self.by_origin.remove(origin);
        }
        let idle = self.by_number.remove(&number)?;
        Some((idle.connection, idle.since))
    }

    /// Takes the connection that became idle first, of all origins.
    fn take_oldest(&mut self) -> Option<C> {
        let (_, idle) = self.by_number.pop_first()?;
        if let Some(numbers) = self.by_origin.get_mut(&idle.origin) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_origin.remove(&idle.origin);
            }
        }
        Some(idle.connection)
    }

    /// Takes the connections that have been idle for `limit` or longer.
    fn take_expired(&mut self, limit: Duration, now: Duration) -> Vec<C> {
        let mut expired = Vec::new();
        while let Some((_, idle)) = self.by_number.first_key_value()
            && idle.since + limit <= now
        {
            expired.extend(self.take_oldest());
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use url::Host;

    use super::*;

    fn origin(name: &str) -> Arc<DeliveryOrigin> {
        Arc::new(DeliveryOrigin {
            is_checked: true,
            is_tls: true,
            host: Host::Domain(name.to_owned()),
            port: 443,
        })
    }

    #[test]
    fn the_newest_is_used_and_the_oldest_is_closed() {
        let (a, b) = (origin("a.example"), origin("b.example"));
        let mut idle = IdleConnections::default();
        for (number, origin) in [&a, &b, &a, &b, &a].into_iter().enumerate() {
            idle.put(origin, number, Duration::from_secs(number as u64));
        }
        assert_eq!(
            idle.take_newest(&a),
            Some((4, Duration::from_secs(4))),
            "the last that was used is the likeliest to be open"
        );
        assert_eq!(idle.take_oldest(), Some(0));
        let seconds = Duration::from_secs;
        assert!(idle.take_expired(seconds(4), seconds(3)).is_empty());
        assert_eq!(idle.take_expired(seconds(4), seconds(6)), [1, 2]);
        assert_eq!(idle.take_newest(&a), None);
        assert_eq!(idle.take_oldest(), Some(3));
        assert!(idle.is_empty() && idle.by_origin.is_empty());
    }
}

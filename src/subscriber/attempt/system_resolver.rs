//! Resolves names by the operating system, one lookup of each name at a time.
//!
//! A name without a responding name server occupies a thread until the system's resolver gives up,
//! which is later than any attempt does. One such name must not take the threads of other names, so
//! all attempts that need a name at the same time share one lookup. Answers are not cached.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

/// Lookups at once. Each occupies a thread of the blocking pool, which has more threads than these.
pub(in crate::subscriber) const LOOKUPS_MAX: usize = 32;

/// Function that returns the addresses of a name. Blocks.
pub(super) type ResolveFn = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Answer of a lookup, `None` until it has ended. All waiting attempts share the error.
type LookupAnswer = Option<Result<Vec<IpAddr>, Arc<io::Error>>>;

/// Resolver of the operating system. Cheap to clone.
#[derive(Clone)]
pub(super) struct SystemResolver {
    resolve: Arc<ResolveFn>,
    permits: Arc<Semaphore>,
    /// Names whose lookup runs or waits for a permit.
    in_flight: Arc<Mutex<HashMap<String, watch::Receiver<LookupAnswer>>>>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        let ask = |name: &str| {
            Ok((name, 0)
                .to_socket_addrs()?
                .map(|address| address.ip())
                .collect())
        };
        Self::with_resolve_fn(Arc::new(ask), LOOKUPS_MAX)
    }
}

impl SystemResolver {
    /// Creates a resolver that asks `resolve`, for at most `lookups_max` names at once.
    pub(super) fn with_resolve_fn(resolve: Arc<ResolveFn>, lookups_max: usize) -> Self {
        Self {
            resolve,
            permits: Arc::new(Semaphore::new(lookups_max)),
            in_flight: Arc::default(),
        }
    }

    /// Returns the addresses of `name`, the best first.
    ///
    /// # Errors
    /// The name has none, or nobody answered for it.
    pub(super) async fn find_addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut answer = self.join_lookup(name);
        let answer = answer
            .wait_for(Option::is_some)
            .await
            .map_err(io::Error::other)?;
        match answer.as_ref() {
            Some(Ok(found)) => Ok(found.clone()),
            Some(Err(error)) => Err(match error.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io::Error::new(error.kind(), Arc::clone(error)),
            }),
            None => Err(io::Error::other("lookup ended without an answer")),
        }
    }

    /// Returns the receiver of the answer for `name`: of the running lookup, or of a new one.
    fn join_lookup(&self, name: &str) -> watch::Receiver<LookupAnswer> {
        let mut in_flight = self.in_flight.lock();
        // A lookup whose task was aborted has dropped its sender: nothing would come of it.
        if let Some(answer) = in_flight
            .get(name)
            .filter(|answer| answer.has_changed().is_ok())
        {
            return answer.clone();
        }

        let (sender, answer) = watch::channel(None);
        in_flight.insert(name.to_owned(), answer.clone());
        tokio::spawn(self.clone().run_lookup(name.to_owned(), sender));
        answer
    }

    async fn run_lookup(self, name: String, sender: watch::Sender<LookupAnswer>) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        if self.drop_if_abandoned(&name, &sender) {
            return;
        }

        let (resolve, wanted_name) = (Arc::clone(&self.resolve), name.clone());
        let lookup = spawn_blocking(move || {
            // Held until the thread is free again, even if every attempt has given up by then.
            let _permit = permit;
            resolve(&wanted_name)
        });
        let found = lookup
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(Arc::new);

        self.in_flight.lock().remove(&name);
        sender.send_replace(Some(found));
    }

    /// Drops the lookup of `name` if no attempt waits for it any more. Returns true if it did.
    fn drop_if_abandoned(&self, name: &str, sender: &watch::Sender<LookupAnswer>) -> bool {
        let mut in_flight = self.in_flight.lock();
        // One receiver is the one in the map itself.
        let is_abandoned = sender.receiver_count() <= 1;
        if is_abandoned {
            in_flight.remove(name);
        }
        is_abandoned
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Polls `lookup` once, so that it waits for its answer.
    async fn poll_once<F: Future<Output = io::Result<Vec<IpAddr>>>>(lookup: F) -> Pin<Box<F>> {
        let mut lookup = Box::pin(lookup);
        poll_fn(|context| {
            assert!(lookup.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        lookup
    }

    /// One subscriber without a responding name server had held all permits, one for each of its
    /// attempts, and other names waited until the system's resolver gave up.
    #[tokio::test]
    async fn a_name_that_nobody_answers_for_holds_one_place_however_many_ask_for_it() {
        let (gate, closed) = mpsc::channel::<()>();
        let (asked, closed) = (Arc::new(AtomicUsize::new(0)), Mutex::new(closed));
        let counted = Arc::clone(&asked);
        let ask = move |name: &str| {
            if name == "alive.example" {
                return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            // Blocks until the gate is dropped.
            assert!(closed.lock().recv().is_err());
            Err(io::ErrorKind::NotFound.into())
        };
        let system = SystemResolver::with_resolve_fn(Arc::new(ask), 2);
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(poll_once(system.find_addresses("dead.example")).await);
        }
        let alive = timeout(
            Duration::from_secs(60),
            system.find_addresses("alive.example"),
        )
        .await
        .expect("it never came");
        assert_eq!(alive.expect("found"), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        drop(gate);
        for asker in waiting {
            assert_eq!(
                asker.await.expect_err("not found").kind(),
                io::ErrorKind::NotFound
            );
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(system.in_flight.lock().is_empty(), "nothing is remembered");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_looked_up() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let ask = move |_: &str| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(Vec::new())
        };
        let system = SystemResolver::with_resolve_fn(Arc::new(ask), 1);
        let permit = Arc::clone(&system.permits)
            .acquire_owned()
            .await
            .expect("open");
        drop(poll_once(system.find_addresses("given.up")).await);
        drop(permit);
        assert!(
            system
                .find_addresses("another")
                .await
                .expect("asked")
                .is_empty()
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(system.in_flight.lock().is_empty());
    }
}

//! The system's resolver, each name asked for once at a time.
//!
//! A name that nobody answers for occupies a thread until the system gives up, which is later than
//! any attempt does. One such name must not take the threads that others need, so whoever asks for
//! a name that is being looked up waits for the same answer. Nothing is remembered beyond it: what
//! was checked is what is connected to, now.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use super::resolver::{LookupFuture, NameLookup};

/// Names that are looked up at once, each on a thread of the blocking pool, which has more threads
/// than these.
pub(in crate::subscriber) const LOOKUPS_MAX: usize = 32;

/// Asks for the addresses of a name. Blocks.
type ResolveFn = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// What an answer is once there is one; an error is shared by all who wait for it.
type LookupAnswer = Option<Result<Vec<IpAddr>, Arc<io::Error>>>;

/// The system's resolver. Cheap to clone.
#[derive(Clone)]
pub(super) struct SystemResolver {
    resolve: Arc<ResolveFn>,
    permits: Arc<Semaphore>,
    /// The names that are being looked up or wait for a place.
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

impl NameLookup for SystemResolver {
    fn find_addresses(&self, name: &str) -> LookupFuture {
        let mut answer = self.join_lookup(name);
        Box::pin(async move {
            let answer = answer
                .wait_for(Option::is_some)
                .await
                .map_err(io::Error::other)?;
            match answer.as_ref() {
                Some(Ok(found)) => Ok(found.clone()),
                Some(Err(error)) => Err(io::Error::new(error.kind(), Arc::clone(error))),
                None => Err(io::Error::other("there was no answer")),
            }
        })
    }
}

impl SystemResolver {
    fn with_resolve_fn(resolve: Arc<ResolveFn>, lookups_max: usize) -> Self {
        Self {
            resolve,
            permits: Arc::new(Semaphore::new(lookups_max)),
            in_flight: Arc::default(),
        }
    }

    /// Where the answer for `name` will be: that of the look-up under way, or of one that begins
    /// now.
    fn join_lookup(&self, name: &str) -> watch::Receiver<LookupAnswer> {
        let mut under_way = self.in_flight.lock();
        // One whose look-up ended without an answer, with the thread that it was on, is none.
        if let Some(answer) = under_way
            .get(name)
            .filter(|answer| answer.has_changed().is_ok())
        {
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        under_way.insert(name.to_owned(), answer.clone());
        tokio::spawn(self.clone().run_lookup(name.to_owned(), sender));
        answer
    }

    async fn run_lookup(self, name: String, sender: watch::Sender<LookupAnswer>) {
        let place = Arc::clone(&self.permits).acquire_owned().await;
        if self.drop_if_abandoned(&name, &sender) {
            return;
        }
        let (ask, asked) = (Arc::clone(&self.resolve), name.clone());
        let found = spawn_blocking(move || {
            // Held until the thread is free again, although nobody may wait for it any more.
            let _place = place;
            ask(&asked)
        });
        let found = found
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(Arc::new);
        self.in_flight.lock().remove(&name);
        sender.send_replace(Some(found));
    }

    /// Whether nobody waits for the answer any more, so that it is not looked for.
    fn drop_if_abandoned(&self, name: &str, sender: &watch::Sender<LookupAnswer>) -> bool {
        let mut under_way = self.in_flight.lock();
        // The one that is kept for whoever comes is no one's.
        let is_given_up = sender.receiver_count() <= 1;
        if is_given_up {
            under_way.remove(name);
        }
        is_given_up
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Waits until `asker` waits for its answer.
    async fn begun(mut asker: LookupFuture) -> LookupFuture {
        poll_fn(|context| {
            assert!(asker.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        asker
    }

    /// One subscriber whose name nobody answers for held all places, each of its attempts one, and
    /// the others' names waited behind them for as long as the system's resolver is patient.
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
            // Until the gate is dropped.
            assert!(closed.lock().recv().is_err());
            Err(io::ErrorKind::NotFound.into())
        };
        let system = SystemResolver::with_resolve_fn(Arc::new(ask), 2);
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(begun(system.find_addresses("dead.example")).await);
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
        let place = Arc::clone(&system.permits)
            .acquire_owned()
            .await
            .expect("open");
        drop(begun(system.find_addresses("given.up")).await);
        drop(place);
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

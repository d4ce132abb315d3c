//! Reading that is costly to make, and is shared by all who ask within a short time.
//!
//! ```text
//!  first reader ──makes it──┐
//!  second reader ──waits────┴──> both get it ── third reader, soon after ──> gets the same
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

/// Value that is made at most once in a while, and by one reader at a time.
#[derive(Debug)]
pub(crate) struct SharedReading<T> {
    life: Duration,
    held: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> SharedReading<T> {
    /// Creates a reading that is made again when it is older than `life`.
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            life,
            held: Mutex::new(None),
        }
    }

    /// Returns the value that is held, or makes it with `read`, which must end in time: all readers
    /// wait for it.
    pub(crate) async fn get_or_read(&self, read: impl Future<Output = T>) -> T {
        let mut held = self.held.lock().await;
        if let Some((made_at, value)) = &*held
            && made_at.elapsed() < self.life
        {
            return value.clone();
        }

        let value = read.await;
        *held = Some((Instant::now(), value.clone()));
        value
    }
}

/// Reader of a disk that may hang. Each read has a time limit, and a read that hangs for longer holds one
/// thread, not one for each reader that comes later.
#[derive(Debug)]
pub(crate) struct DiskReader {
    limit: Duration,
    permit: Arc<Semaphore>,
}

impl DiskReader {
    /// Creates a reader that waits for a read for `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            permit: Arc::new(Semaphore::new(1)),
        }
    }

    /// Runs `read`, which blocks, on a thread of its own. Returns `None` if it takes too long, and at
    /// once while an earlier one is under way.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.permit).try_acquire_owned().ok()?;
        let reading = spawn_blocking(move || {
            let value = read();
            drop(permit);
            value
        });
        timeout(self.limit, reading).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readers_within_the_life_share_one_reading() {
        let reading = SharedReading::new(Duration::from_secs(1));
        let made = Cell::new(0);
        let read = || async {
            tokio::time::advance(Duration::from_millis(10)).await;
            made.set(made.get() + 1);
            made.get()
        };
        let both = tokio::join!(reading.get_or_read(read()), reading.get_or_read(read()));
        assert_eq!(both, (1, 1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(reading.get_or_read(read()).await, 2);
    }

    /// A disk that hung held every reader of the overview for as long.
    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_is_given_up_and_no_other_is_begun_meanwhile() {
        let limit = Duration::from_secs(1);
        let reader = DiskReader::new(limit);
        let (release, hung) = mpsc::channel::<()>();
        let hang = reader.run(move || hung.recv().is_ok());
        let (given_up, ()) = tokio::join!(hang, tokio::time::advance(limit));
        assert_eq!(given_up, None);
        assert_eq!(reader.run(|| ()).await, None);

        release.send(()).expect("the read waits");
        drop(reader.permit.acquire().await.expect("open"));
        assert_eq!(reader.run(|| 7).await, Some(7));
    }
}

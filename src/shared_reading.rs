//! Reading that is costly to make, and is shared by all who ask within a short time.
//!
//! ```text
//!  first reader ──makes it──┐
//!  second reader ──waits────┴──> both get it ── third reader, soon after ──> gets the same
//! ```

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

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

    /// Returns the value that is held, or makes it with `read`.
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
}

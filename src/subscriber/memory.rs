//! Memory: the bound of what waits for all subscribers together. The less of it is left, the less
//! may wait for any one of them, so that those that do not answer, however many they are, leave
//! some to whoever comes next.

use std::cell::Cell;

/// What part of what is left one subscriber may have.
const WINDOW_DIVISOR: usize = 4;

/// What may wait for a subscriber in any case, so that its deliveries go on.
const WINDOW_BYTES_MIN: usize = 16 * 1024;

/// What waits in memory for all subscribers of the stage.
#[derive(Debug)]
pub(super) struct DeliveryMemory {
    max_bytes: usize,
    held_bytes: Cell<usize>,
}

impl DeliveryMemory {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            held_bytes: Cell::default(),
        }
    }

    /// How many bytes may wait now for a subscriber for which no more than `window_bytes` may wait
    /// at any time.
    pub(super) fn available_window(&self, window_bytes: usize) -> usize {
        let left = self.max_bytes.saturating_sub(self.held_bytes.get());
        (left / WINDOW_DIVISOR)
            .max(WINDOW_BYTES_MIN)
            .min(window_bytes)
    }

    /// Notes that `now` bytes wait for one of them, where `before` did.
    pub(super) fn update_held(&self, before: usize, now: usize) {
        self.held_bytes
            .set((self.held_bytes.get() + now).saturating_sub(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waited for each had a bound of its own only: two hundred that hung took a gigabyte.
    #[test]
    fn however_many_hold_what_they_may_all_of_them_keep_to_the_bound_and_the_next_gets_some() {
        const MAX: usize = 128 << 20;
        const WINDOW: usize = 8 << 20;
        let memory = DeliveryMemory::new(MAX);
        assert_eq!(
            memory.available_window(WINDOW),
            WINDOW,
            "one alone has all of its own window"
        );
        let mut held = Vec::new();
        for _ in 0..1_000 {
            let window = memory.available_window(WINDOW);
            memory.update_held(0, window);
            held.push(window);
        }
        assert!(held.iter().sum::<usize>() <= MAX + 1_000 * WINDOW_BYTES_MIN);
        assert_eq!(memory.available_window(WINDOW), WINDOW_BYTES_MIN);
        assert_eq!(memory.available_window(9), 9);
        held.iter()
            .for_each(|window| memory.update_held(*window, 0));
        assert_eq!(memory.available_window(WINDOW), WINDOW);
    }
}

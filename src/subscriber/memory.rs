//! Memory bound of the records that wait for all subscribers together. Each subscriber's window
//! shrinks with the memory that is left, so subscribers that do not answer always leave some to the
//! others.

use std::cell::Cell;

/// One subscriber's window is at most this fraction of the free memory.
const WINDOW_DIVISOR: usize = 4;

/// Window that every subscriber has even when no memory is free, so that its deliveries go on.
const WINDOW_BYTES_MIN: usize = 16 * 1024;

/// Memory of the records that wait for all subscribers of the stage.
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

    /// Current window in bytes of a subscriber whose own limit is `window_bytes`.
    pub(super) fn available_window(&self, window_bytes: usize) -> usize {
        let free = self.max_bytes.saturating_sub(self.held_bytes.get());
        (free / WINDOW_DIVISOR)
            .max(WINDOW_BYTES_MIN)
            .min(window_bytes)
    }

    /// Replaces a subscriber's share of `before` bytes by `now` bytes.
    pub(super) fn update_held(&self, before: usize, now: usize) {
        self.held_bytes
            .set((self.held_bytes.get() + now).saturating_sub(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each subscriber had a bound of its own only: two hundred that hung took a gigabyte.
    #[test]
    fn a_thousand_full_windows_keep_to_the_bound_and_leave_room_for_the_next() {
        const MAX: usize = 128 << 20;
        const WINDOW: usize = 8 << 20;
        let memory = DeliveryMemory::new(MAX);
        assert_eq!(
            memory.available_window(WINDOW),
            WINDOW,
            "a single subscriber has its whole window"
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

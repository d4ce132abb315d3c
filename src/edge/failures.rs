//! Failed authentications, counted per client address: a caller that guesses is answered 429 instead of 401.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::address;
use super::limit::{Quota, Window};

/// The most addresses that are remembered: a few MiB at the default limit. Beyond it the one that failed longest ago is forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// The windows of failing addresses.
#[derive(Debug)]
pub struct Failures {
    per_minute: u32,
    table: Mutex<Table>,
}

impl Failures {
    /// Lets each address fail `per_minute` times in any minute; 0 means as often as it likes.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, table: Mutex::new(Table::new(ADDRESSES_MAX)) }
    }

    /// Counts one failure of `address`.
    ///
    /// # Errors
    /// The quota that is used up, when it has failed too often.
    pub fn count(&self, address: IpAddr, now: Duration) -> Result<(), Quota> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.count(address::network(address), self.per_minute, now)
    }
}

/// At most `capacity` windows, each findable by address and by how long ago it was touched.
#[derive(Debug)]
struct Table {
    capacity: usize,
    windows: HashMap<IpAddr, (Duration, Window)>,
    by_age: BTreeSet<(Duration, IpAddr)>,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self { capacity, windows: HashMap::new(), by_age: BTreeSet::new() }
    }

    fn count(&mut self, address: IpAddr, per_minute: u32, now: Duration) -> Result<(), Quota> {
        if !self.windows.contains_key(&address) {
            let Some(window) = Window::try_new(per_minute) else { return Ok(()) };
            self.make_room();
            self.windows.insert(address, (now, window));
        }
        let Some((touched, window)) = self.windows.get_mut(&address) else { return Ok(()) };
        self.by_age.remove(&(*touched, address));
        self.by_age.insert((now, address));
        *touched = now;
        window.admit(now).map(drop)
    }

    fn make_room(&mut self) {
        while self.windows.len() >= self.capacity {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.windows.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_address_fails_so_often_and_then_is_told_to_wait() {
        let failures = Failures::new(2);
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert!(failures.count(one, at(0)).is_ok());
        assert!(failures.count(one, at(1)).is_ok());
        assert_eq!(failures.count(one, at(2)).map_err(|quota| quota.reset), Err(at(58)));
        assert!(failures.count(other, at(2)).is_ok());
        assert!(failures.count(one, at(60)).is_ok());
    }

    #[test]
    fn zero_counts_nothing() {
        let failures = Failures::new(0);
        assert!((0..1_000).all(|_| failures.count([10, 0, 0, 1].into(), at(0)).is_ok()));
        assert!(failures.table.lock().expect("not poisoned").windows.is_empty());
    }

    #[test]
    fn the_address_that_failed_longest_ago_makes_room() {
        let mut table = Table::new(2);
        let [a, b, c]: [IpAddr; 3] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [10, 0, 0, 3].into()];
        for (address, moment) in [(a, 0), (b, 1), (a, 2), (c, 3)] {
            assert!(table.count(address, 5, at(moment)).is_ok());
        }
        assert!(table.windows.contains_key(&a) && table.windows.contains_key(&c));
        assert!(!table.windows.contains_key(&b));
    }

    proptest! {
        #[test]
        fn the_table_stays_bounded_and_consistent(calls in prop::collection::vec((any::<u8>(), 0_u64..50), 1..300)) {
            let mut table = Table::new(16);
            for (last, moment) in calls {
                let _ = table.count([10, 0, 0, last].into(), 3, at(moment));
                prop_assert!(table.windows.len() <= 16);
                prop_assert_eq!(table.windows.len(), table.by_age.len());
            }
        }
    }
}

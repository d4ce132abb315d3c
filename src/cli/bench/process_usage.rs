//! Processor time and memory of a process, read from `/proc` (Linux; nothing elsewhere).

use std::fs;
use std::time::Duration;

/// Ticks a second in `/proc`, the same on all Linux systems in use.
const TICKS_PER_SECOND: u64 = 100;

/// Usage of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessUsage {
    /// Time on a processor, over all threads.
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
}

impl ProcessUsage {
    /// Reads the usage of the process `id`; `None` if it is gone, or without `/proc`.
    pub(super) fn read(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        Self::parse(&stat, &status)
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The fields after the name, which may contain spaces; the first one is the third of all.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut times = fields.split(' ').skip(11);
        let mut next_ticks = || times.next()?.parse::<u64>().ok();
        let ticks = next_ticks()? + next_ticks()?;

        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self {
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
            resident_bytes: kilobytes * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 9 0 77 1 2";
        let status = "Name:\ta) b\nVmPeak:\t  9000 kB\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        let usage = ProcessUsage::parse(stat, status).expect("complete");
        assert_eq!(usage.cpu, Duration::from_secs(2));
        assert_eq!(usage.resident_bytes, 2 * 1024 * 1024);
        assert_eq!(ProcessUsage::parse("", ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        let usage = ProcessUsage::read(std::process::id()).expect("it is there");
        assert!(usage.resident_bytes > 100_000);
    }
}

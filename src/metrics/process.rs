//! Metrics of the operating system's process, under the names that Prometheus clients agree on
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fs;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Reads what the operating system says of this process. Values that it does not tell are left
/// out: they are read from `/proc`, which only Linux has.
pub(super) fn read_process_metrics() -> Registry {
    let mut registry = Registry::default();

    if let Some(stat) = read_stat() {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        registry.register(
            "process_cpu_seconds",
            "CPU time of the process, user and system",
            ConstCounter::new(stat.cpu_ticks as f64 / ticks),
        );
        add_gauge(
            &mut registry,
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM",
            stat.resident_bytes() as f64,
        );
        add_gauge(
            &mut registry,
            "process_threads",
            "Threads of the process",
            stat.threads as f64,
        );
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        add_gauge(
            &mut registry,
            "process_open_fds",
            "Open file descriptors",
            entries.count() as f64,
        );
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        add_gauge(
            &mut registry,
            "process_max_fds",
            "Bound of open file descriptors",
            limit as f64,
        );
    }
    registry
}

fn add_gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    registry.register(name, help, ConstGauge::new(value));
}

/// Fields that are read from `/proc/self/stat`, as proc_pid_stat(5) describes them.
struct ProcessStat {
    cpu_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

impl ProcessStat {
    fn resident_bytes(&self) -> u64 {
        self.resident_pages * rustix::param::page_size() as u64
    }
}

/// Returns the memory of this process that is in RAM, in bytes; `None` where `/proc` is missing.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    read_stat().map(|stat| stat.resident_bytes())
}

fn read_stat() -> Option<ProcessStat> {
    parse_stat(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_stat(text: &str) -> Option<ProcessStat> {
    // The name in parentheses may itself hold spaces and parentheses.
    let (_, after_name) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // Fields are numbered from 1 in the manual, and the first one here is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessStat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_spaces_and_parentheses() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 100 4096 33 18";
        let stat = parse_stat(text).expect("parses");
        assert_eq!(
            (stat.cpu_ticks, stat.threads, stat.resident_pages),
            (300, 9, 33)
        );
        assert!(parse_stat("7 (a) S 1").is_none());
    }
}

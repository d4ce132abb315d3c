//! Description of the machine, without which no figure says anything.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// File systems in memory, by the numbers of `statfs(2)`: nothing there reaches a disk.
const MEMORY_FILE_SYSTEMS: [i128; 2] = [0x0102_1994, 0x8584_58f6];

/// Machine that runs the benchmark, as far as it is known.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MachineDescription {
    pub(super) processor: Option<String>,
    pub(super) cores: usize,
    pub(super) memory_gib: Option<f64>,
    pub(super) kernel: Option<String>,
    /// Load of the machine before the run: processes that run or wait, over the last minute.
    pub(super) load_before: Option<f64>,
}

impl MachineDescription {
    pub(super) fn read() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            processor: find_field(&cpu, "model name").map(str::to_owned),
            cores: count_cores(),
            memory_gib: find_field(&memory, "MemTotal").and_then(parse_gib),
            kernel: kernel.map(|release| format!("Linux {}", release.trim())),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()),
        }
    }

    /// Formats the machine as one line.
    pub(super) fn describe(&self) -> String {
        let mut parts = vec![format!(
            "{} × {}",
            self.cores,
            self.processor.as_deref().unwrap_or("unknown processor")
        )];
        parts.extend(self.memory_gib.map(|gib| format!("{gib:.1} GiB")));
        parts.extend(self.kernel.clone());
        parts.extend(self.load_before.map(|load| format!("load {load} before")));
        parts.join(", ")
    }
}

/// Number of processors that this process may use.
pub(super) fn count_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Tells if files in `folder` are in memory only, so that a sync costs nothing.
pub(super) fn is_in_memory(folder: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::statfs(folder)
            .is_ok_and(|stat| MEMORY_FILE_SYSTEMS.contains(&i128::from(stat.f_type)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (folder, MEMORY_FILE_SYSTEMS);
        false
    }
}

/// Returns the value of the first line `name : value`.
fn find_field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

fn parse_gib(text: &str) -> Option<f64> {
    let kilobytes: f64 = text.strip_suffix(" kB")?.parse().ok()?;
    Some((kilobytes / 1024.0 / 1024.0 * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.5GHz\nMemTotal:  8388608 kB\n";
        assert_eq!(find_field(text, "model name"), Some("Some CPU @ 2.5GHz"));
        assert_eq!(find_field(text, "MemTotal").and_then(parse_gib), Some(8.0));
        assert_eq!(find_field(text, "other"), None);
    }

    #[test]
    fn the_machine_is_one_line() {
        let line = MachineDescription::read().describe();
        assert!(line.contains(" × ") && !line.contains('\n'), "{line}");
    }
}

//! Report as JSON, for scripts.

use std::fs;
use std::path::Path;

use super::BenchReport;
use crate::cli::bench::error::BenchError;

/// Writes the whole report to the file at `path`.
pub(in crate::cli::bench) fn write_report(
    report: &BenchReport,
    path: &Path,
) -> Result<(), BenchError> {
    let mut text = serde_json::to_string_pretty(report).expect("numbers and texts");
    text.push('\n');
    fs::write(path, text).map_err(|source| BenchError::ReportFile {
        path: path.to_owned(),
        source,
    })
}

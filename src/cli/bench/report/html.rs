//! Report as a page with plots, in one file.

use std::fs;
use std::path::Path;

use super::BenchReport;
use crate::cli::bench::error::BenchError;

/// Writes the page to the file at `path`.
pub(in crate::cli::bench) fn write_report(
    report: &BenchReport,
    path: &Path,
) -> Result<(), BenchError> {
    fs::write(path, &report.command).map_err(|source| BenchError::ReportFile {
        path: path.to_owned(),
        source,
    })
}

//! Report as text for a terminal.

use std::io::{self, Write};

use super::{BenchReport, describe_verdict, figure_lines, latency_rows, verdict_rows};
use crate::cli::terminal_text::print_table;

/// Prints the whole report, with its tables.
pub(in crate::cli::bench) fn print_report(
    report: &BenchReport,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<11}{text}");
    line("target", &report.target)?;
    line("machine", &report.machine.describe())?;
    line("load", &report.load.describe())?;
    line("repeat", &report.command)?;
    for remark in &report.remarks {
        line("note", remark)?;
    }
    writeln!(out)?;

    print_rows(&latency_rows(report), out)?;
    writeln!(out)?;
    for (name, text) in figure_lines(report) {
        writeln!(out, "{name:<11}{text}")?;
    }
    writeln!(out)?;
    print_rows(&verdict_rows(report), out)?;
    writeln!(out, "{}", describe_verdict(report))
}

fn print_rows(rows: &[[String; 8]], out: &mut impl Write) -> io::Result<()> {
    match rows.split_first() {
        Some((heading, rows)) => print_table(heading.each_ref().map(String::as_str), rows, out),
        None => Ok(()),
    }
}

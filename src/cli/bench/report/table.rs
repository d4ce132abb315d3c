//! Report as text for a terminal.

use std::io::{self, Write};

use super::{BenchReport, SubscriberVerdict};
use crate::cli::bench::latency::LatencySummary;
use crate::cli::bench::order_audit::OrderVerdict;
use crate::cli::plural::format_count;
use crate::cli::terminal_text::print_table;

/// Prints the whole report.
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

    print_latencies(report, out)?;
    writeln!(out)?;
    print_figures(report, out)?;
    writeln!(out)?;
    print_verdict(report, out)
}

fn print_latencies(report: &BenchReport, out: &mut impl Write) -> io::Result<()> {
    let heading = [
        "",
        "events",
        "per second",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
    ];
    let row = |name: &str, events: u64, per_second: f64, latency: &LatencySummary| {
        [
            name.to_owned(),
            events.to_string(),
            format!("{per_second:.0}"),
            millis(latency.p50_ms),
            millis(latency.p90_ms),
            millis(latency.p99_ms),
            millis(latency.p999_ms),
            millis(latency.max_ms),
        ]
    };
    let accept = &report.accept;
    let mut rows = vec![row(
        "accepted",
        accept.events,
        accept.per_second,
        &accept.latency,
    )];
    if let Some(delivery) = &report.delivery {
        let (events, per_second) = (delivery.events, delivery.per_second);
        if let Some(latency) = &delivery.latency {
            rows.push(row("delivered, end to end", events, per_second, latency));
        }
        if let Some(latency) = &delivery.faulty_latency {
            rows.push(row("… to faulty subscribers", events, per_second, latency));
        }
    }
    if let Some(baseline) = &report.baseline {
        rows.push(row(
            "bare handler",
            accept.events,
            baseline.per_second,
            &baseline.latency,
        ));
    }
    print_table(heading, &rows, out)
}

fn print_figures(report: &BenchReport, out: &mut impl Write) -> io::Result<()> {
    let mut line = |name: &str, text: String| writeln!(out, "{name:<11}{text}");
    let entities = &report.entities;
    line(
        "entities",
        format!(
            "{} with events; events a second of one: {:.2} at least, {:.2} median, {:.2} at most",
            entities.entities,
            entities.min_per_second,
            entities.median_per_second,
            entities.max_per_second
        ),
    )?;
    if let Some(node) = &report.node {
        let per = match report.delivery {
            Some(_) => "accepted and delivered event",
            None => "accepted event",
        };
        line(
            "node",
            format!(
                "{:.1} µs of processor time for each {per}, {:.2} cores busy, {:.0} MiB of memory \
                 (at most {:.0})",
                node.cpu_us_per_event, node.cores, node.resident_mib, node.resident_max_mib
            ),
        )?;
    }
    if let Some(generator) = &report.generator {
        line(
            "generator",
            format!(
                "{:.2} cores busy with sending and receiving, {:.0} % of the machine",
                generator.cores,
                generator.machine_share * 100.0
            ),
        )?;
    }
    if let Some(baseline) = &report.baseline {
        let cpu = match (baseline.cpu_us_per_event, baseline.cpu_ratio) {
            (Some(us), Some(ratio)) => {
                format!(
                    "; {us:.1} µs of processor time for each event, the node takes {ratio:.2} times that"
                )
            }
            (_, _) => String::new(),
        };
        line(
            "baseline",
            format!(
                "accepted at {:.3} of the bare handler's rate{cpu}",
                baseline.accept_ratio
            ),
        )?;
    }
    if let Some(kills) = &report.kills {
        line(
            "kills",
            format!(
                "{}; ready again after {:.2} s (median), {:.2} s at most",
                format_count(kills.kills as u64, "kill", "kills"),
                kills.ready_median_s,
                kills.ready_max_s
            ),
        )?;
    }
    if let Some(text) = describe_retries(report) {
        line("retries", text)?;
    }
    Ok(())
}

fn describe_retries(report: &BenchReport) -> Option<String> {
    let retries = &report.retries;
    let mut parts: Vec<_> = retries
        .by_status
        .iter()
        .map(|(status, count)| format!("{count} after {status}"))
        .collect();
    if retries.unanswered > 0 {
        parts.push(format!("{} after no answer", retries.unanswered));
    }
    if parts.is_empty() {
        return None;
    }
    let known = format_count(retries.known_already, "event was", "events were");
    Some(format!(
        "requests sent again: {}; {known} in already",
        parts.join(", ")
    ))
}

fn print_verdict(report: &BenchReport, out: &mut impl Write) -> io::Result<()> {
    let heading = [
        "verdict",
        "events",
        "swaps",
        "gaps",
        "doubles",
        "losses",
        "foreign",
        "redeliveries",
    ];
    let row = |name: &str, events: u64, order: &OrderVerdict| {
        let faults = [
            order.swaps,
            order.gaps,
            order.doubles,
            order.losses,
            order.foreign,
            order.repetitions,
        ];
        let mut cells = std::array::from_fn(|_| String::new());
        cells[0] = name.to_owned();
        cells[1] = events.to_string();
        for (cell, count) in cells[2..].iter_mut().zip(faults) {
            *cell = count.to_string();
        }
        cells
    };
    let mut rows = Vec::new();
    if let Some(store) = &report.verdict.store {
        rows.push(row("store", report.accept.events, store));
    }
    for subscriber in &report.verdict.subscribers {
        rows.push(row(
            &subscriber.name,
            subscriber.deliveries,
            &subscriber.order,
        ));
    }
    if !rows.is_empty() {
        print_table(heading, &rows, out)?;
    }
    let unsigned = |subscriber: &SubscriberVerdict| subscriber.wrongly_signed;
    let unsigned: u64 = report.verdict.subscribers.iter().map(unsigned).sum();
    if unsigned > 0 {
        let deliveries = format_count(unsigned, "delivery was", "deliveries were");
        writeln!(out, "{deliveries} wrongly signed")?;
    }
    match report.verdict.is_clean {
        true if rows.is_empty() => writeln!(out, "nothing was checked: there is no subscriber"),
        true => writeln!(
            out,
            "clean: every acknowledged event is there once, and in order"
        ),
        false => writeln!(out, "NOT CLEAN: {}", report.verdict.describe_faults()),
    }
}

/// Formats milliseconds with as many digits as a person compares.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

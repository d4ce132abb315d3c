//! Report as a page with plots, in one file that needs nothing else.

use std::fs;
use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::{PlotAxis, PlotLine, ReportPlot};
use super::{BenchReport, describe_verdict, figure_lines, format_ms, latency_rows, verdict_rows};
use crate::cli::bench::error::BenchError;
use crate::cli::bench::latency::{LatencyInterval, LatencyQuantile};

const STYLE: &str = include_str!("report.css");

/// Writes the page to the file at `path`.
pub(in crate::cli::bench) fn write_report(
    report: &BenchReport,
    path: &Path,
) -> Result<(), BenchError> {
    let page = render_page(report).into_string();
    fs::write(path, page).map_err(|source| BenchError::ReportFile {
        path: path.to_owned(),
        source,
    })
}

fn render_page(report: &BenchReport) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "hookyard bench" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Order under load" }
                p.note { (report.target) ". " (report.load.describe()) "." }
                div class=(if report.verdict.is_clean { "verdict" } else { "verdict bad" }) {
                    (describe_verdict(report))
                }
                (render_tiles(report))
                (render_table(&verdict_rows(report), true))
                div.plots { @for plot in build_plots(report) { (plot.render()) } }
                (render_table(&latency_rows(report), false))
                dl {
                    @for (name, text) in figure_lines(report) { dt { (name) } dd { (text) } }
                    dt { "machine" } dd { (report.machine.describe()) }
                    dt { "version" } dd { (report.version) }
                    @for remark in &report.remarks { dt { "note" } dd { (remark) } }
                }
                p.note { "The same run again:" }
                code { (report.command) }
            }
        }
    }
}

fn render_tiles(report: &BenchReport) -> Markup {
    let accept = &report.accept;
    let mut tiles = vec![
        (format!("{:.0}/s", accept.per_second), "accepted"),
        (format_ms(accept.latency.p50_ms), "answer, p50"),
        (format_ms(accept.latency.p99_ms), "answer, p99"),
    ];
    if let Some(delivery) = &report.delivery {
        tiles.push((format!("{:.0}/s", delivery.per_second), "delivered"));
        let latency = delivery.latency.or(delivery.faulty_latency);
        tiles.extend(latency.map(|latency| (format_ms(latency.p99_ms), "end to end, p99")));
    }
    if let Some(node) = &report.node {
        let cpu = format!("{:.0} µs", node.cpu_us_per_event);
        tiles.push((cpu, "processor time per event"));
        tiles.push((
            format!("{:.0} MiB", node.resident_max_mib),
            "memory at most",
        ));
    }
    html! {
        div.tiles { @for (figure, name) in tiles { div { b { (figure) } span { (name) } } } }
    }
}

/// Renders rows under their headings. In a table of faults a count above 0 stands out.
fn render_table(rows: &[[String; 8]], has_faults: bool) -> Markup {
    let is_fault =
        |column: usize, cell: &str| has_faults && (2..7).contains(&column) && cell != "0";
    let Some((heading, rows)) = rows.split_first() else {
        return html! {};
    };
    html! {
        div.wide {
            table {
                tr { @for name in heading { th { (name) } } }
                @for row in rows {
                    tr {
                        @for (column, cell) in row.iter().enumerate() {
                            td class=[is_fault(column, cell).then_some("bad")] { (cell) }
                        }
                    }
                }
            }
        }
    }
}

fn build_plots(report: &BenchReport) -> Vec<ReportPlot> {
    let accept = &report.accept;
    let delivery = report.delivery.as_ref();
    let delivered = delivery.map_or(&[][..], |delivery| &delivery.intervals);
    let end = delivery.map_or(accept.seconds, |delivery| {
        delivery.seconds.max(accept.seconds)
    });
    let kills = report.kills.as_ref();
    let bands: Vec<_> = kills.map_or_else(Vec::new, |kills| kills.spans_s.clone());

    let mut rates = vec![PlotLine {
        name: "accepted",
        points: points(&accept.intervals, |interval| interval.per_second),
    }];
    if delivery.is_some_and(|delivery| delivery.latency.is_some()) {
        rates.push(PlotLine {
            name: "delivered",
            points: points(delivered, |interval| interval.per_second),
        });
    }
    let mut plots = vec![ReportPlot {
        title: "Events a second",
        note: "Deliveries count at subscribers without a fault.".to_owned(),
        x: PlotAxis::seconds(end),
        y: PlotAxis::linear(heights(&rates), ""),
        lines: rates,
        bands: bands.clone(),
    }];
    plots.push(latency_plot(
        "Time to the answer",
        "From the time at which an event is due, over all its requests.",
        &accept.intervals,
        (end, &bands),
    ));
    if !delivered.is_empty() {
        plots.push(latency_plot(
            "Time to the delivery",
            "From the time at which an event is due to its arrival at a subscriber.",
            delivered,
            (end, &bands),
        ));
    }
    plots.push(distribution_plot(report));
    plots
}

fn latency_plot(
    title: &'static str,
    note: &str,
    intervals: &[LatencyInterval],
    (end, bands): (f64, &[(f64, f64)]),
) -> ReportPlot {
    let lines = vec![
        PlotLine {
            name: "p50",
            points: points(intervals, |interval| interval.p50_ms),
        },
        PlotLine {
            name: "p99",
            points: points(intervals, |interval| interval.p99_ms),
        },
    ];
    ReportPlot {
        title,
        note: note.to_owned(),
        x: PlotAxis::seconds(end),
        y: PlotAxis::logarithmic_ms(heights(&lines)),
        lines,
        bands: bands.to_vec(),
    }
}

fn distribution_plot(report: &BenchReport) -> ReportPlot {
    let line = |name, quantiles: &[LatencyQuantile]| PlotLine {
        name,
        points: quantiles
            .iter()
            .map(|point| (point.share, point.ms))
            .collect(),
    };
    let mut lines = vec![line("answer", &report.accept.quantiles)];
    if let Some(delivery) = &report.delivery {
        lines.push(line("delivery", &delivery.quantiles));
    }
    if let Some(baseline) = &report.baseline {
        lines.push(line("answer of the bare handler", &baseline.quantiles));
    }
    let shares = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(share, _)| *share);
    ReportPlot {
        title: "Distribution of the latencies",
        note: "This share of all events took at most so long.".to_owned(),
        x: PlotAxis::tail(shares.fold(0.9, f64::max)),
        y: PlotAxis::logarithmic_ms(heights(&lines)),
        lines,
        bands: Vec::new(),
    }
}

fn points(intervals: &[LatencyInterval], value: fn(&LatencyInterval) -> f64) -> Vec<(f64, f64)> {
    let point = |interval: &LatencyInterval| (interval.at_s, value(interval));
    intervals.iter().map(point).collect()
}

fn heights(lines: &[PlotLine]) -> Vec<f64> {
    let points = lines.iter().flat_map(|line| &line.points);
    points.map(|(_, y)| *y).collect()
}

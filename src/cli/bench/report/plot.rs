//! Plots of the report, as SVG with axes: lines over time, and the distribution of latencies.

use maud::{Markup, html};

use crate::plot_lines::{format_points, format_rate, round_up_scale};

/// Size of a plot, and the margins of its axes.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 28.0;

/// Parts of a scale that begins at 0, and most labels of an axis of seconds.
const LINEAR_PARTS: u32 = 4;
const SECONDS_LABELS_MAX: f64 = 8.0;

/// Plot of several lines, with its axes.
pub(super) struct ReportPlot {
    pub(super) title: &'static str,
    /// Sentence that stands below the title.
    pub(super) note: String,
    pub(super) x: PlotAxis,
    pub(super) y: PlotAxis,
    pub(super) lines: Vec<PlotLine>,
    /// Times in which something happened to the node, from and until, on the x axis.
    pub(super) bands: Vec<(f64, f64)>,
}

/// Line of a plot; points without a finite place are left out.
pub(super) struct PlotLine {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Axis: a scale from values to a share of the axis, with labels.
pub(super) struct PlotAxis {
    scale: PlotScale,
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy)]
enum PlotScale {
    /// From 0 to this value.
    Linear(f64),
    /// Between two powers of ten.
    Logarithmic(f64, f64),
    /// Shares of a distribution, with as much room for 90 % to 99 % as for 99 % to 99.9 %; the last
    /// share.
    Tail(f64),
}

impl PlotAxis {
    /// Makes an axis from 0 to at least the highest of `values`. `unit` follows each label.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>, unit: &str) -> Self {
        let highest = values.into_iter().fold(0.0, f64::max);
        let top = round_up_scale(highest);
        let tick = |part| {
            let value = top * f64::from(part) / f64::from(LINEAR_PARTS);
            (value, format!("{}{unit}", format_rate(value)))
        };
        Self {
            scale: PlotScale::Linear(top),
            ticks: (0..=LINEAR_PARTS).map(tick).collect(),
        }
    }

    /// Makes an axis of seconds, from 0 to exactly `end`, with labels at round numbers.
    pub(super) fn seconds(end: f64) -> Self {
        let end = end.max(0.001);
        // Thousandths, so that the step of a short run is round too.
        let step = round_up_scale(end * 1000.0 / SECONDS_LABELS_MAX) / 1000.0;
        let ticks = (0_u32..).map(|number| f64::from(number) * step);
        Self {
            scale: PlotScale::Linear(end),
            ticks: ticks
                .take_while(|value| *value <= end)
                .map(|value| (value, format!("{} s", (value * 1000.0).round() / 1000.0)))
                .collect(),
        }
    }

    /// Makes an axis of milliseconds by powers of ten, around `values`.
    pub(super) fn logarithmic_ms(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = positive.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = match low <= high {
            true => (low.log10().floor(), high.log10().ceil()),
            false => (0.0, 1.0),
        };
        let high = high.max(low + 1.0);
        let tick = |exponent: i32| {
            let value = 10_f64.powi(exponent);
            let label = match exponent {
                3.. => format!("{} s", value / 1000.0),
                _ => format!("{value} ms"),
            };
            (value, label)
        };
        Self {
            scale: PlotScale::Logarithmic(low, high),
            ticks: (low as i32..=high as i32).map(tick).collect(),
        }
    }

    /// Makes an axis of shares from 0 to `last`, which is below 1.
    pub(super) fn tail(last: f64) -> Self {
        let named = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
        let labels = [
            "0 %",
            "50 %",
            "90 %",
            "99 %",
            "99.9 %",
            "99.99 %",
            "99.999 %",
            "99.9999 %",
        ];
        let ticks = named.into_iter().zip(labels);
        Self {
            scale: PlotScale::Tail(last),
            ticks: ticks
                .filter(|(share, _)| *share <= last)
                .map(|(share, label)| (share, label.to_owned()))
                .collect(),
        }
    }

    /// Returns the place of `value` on the axis, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            PlotScale::Linear(top) => value / top,
            PlotScale::Logarithmic(low, high) => (value.log10() - low) / (high - low),
            PlotScale::Tail(last) => (1.0 - value).log10() / (1.0 - last).log10(),
        }
    }
}

impl ReportPlot {
    /// Renders the plot with its title and legend.
    pub(super) fn render(&self) -> Markup {
        html! {
            figure {
                h2 { (self.title) }
                p.note { (self.note) }
                p.legend {
                    @for (number, line) in self.lines.iter().enumerate() {
                        span class={ "line-" (number) } { (line.name) }
                    }
                    @if !self.bands.is_empty() { span.kill { "killed, until ready again" } }
                }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                    @for (from, until) in &self.bands {
                        @let (from, until) = (self.x_of(*from), self.x_of(*until));
                        rect.kill x=(format!("{from:.1}")) y=(TOP)
                            width=(format!("{:.1}", (until - from).max(1.0)))
                            height=(HEIGHT - TOP - BOTTOM) {}
                    }
                    @for (value, label) in &self.y.ticks {
                        @let y = format!("{:.1}", self.y_of(*value));
                        line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                        text.y-label x=(LEFT - 6.0) y=(y) { (label) }
                    }
                    @for (value, label) in &self.x.ticks {
                        text.x-label x=(format!("{:.1}", self.x_of(*value))) y=(HEIGHT - 8.0) {
                            (label)
                        }
                    }
                    @for (number, line) in self.lines.iter().enumerate() {
                        @let points = self.place_points(line);
                        @if !points.is_empty() {
                            path class={ "line-" (number) } d={ "M" (points) } {}
                        }
                    }
                }
            }
        }
    }

    fn place_points(&self, line: &PlotLine) -> String {
        let places = line
            .points
            .iter()
            .map(|(x, y)| (self.x_of(*x), self.y_of(*y)));
        format_points(places.filter(|(x, y)| x.is_finite() && y.is_finite()))
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.place(value).min(1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_place_their_values() {
        let linear = PlotAxis::linear([3.0, 7.0], "/s");
        assert_eq!(linear.place(5.0), 0.5);
        assert_eq!(linear.ticks.last(), Some(&(10.0, "10/s".to_owned())));
        let seconds: Vec<_> = PlotAxis::seconds(33.0).ticks;
        let labels: Vec<_> = seconds.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(
            labels,
            ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]
        );
        assert_eq!(PlotAxis::seconds(0.5).ticks[1].1, "0.1 s");
        let logarithmic = PlotAxis::logarithmic_ms([0.0, 0.5, 80.0]);
        assert_eq!(
            (logarithmic.place(0.1), logarithmic.place(100.0)),
            (0.0, 1.0)
        );
        let labels: Vec<_> = logarithmic
            .ticks
            .iter()
            .map(|(_, label)| label.as_str())
            .collect();
        assert_eq!(labels, ["0.1 ms", "1 ms", "10 ms", "100 ms"]);
        let tail = PlotAxis::tail(0.9999);
        let middle = tail.place(0.99);
        assert!((middle - 0.5).abs() < 1e-9, "{middle}");
        assert!(PlotAxis::logarithmic_ms([]).ticks.len() == 2, "no values");
    }

    #[test]
    fn a_plot_draws_its_lines_and_leaves_out_what_has_no_place() {
        let plot = ReportPlot {
            title: "Rates",
            note: String::new(),
            x: PlotAxis::seconds(10.0),
            y: PlotAxis::logarithmic_ms([1.0, 10.0]),
            lines: vec![PlotLine {
                name: "accepted",
                points: vec![(0.0, 1.0), (5.0, 0.0), (10.0, 10.0)],
            }],
            bands: vec![(2.0, 3.0)],
        };
        let svg = plot.render().into_string();
        assert!(svg.contains("d=\"M64.0 232.0 L708.0 10.0\""), "{svg}");
        assert!(svg.contains("<rect class=\"kill\""), "{svg}");
    }
}

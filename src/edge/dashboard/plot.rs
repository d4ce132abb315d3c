//! Plot of rates over the last hour, as SVG.

use maud::{Markup, html};

use crate::metrics::{HISTORY_LENGTH, RateInterval};
use crate::plot_lines::{format_points, format_rate, round_up_scale};

/// Size of the plot's own coordinates; the page stretches them.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;

/// Two rates that a plot shows: the usual one, and the one that should be zero.
pub(super) struct RatePlot<'a> {
    pub(super) title: &'a str,
    /// Name of the usual rate, drawn as an area.
    pub(super) usual: (&'a str, fn(&RateInterval) -> f64),
    /// Name of the rate that should be zero, drawn as a line.
    pub(super) unwanted: (&'a str, fn(&RateInterval) -> f64),
}

impl RatePlot<'_> {
    /// Renders the plot of `rates`, the oldest first.
    pub(super) fn render(&self, rates: &[RateInterval]) -> Markup {
        let highest = |value: fn(&RateInterval) -> f64| rates.iter().map(value).fold(0.0, f64::max);
        let (usual_peak, unwanted_peak) = (highest(self.usual.1), highest(self.unwanted.1));
        let top = round_up_scale(usual_peak.max(unwanted_peak));
        let usual = line(rates, self.usual.1, top);
        let unwanted = line(rates, self.unwanted.1, top);
        let summary = format!(
            "{} in a second over the last hour. Peaks: {} {}, {} {}.",
            self.title,
            format_rate(usual_peak),
            self.usual.0,
            format_rate(unwanted_peak),
            self.unwanted.0,
        );
        html! {
            div.legend { span.a { (self.usual.0) } span.b { (self.unwanted.0) } }
            svg.plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-label=(summary) {
                @for share in [0.0, 0.5, 1.0] {
                    line.grid-line x1="0" x2=(WIDTH) y1=(share * HEIGHT) y2=(share * HEIGHT) {}
                }
                @if let (Some(first), Some(last)) = (rates.first(), rates.last()) {
                    path.area-a
                        d={ "M" (x(first)) " " (HEIGHT) " L" (usual) " L" (x(last)) " " (HEIGHT) " Z" }
                        {}
                    path.line-a d={ "M" (usual) } {}
                    path.line-b d={ "M" (unwanted) } {}
                }
            }
            div.plot-scale {
                span { "60 min ago" } span { "top: " (format_rate(top)) "/s" } span { "now" }
            }
        }
    }
}

/// Writes the points of a line as `x y L x y …`.
fn line(rates: &[RateInterval], value: fn(&RateInterval) -> f64, top: f64) -> String {
    let y = |interval| HEIGHT - value(interval) / top * (HEIGHT - 4.0);
    format_points(rates.iter().map(|interval| (x(interval), y(interval))))
}

fn x(interval: &RateInterval) -> f64 {
    let share = interval.age.as_secs_f64() / HISTORY_LENGTH.as_secs_f64();
    ((1.0 - share) * WIDTH * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_plot_draws_each_interval_at_its_age() {
        let interval = |minutes: u64, accepted_events| RateInterval {
            age: Duration::from_secs(minutes * 60),
            accepted_events,
            refused_calls: 0.0,
            accepted_deliveries: 0.0,
            failed_deliveries: 0.0,
        };
        let plot = RatePlot {
            title: "Events",
            usual: ("accepted", |rate| rate.accepted_events),
            unwanted: ("refused", |rate| rate.refused_calls),
        };
        let svg = plot
            .render(&[interval(60, 0.0), interval(30, 5.0), interval(0, 10.0)])
            .into_string();
        assert!(svg.contains("M0.0 120.0 L360.0 62.0 L720.0 4.0"), "{svg}");
        assert!(svg.contains("Peaks: 10 accepted, 0 refused."), "{svg}");
        assert!(!plot.render(&[]).into_string().contains("path"));
    }
}

//! Sheet of gauges that is filled anew for each reading of the metrics.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::{PREFIX, process};

/// Gauges with their values at one moment.
#[derive(Debug)]
pub struct GaugeSheet(Registry);

impl Default for GaugeSheet {
    fn default() -> Self {
        Self(Registry::with_prefix(PREFIX))
    }
}

impl GaugeSheet {
    /// Adds the gauge `name`, which means `help`, with `value`.
    pub fn add(&mut self, name: &str, help: &str, value: f64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    /// Adds the counter `name`, which means `help` and is kept elsewhere, with `value`.
    pub fn add_counter(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    /// Adds the gauge `name` with a value for each of `rows`, which `label` tells apart.
    pub fn add_labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: impl IntoIterator<Item = (String, f64)>,
    ) {
        let family = Family::<[(&'static str, String); 1], Gauge<f64, AtomicU64>>::default();
        for (value_of_label, value) in rows {
            family.get_or_create(&[(label, value_of_label)]).set(value);
        }
        self.0.register(name, help, family);
    }

    /// Writes the gauges and the values of the process, and the mark that ends the text.
    pub(super) fn encode(&self, text: &mut String) -> fmt::Result {
        encode_registry(text, &self.0)?;
        encode_registry(text, &process::read_process_metrics())?;
        encode_eof(text)
    }
}

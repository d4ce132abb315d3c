//! Settings of a run, as the report shows them, and the command that repeats it.

use std::time::Duration;

use serde::Serialize;

use super::receiver::SubscriberFault;
use super::traffic::TrafficShape;

/// Settings that decide the load.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadSettings {
    pub(super) entities: u32,
    pub(super) events: u64,
    pub(super) connections: usize,
    pub(super) skew: f64,
    pub(super) payload_bytes: usize,
    pub(super) seed: u64,
    /// Events a second; `None` sends as fast as answers come.
    pub(super) rate: Option<f64>,
    /// Number of subscribers without a fault.
    pub(super) subscribers: usize,
    /// Further subscribers, one for each fault.
    pub(super) faults: Vec<SubscriberFault>,
    pub(super) kill_every_s: Option<f64>,
    #[serde(skip)]
    pub(super) patience: Duration,
}

impl LoadSettings {
    pub(super) fn traffic_shape(&self) -> TrafficShape {
        TrafficShape {
            seed: self.seed,
            entities: self.entities,
            events: self.events,
            skew: self.skew,
            payload_bytes: self.payload_bytes,
        }
    }

    /// Returns the fault of each subscriber, those without a fault first.
    pub(super) fn subscriber_faults(&self) -> Vec<Option<SubscriberFault>> {
        let healthy = std::iter::repeat_n(None, self.subscribers);
        healthy
            .chain(self.faults.iter().copied().map(Some))
            .collect()
    }

    pub(super) fn has_subscribers(&self) -> bool {
        self.subscribers + self.faults.len() > 0
    }

    /// Describes the load in one line.
    pub(super) fn describe(&self) -> String {
        let Self {
            entities,
            events,
            connections,
            skew,
            payload_bytes,
            seed,
            ..
        } = self;
        let rate = self.rate.map_or_else(
            || "as fast as answers come".to_owned(),
            |rate| format!("{rate}/s"),
        );
        format!(
            "{events} events of {entities} entities (skew {skew}, {payload_bytes} bytes of text, seed \
             {seed}), {connections} connections, {rate}"
        )
    }

    /// Returns the options that repeat this load.
    pub(super) fn to_options(&self) -> String {
        let mut options = format!(
            "--entities {} --events {} --connections {} --skew {} --payload-bytes {} --subscribers {} \
             --seed {}",
            self.entities,
            self.events,
            self.connections,
            self.skew,
            self.payload_bytes,
            self.subscribers,
            self.seed
        );
        let mut add = |option: Option<String>| options.extend(option);
        add(self.rate.map(|rate| format!(" --rate {rate}")));
        add(self
            .kill_every_s
            .map(|every| format!(" --kill-every {every}")));
        let faults: Vec<_> = self.faults.iter().map(|fault| fault.name()).collect();
        add((!faults.is_empty()).then(|| format!(" --faults {}", faults.join(","))));
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_repeat_the_load() {
        let settings = LoadSettings {
            entities: 10,
            events: 20,
            connections: 3,
            skew: 0.5,
            payload_bytes: 100,
            seed: 9,
            rate: Some(50.0),
            subscribers: 2,
            faults: vec![SubscriberFault::Fail, SubscriberFault::Restart],
            kill_every_s: Some(1.5),
            patience: Duration::from_secs(1),
        };
        assert_eq!(
            settings.to_options(),
            "--entities 10 --events 20 --connections 3 --skew 0.5 --payload-bytes 100 --subscribers 2 \
             --seed 9 --rate 50 --kill-every 1.5 --faults fail,restart"
        );
        assert_eq!(settings.subscriber_faults().len(), 4);
    }
}

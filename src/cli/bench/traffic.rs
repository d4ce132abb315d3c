//! Traffic of the benchmark: which entity gets which event, and the events' payloads. Pure: the
//! same seed gives the same traffic on every machine.

/// Size and shape of the traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TrafficShape {
    pub(super) seed: u64,
    /// Number of entities, at least 1.
    pub(super) entities: u32,
    pub(super) events: u64,
    /// Exponent of Zipf's law: the entity of rank `k` gets a share of the events in proportion to
    /// `1 / k ^ skew`. 0 gives each entity an equal share.
    pub(super) skew: f64,
    /// Length of the text in each event.
    pub(super) payload_bytes: usize,
}

/// Event of the plan, before it is put into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedEvent {
    /// Place in the whole traffic, from 0.
    pub(super) index: u64,
    /// Number of the entity, from 0.
    pub(super) entity: u32,
    /// Number among the events of its entity, from 1 without gaps.
    pub(super) number: u32,
}

/// Events of the plan, drawn one after the other.
#[derive(Debug)]
pub(super) struct PlannedTraffic {
    shape: TrafficShape,
    random: SeededRandom,
    /// Share of all events that the entities up to this one get together.
    shares: Vec<f64>,
    /// Last number of each entity.
    numbers: Vec<u32>,
    drawn: u64,
}

impl PlannedTraffic {
    pub(super) fn new(shape: TrafficShape) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=shape.entities)
            .map(|rank| {
                sum += f64::from(rank).powf(-shape.skew);
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self {
            shape,
            random: SeededRandom::new(shape.seed),
            shares,
            numbers: vec![0; shape.entities as usize],
            drawn: 0,
        }
    }

    /// Number of events drawn so far.
    #[cfg(test)]
    pub(super) fn drawn(&self) -> u64 {
        self.drawn
    }
}

impl Iterator for PlannedTraffic {
    type Item = PlannedEvent;

    fn next(&mut self) -> Option<PlannedEvent> {
        if self.drawn == self.shape.events {
            return None;
        }
        let index = self.drawn;
        self.drawn += 1;

        let draw = self.random.next_share();
        let entity = self.shares.partition_point(|share| *share <= draw);
        // Rounding may leave the last share a little below 1.
        let entity = entity.min(self.numbers.len() - 1);
        self.numbers[entity] += 1;
        Some(PlannedEvent {
            index,
            entity: entity as u32,
            number: self.numbers[entity],
        })
    }
}

/// Appends the text of the event with this `index`: lowercase words, so that it needs no escaping in
/// JSON, and compresses about as well as text does.
pub(super) fn write_payload(shape: &TrafficShape, index: u64, text: &mut String) {
    const LETTERS: &[u8; 32] = b"etaoinshrdlucmfwypvbgketaoin   e";
    let mut random = SeededRandom::new(shape.seed ^ index.wrapping_mul(0xa076_1d64_78bd_642f));
    let mut left = shape.payload_bytes;
    while left > 0 {
        let mut word = random.next_word();
        // Twelve letters of five bits each.
        for _ in 0..left.min(12) {
            text.push(char::from(LETTERS[(word & 31) as usize]));
            word >>= 5;
        }
        left = left.saturating_sub(12);
    }
}

/// Generator of random numbers that depend on the seed only: SplitMix64 (Steele, Lea and Flood,
/// 2014).
#[derive(Clone, Debug)]
pub(super) struct SeededRandom(u64);

impl SeededRandom {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Draws a number from 0 up to, but not including, 1.
    pub(super) fn next_share(&mut self) -> f64 {
        (self.next_word() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: TrafficShape = TrafficShape {
        seed: 7,
        entities: 50,
        events: 20_000,
        skew: 1.0,
        payload_bytes: 100,
    };

    fn payload(shape: &TrafficShape, index: u64) -> String {
        let mut text = String::new();
        write_payload(shape, index, &mut text);
        text
    }

    #[test]
    fn the_same_seed_gives_the_same_traffic_and_another_seed_another() {
        let draw = |seed| PlannedTraffic::new(TrafficShape { seed, ..SHAPE }).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(payload(&SHAPE, 3), payload(&SHAPE, 3));
        assert_ne!(payload(&SHAPE, 3), payload(&SHAPE, 4));
        // Fixed for ever: figures of two versions are compared.
        let first: Vec<_> = draw(7).iter().take(6).map(|event| event.entity).collect();
        assert_eq!(first, FIRST_ENTITIES);
        assert_eq!(&payload(&SHAPE, 0)[..16], FIRST_PAYLOAD);
    }

    const FIRST_ENTITIES: [u32; 6] = [2, 0, 31, 7, 3, 1];
    const FIRST_PAYLOAD: &str = "tfoibcp tevh yoa";

    #[test]
    fn the_numbers_of_each_entity_rise_by_one() {
        let mut last = vec![0; SHAPE.entities as usize];
        for (index, event) in PlannedTraffic::new(SHAPE).enumerate() {
            assert_eq!(event.index, index as u64);
            let last = &mut last[event.entity as usize];
            assert_eq!(event.number, *last + 1);
            *last = event.number;
        }
        assert_eq!(last.iter().sum::<u32>(), 20_000);
    }

    #[test]
    fn the_skew_follows_the_law_of_zipf() {
        let count = |skew| {
            let mut counts = vec![0_u32; SHAPE.entities as usize];
            for event in PlannedTraffic::new(TrafficShape { skew, ..SHAPE }) {
                counts[event.entity as usize] += 1;
            }
            counts
        };
        let even = count(0.0);
        assert!(
            even.iter().all(|count| (300..500).contains(count)),
            "{even:?}"
        );
        let skewed = count(1.0);
        let twice = f64::from(skewed[0]) / f64::from(skewed[1]);
        assert!((1.8..2.2).contains(&twice), "{skewed:?}");
        let tenfold = f64::from(skewed[0]) / f64::from(skewed[9]);
        assert!((8.5..12.0).contains(&tenfold), "{skewed:?}");
    }

    #[test]
    fn a_payload_has_its_length_and_needs_no_escaping() {
        for payload_bytes in [0, 1, 11, 12, 13, 1000] {
            let shape = TrafficShape {
                payload_bytes,
                ..SHAPE
            };
            let text = payload(&shape, 5);
            assert_eq!(text.len(), payload_bytes);
            assert!(text.bytes().all(|b| b == b' ' || b.is_ascii_lowercase()));
        }
    }
}

//! Blocked Bloom filter: a look-up reads one cache line; there are no false negatives, and about
//! one false positive in ten thousand.
//!
//! Source: F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters"
//! (2007).

/// Bits in the filter for each item of its capacity.
const BITS_PER_ITEM: usize = 24;
const LINE_BITS: usize = 512;
/// Bits that each item sets within its line.
const PROBES: u32 = 7;

pub(super) struct BloomFilter {
    lines: Vec<[u64; 8]>,
}

impl BloomFilter {
    pub(super) fn with_item_capacity(items: usize) -> Self {
        Self {
            lines: vec![[0; 8]; (items * BITS_PER_ITEM).div_ceil(LINE_BITS).max(1)],
        }
    }

    pub(super) fn insert(&mut self, fingerprint: u64) {
        let line = self.line_index(fingerprint);
        for bit in probe_bits(fingerprint) {
            self.lines[line][bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(super) fn may_contain(&self, fingerprint: u64) -> bool {
        let line = &self.lines[self.line_index(fingerprint)];
        probe_bits(fingerprint).all(|bit| line[bit / 64] & (1 << (bit % 64)) != 0)
    }

    /// Maps the upper half of the fingerprint to the range of line numbers.
    fn line_index(&self, fingerprint: u64) -> usize {
        (((fingerprint >> 32) * self.lines.len() as u64) >> 32) as usize
    }
}

/// Returns the bit numbers of an item within its line: nine bits of a mixed fingerprint for each
/// probe. The multiplier is 2^64 divided by the golden ratio (Fibonacci hashing).
fn probe_bits(fingerprint: u64) -> impl Iterator<Item = usize> {
    let mixed = (fingerprint ^ (fingerprint >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| (mixed >> (probe * 9)) as usize % LINE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fingerprint_key;

    #[test]
    fn inserted_items_are_always_found_and_other_items_seldom() {
        let mut filter = BloomFilter::with_item_capacity(10_000);
        let key = |n: u32| fingerprint_key("support", &n.to_string());
        (0..10_000).for_each(|n| filter.insert(key(n)));
        assert!((0..10_000).all(|n| filter.may_contain(key(n))));
        let false_yes = (10_000..110_000)
            .filter(|n| filter.may_contain(key(*n)))
            .count();
        assert!(false_yes < 100, "{false_yes} of 100,000");
    }
}

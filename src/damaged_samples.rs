//! SampleDamage for property tests of decoders: real samples of what comes from outside, with a few bytes
//! changed, cut, repeated, or mixed with another sample. Random bytes alone seldom get past the first
//! check of a decoder.
//!
//! The name of each such test ends in `or_refused`. A longer run of all of them:
//!
//! ```text
//! HOOKYARD_DAMAGE_CASES=100000 cargo test --locked or_refused
//! ```
//!
//! `HOOKYARD_DAMAGE_CASES` sets the number of cases; tests of costly decoders take their share of it.
//! `HOOKYARD_DAMAGE_SEED` sets the seed, which a failure prints.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

const CASES: &str = "HOOKYARD_DAMAGE_CASES";
const SEED: &str = "HOOKYARD_DAMAGE_SEED";

/// Cases of a cheap test in a run that nobody set.
pub(crate) const CHEAP: u32 = 256;

/// Returns the configuration of a test that has `cases` in a run that nobody set.
pub(crate) fn damage_cases(cases: u32) -> ProptestConfig {
    let usual = ProptestConfig::with_cases(cases);
    let Some(wanted) = read_variable(CASES) else {
        return usual;
    };
    let seed = read_variable(SEED)
        .unwrap_or_else(|| getrandom::u64().expect("the system has random numbers"));
    eprintln!("repeat it: {SEED}={seed} {CASES}={wanted} cargo test --locked or_refused");
    let share = wanted * u64::from(cases) / u64::from(CHEAP);
    ProptestConfig {
        cases: u32::try_from(share.max(1)).unwrap_or(u32::MAX),
        rng_seed: RngSeed::Fixed(seed),
        ..usual
    }
}

fn read_variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Bytes that formats give a meaning, and ends of the ranges of numbers.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[](),;:=.-+/%&?'# \n\t0923eET";

/// One change of a sample.
#[derive(Clone, Debug)]
enum SampleDamage {
    Change(Index, u8),
    Insert(Index, u8),
    Cut(Index, Index),
    Repeat(Index, Index),
    /// The rest of another sample takes the place of the rest of this one.
    Splice(Index, Index, Index),
}

fn any_damage() -> impl Strategy<Value = SampleDamage> {
    let byte = || prop_oneof![3 => prop::sample::select(BYTES), 1 => any::<u8>()];
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), byte()).prop_map(|(at, byte)| SampleDamage::Change(at, byte)),
        2 => (at(), byte()).prop_map(|(at, byte)| SampleDamage::Insert(at, byte)),
        2 => (at(), at()).prop_map(|(from, to)| SampleDamage::Cut(from, to)),
        1 => (at(), at()).prop_map(|(from, to)| SampleDamage::Repeat(from, to)),
        1 => (at(), at(), at()).prop_map(|(at, other, from)| SampleDamage::Splice(at, other, from)),
    ]
}

impl SampleDamage {
    fn apply(&self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        let range = |from: &Index, to: &Index, bytes: &[u8]| {
            let (from, to) = (place(from, bytes), place(to, bytes));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Change(at, byte) => {
                let at = at.index(bytes.len().max(1));
                if let Some(changed) = bytes.get_mut(at) {
                    *changed = *byte;
                }
            }
            Self::Insert(at, byte) => bytes.insert(place(at, bytes), *byte),
            Self::Cut(from, to) => drop(bytes.drain(range(from, to, bytes))),
            Self::Repeat(from, to) => {
                let repeated = range(from, to, bytes);
                let copy = bytes[repeated.clone()].to_vec();
                bytes.splice(repeated.start..repeated.start, copy);
            }
            Self::Splice(at, other, from) => {
                let other = other.get(samples);
                bytes.truncate(place(at, bytes));
                bytes.extend(&other[place(from, other)..]);
            }
        }
    }
}

/// One of `samples`, with up to four changes.
pub(crate) fn damaged<S: AsRef<[u8]>>(samples: &[S]) -> BoxedStrategy<Vec<u8>> {
    let samples: Vec<_> = samples.iter().map(|one| one.as_ref().to_vec()).collect();
    let changes = prop::collection::vec(any_damage(), 0..5);
    (any::<Index>(), changes)
        .prop_map(move |(sample, changes)| {
            let mut bytes = sample.get(&samples).clone();
            for change in changes {
                change.apply(&mut bytes, &samples);
            }
            bytes
        })
        .boxed()
}

/// As [`damaged`], as text; bytes that are none become replacement characters.
pub(crate) fn damaged_text(samples: &[&str]) -> BoxedStrategy<String> {
    damaged(samples)
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .boxed()
}

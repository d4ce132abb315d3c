//! Pattern of a call of `matches`, whose time is charged as it is spent.
//!
//! A lazy DFA passes over a text at a fixed cost for each byte. It gives up on the few patterns for
//! which it would need a new state at almost every byte, and on those that it does not support. Then
//! the slow engine takes over, which is charged for each compiled state at each byte.

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex::{Regex, RegexBuilder};
use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::Pool;

/// Most memory of a compiled pattern, in bytes.
const PATTERN_BYTES: usize = 64 * 1024;
/// Memory of the lazy DFA's states in one thread, in bytes.
const CACHE_BYTES: usize = 128 * 1024;
/// Times that the lazy DFA may drop its states before it gives up.
const CLEARS_MAX: usize = 3;
/// Bytes that a state has to serve on average, or the lazy DFA gives up.
const BYTES_PER_STATE_MIN: usize = 10;

type NewCache = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// Compiled pattern, for use by several threads at once.
pub(super) struct TextPattern {
    regex: Regex,
    /// Lazy DFA with the states of each thread; `None` if it cannot be built for the pattern.
    lazy: Option<(DFA, Pool<Cache, NewCache>)>,
    /// Number of compiled states, which the slow engine may all visit at each byte.
    states: usize,
}

impl std::fmt::Debug for TextPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.regex.as_str())
    }
}

impl TextPattern {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`regex::Error`] when `pattern` is wrong or too large.
    pub(super) fn compile(pattern: &str) -> Result<Self, regex::Error> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES)
            .build()?;
        let config = DFA::config()
            .cache_capacity(CACHE_BYTES)
            .skip_cache_capacity_check(true)
            .unicode_word_boundary(true)
            .minimum_cache_clear_count(Some(CLEARS_MAX))
            .minimum_bytes_per_state(Some(BYTES_PER_STATE_MIN));
        let dfa = DFA::builder().configure(config).build(pattern).ok();
        let states = dfa
            .as_ref()
            .map_or(PATTERN_BYTES / 32, |dfa| dfa.get_nfa().states().len());
        let lazy = dfa.map(|dfa| {
            let of_cache = dfa.clone();
            let new_cache: NewCache = Box::new(move || of_cache.create_cache());
            (dfa, Pool::new(new_cache))
        });
        Ok(Self {
            regex,
            lazy,
            states,
        })
    }

    /// Tells if `text` has a match. `charge` gets the number of bytes that are looked at, counted
    /// once for each state, before they are; it unwinds to end the match.
    pub(super) fn is_match(&self, text: &str, charge: impl Fn(usize)) -> bool {
        charge(text.len());
        if let Some((dfa, caches)) = &self.lazy {
            let input = Input::new(text).earliest(true);
            if let Ok(found) = dfa.try_search_fwd(&mut caches.get(), &input) {
                return found.is_some();
            }
        }
        charge(text.len().saturating_mul(self.states));
        self.regex.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Returns if `pattern` matches `text`, and the bytes that were charged.
    fn run(pattern: &str, text: &str) -> (bool, usize) {
        let charged = Cell::new(0);
        let pattern = TextPattern::compile(pattern).expect("a pattern");
        let is_match = pattern.is_match(text, |bytes| charged.set(charged.get() + bytes));
        (is_match, charged.get())
    }

    #[test]
    fn ordinary_patterns_cost_one_pass_over_the_text() {
        let text = "Grüße an max@example.de, Rückruf erbeten. ".repeat(1_000);
        for (pattern, is_match) in [
            (r"\w+@example\.(de|com)", true),
            ("^Gr.*erbeten", true),
            (r"(?i)RÜCKRUF", true),
            (r"\d{4}-\d{2}", false),
            ("(a|b|c)*z", false),
        ] {
            assert_eq!(run(pattern, &text), (is_match, text.len()), "{pattern}");
        }
    }

    /// This took 1.8 s of the thread that all subscriptions shared, within the budget of 10 ms.
    #[test]
    fn a_pattern_that_needs_a_state_for_each_byte_is_charged_for_all_its_states() {
        let is_a = |n: u64| {
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .count_ones()
                .is_multiple_of(2)
        };
        let text: String = (0..20_000)
            .map(|n| if is_a(n) { 'a' } else { 'b' })
            .collect();
        let (_, charged) = run("a[ab]{900}c", &text);
        assert!(charged > text.len() * 900, "{charged}");
    }

    #[test]
    fn word_boundaries_work_in_texts_beyond_ascii() {
        let (is_match, charged) = run(r"\bRückruf\b", "Bitte um Rückruf, über das Büro");
        assert!(is_match && charged > 40, "the slow engine decided");
        assert!(run(r"\bcall\b", "please call back").0);
    }
}

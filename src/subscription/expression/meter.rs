//! What an evaluation may cost: each part of a metered expression reports its value before that is
//! used, and one that has cost too much is broken off.
//!
//! A unit is about 100 ns. Every part costs [`STEP`]; a value as many units as it has values in it,
//! and one more for each [`BYTES_A_UNIT`] of text: that is what copying or comparing it takes. A
//! loop reports what it goes over before it begins, so a loop in a loop pays for every round. So
//! memory is bounded by the same number.
//!
//! Reading the event costs the same units, from a budget of its own, and the evaluation may cost
//! [`BUDGET`] and a few times what reading did: all of a large body can be looked through once and
//! sent on, but nothing is looked through for each part of it.
//!
//! Breaking off unwinds instead of being an error, since `||`, `&&` and `exists` pass over errors
//! and would go on.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Arc;

use cel::common::types::{
    CelBool, CelBytes, CelInt, CelList, CelMap, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};
use regex::Regex;

use crate::panics;

/// The budget of reading what an expression reads of one event: almost any JSON of a megabyte fits.
const READING_BUDGET: u64 = 1_000_000;
/// The budget of one evaluation, about 10 ms: all subscriptions are asked on one thread, one after
/// the other.
const EVALUATION_BUDGET: u64 = 100_000;
/// What an evaluation may cost beside that, for each unit that reading did. Making a body that
/// holds all of `data` takes two.
const EVALUATION_UNITS_PER_READ: u64 = 3;
/// What each part costs beside its value: names are looked up and functions found by name.
const STEP_COST: u64 = 8;
/// What an object costs beside what is in it: it has a table.
const TABLE_COST: u64 = 4;
const BYTES_PER_UNIT: usize = 16;

/// The function that a part reports its value by, and the one that looks for a compiled pattern. No
/// text can name them.
pub(super) const REPORT: &str = "@report";
pub(super) const MATCHES: &str = "@matches";

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static PATTERNS: RefCell<Arc<[Regex]>> = RefCell::default();
}

/// Why an evaluation came to no value and no error.
pub(super) enum MeterError {
    /// It cost too much.
    OverBudget,
    /// It panicked.
    Panicked,
}

/// What expressions can use: CEL's standard library, and how they are metered.
pub(super) fn metered_env() -> Env {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    let unique = "names that nothing else has";
    env.add_overload(REPORT, REPORT, vec![DYN_TYPE], report_value)
        .expect(unique);
    env.add_overload(MATCHES, MATCHES, vec![STRING_TYPE, INT_TYPE], match_pattern)
        .expect(unique);
    env
}

/// Runs `read`, and `evaluate` with what it read, each with a budget of its own. `evaluate` knows
/// `patterns` by their places.
pub(super) fn run_within_budget<R, T, E>(
    patterns: &Arc<[Regex]>,
    read: impl FnOnce() -> Result<R, E>,
    evaluate: impl FnOnce(R) -> Result<T, E>,
) -> Result<Result<T, E>, MeterError> {
    PATTERNS.replace(Arc::clone(patterns));
    let done = panics::contain_panic(|| {
        LEFT.set(READING_BUDGET);
        let input = read()?;
        LEFT.set(EVALUATION_BUDGET + EVALUATION_UNITS_PER_READ * (READING_BUDGET - LEFT.get()));
        evaluate(input)
    });
    PATTERNS.take();
    done.map_err(|_| {
        if LEFT.get() == 0 {
            MeterError::OverBudget
        } else {
            MeterError::Panicked
        }
    })
}

/// Takes `units` from what is left of the budget, and breaks off when there is too little.
pub(super) fn spend(units: u64) {
    match LEFT.get().checked_sub(units) {
        Some(left) if left > 0 => LEFT.set(left),
        _ => {
            LEFT.set(0);
            panic::resume_unwind(Box::new("too costly"));
        }
    }
}

/// What a text of `bytes` costs.
pub(super) fn spend_text(bytes: usize) {
    spend(1 + (bytes / BYTES_PER_UNIT) as u64);
}

/// What an object costs beside its members.
pub(super) fn spend_table() {
    spend(TABLE_COST);
}

fn report_value<'b, 'v>(
    mut arguments: Vec<CowVal<'b, 'v>>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = arguments
        .pop()
        .ok_or(ExecutionError::MissingArgumentOrTarget)?;
    spend(STEP_COST);
    spend_value(value.as_ref());
    Ok(value)
}

/// Spends what `value` costs with all that is in it.
fn spend_value(value: &(dyn Val + '_)) {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        spend_text(text.inner().len());
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        spend(1);
        list.inner()
            .iter()
            .for_each(|item| spend_value(item.as_ref()));
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        spend_table();
        for (key, value) in map.inner() {
            spend_value(key.inner());
            spend_value(value.as_ref());
        }
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        spend_text(bytes.inner().len());
    } else {
        spend(1);
    }
}

/// Whether a text matches the pattern of that number. Matching takes at most the product of both
/// lengths.
fn match_pattern<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text, number] = &arguments[..] else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    let text = text.downcast_ref::<CelString<'_>>().map(CelString::inner);
    let number = number
        .downcast_ref::<CelInt>()
        .and_then(|number| usize::try_from(*number.inner()).ok());
    let (Some(text), Some(number)) = (text, number) else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    let found = PATTERNS.with_borrow(|patterns| {
        let pattern = patterns.get(number)?;
        spend_text(text.len().saturating_mul(1 + pattern.as_str().len() / 2));
        Some(pattern.is_match(text))
    });
    found
        .map(|found| CowVal::owned(CelBool::from(found)))
        .ok_or(ExecutionError::MissingArgumentOrTarget)
}

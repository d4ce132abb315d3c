//! Budget of an evaluation: each part of a metered expression reports its value before the value is
//! used, and an evaluation that exceeds its budget is aborted.
//!
//! A unit is about 100 ns. Every part costs [`STEP_COST`]. A value costs one unit for each value in
//! it, and one more for each [`BYTES_PER_UNIT`] bytes of text: copying or comparing it takes about
//! this time. A loop reports its range before it begins, so an inner loop pays again for each item
//! of the outer loop. The same budget bounds memory.
//!
//! Reading the event costs the same units, from a budget of its own. The evaluation may spend
//! [`EVALUATION_BUDGET`] and a few times the units that reading took. So an expression can pass
//! over a large body once and send it on, but not pass over the whole body for each part of it.
//!
//! An abort unwinds instead of returning an error, because `||`, `&&` and `exists` ignore errors
//! and would go on.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Arc;

use super::text_pattern::TextPattern;
use crate::panics;
use cel::common::types::{
    CelBool, CelBytes, CelInt, CelList, CelMap, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};

/// Budget of reading the variables of one event: almost any JSON of a megabyte fits.
const READING_BUDGET: u64 = 1_000_000;
/// Budget of one evaluation, about 10 ms: few threads evaluate the expressions of all subscriptions.
const EVALUATION_BUDGET: u64 = 100_000;
/// Additional units of the evaluation for each unit that reading took. A body that holds all of
/// `data` needs two.
const EVALUATION_UNITS_PER_READ: u64 = 3;
/// Units for each part besides its value: variables and functions are looked up by name.
const STEP_COST: u64 = 8;
/// Units for an object besides its members: it has a hash table.
const TABLE_COST: u64 = 4;
/// Bytes of text that cost one unit.
const BYTES_PER_UNIT: usize = 16;

/// Function that reports the value of a part. No text can call it, because of the `@`.
pub(super) const REPORT_FUNCTION: &str = "@report";

/// Function that matches a text against a compiled pattern. No text can call it, because of the
/// `@`.
pub(super) const MATCHES_FUNCTION: &str = "@matches";

thread_local! {
    static UNITS_LEFT: Cell<u64> = const { Cell::new(0) };
    static PATTERNS: RefCell<Arc<[TextPattern]>> = RefCell::default();
}

/// Abort of an evaluation that returned neither a value nor an error.
pub(super) enum MeterError {
    /// The evaluation exceeded its budget.
    OverBudget,
    /// The evaluation panicked, which is a bug.
    Panicked,
}

/// Builds the environment of expressions: CEL's standard library and the functions of the meter.
pub(super) fn metered_env() -> Env {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    let unique = "no other function has this name";
    env.add_overload(
        REPORT_FUNCTION,
        REPORT_FUNCTION,
        vec![DYN_TYPE],
        report_value,
    )
    .expect(unique);
    env.add_overload(
        MATCHES_FUNCTION,
        MATCHES_FUNCTION,
        vec![STRING_TYPE, INT_TYPE],
        match_pattern,
    )
    .expect(unique);
    env
}

/// Runs `read`, then `evaluate` on its result, each with a budget of its own. Calls of `matches` in
/// `evaluate` refer to `patterns` by index.
pub(super) fn run_within_budget<R, T, E>(
    patterns: &Arc<[TextPattern]>,
    read: impl FnOnce() -> Result<R, E>,
    evaluate: impl FnOnce(R) -> Result<T, E>,
) -> Result<Result<T, E>, MeterError> {
    PATTERNS.replace(Arc::clone(patterns));
    let outcome = panics::contain_panic(|| {
        UNITS_LEFT.set(READING_BUDGET);
        let input = read()?;

        let units_read = READING_BUDGET - UNITS_LEFT.get();
        UNITS_LEFT.set(EVALUATION_BUDGET + EVALUATION_UNITS_PER_READ * units_read);
        evaluate(input)
    });
    PATTERNS.take();
    outcome.map_err(|_| {
        // Only `spend` sets the units to zero, right before it unwinds.
        if UNITS_LEFT.get() == 0 {
            MeterError::OverBudget
        } else {
            MeterError::Panicked
        }
    })
}

/// Takes `units` from the budget. Unwinds when the budget is used up.
pub(super) fn spend(units: u64) {
    match UNITS_LEFT.get().checked_sub(units) {
        Some(left) if left > 0 => UNITS_LEFT.set(left),
        _ => {
            UNITS_LEFT.set(0);
            panic::resume_unwind(Box::new("evaluation budget exceeded"));
        }
    }
}

/// Spends the units for a text of `bytes` bytes.
pub(super) fn spend_text(bytes: usize) {
    spend(1 + (bytes / BYTES_PER_UNIT) as u64);
}

/// Spends the units for an object, without its members.
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

/// Spends the units for `value` and all values in it.
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

/// Matches a text against the compiled pattern with the given number.
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
    let is_match = PATTERNS.with_borrow(|patterns| {
        let pattern = patterns.get(number)?;
        Some(pattern.is_match(text, spend_text))
    });
    is_match
        .map(|is_match| CowVal::owned(CelBool::from(is_match)))
        .ok_or(ExecutionError::MissingArgumentOrTarget)
}

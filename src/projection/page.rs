//! Parts of lists: which one a reader asks for, and what it gets.

use std::ops::Range;

/// The part of a list that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// From 1.
    pub page: u64,
    /// From 1 to 100.
    pub page_size: u64,
}

impl PageRequest {
    /// Places of the page's items in the whole list, counted from 0.
    #[must_use]
    pub const fn places(self) -> Range<u64> {
        let first = self.page.saturating_sub(1).saturating_mul(self.page_size);
        first..first.saturating_add(self.page_size)
    }

    /// The items of this page among `all`.
    pub fn select<I: IntoIterator>(self, all: I) -> impl Iterator<Item = I::Item> {
        items_at(self.places(), all)
    }

    /// Of `total` numbered things, those of this page, highest number first. Numbers begin at 0.
    pub(super) fn item_numbers(self, total: u64) -> impl Iterator<Item = u64> {
        let Range { start, end } = self.places();
        (total.saturating_sub(end)..total.saturating_sub(start)).rev()
    }
}

/// The items of `all` that stand at `places`.
pub fn items_at<I: IntoIterator>(places: Range<u64>, all: I) -> impl Iterator<Item = I::Item> {
    let [skipped, count] = [places.start, places.end.saturating_sub(places.start)];
    let length = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    all.into_iter().skip(length(skipped)).take(length(count))
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct ProjectionPage<T> {
    /// The part asked for.
    pub items: Vec<T>,
    /// How many the whole list has.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_list_follow_each_other_and_end_with_it() {
        let selected = |page, page_size| {
            PageRequest { page, page_size }
                .select(0..7)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [selected(1, 3), selected(2, 3), selected(3, 3)].concat(),
            (0..7).collect::<Vec<_>>()
        );
        assert!(selected(4, 3).is_empty() && selected(u64::MAX, 100).is_empty());
        let numbers = |page| {
            PageRequest { page, page_size: 3 }
                .item_numbers(7)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [numbers(1), numbers(2), numbers(3), numbers(4)],
            [vec![6, 5, 4], vec![3, 2, 1], vec![0], vec![]]
        );
    }
}

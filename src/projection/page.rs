//! Pages of lists: the page that a reader requests, and the page that it gets.

use std::ops::Range;

use super::stored_record::StoredRecord;

/// Bytes of content in one page of a list, and the content of one record more. A page of a hundred small
/// events is whole; one of the largest does not fill the memory.
const PAGE_CONTENT_BYTES: usize = 4 * 1024 * 1024;

/// Request for one page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Page number, counted from 1.
    pub page: u64,
    /// Items in a page, from 1 to 100.
    pub page_size: u64,
}

impl PageRequest {
    /// Returns the indexes of the page's items in the whole list, counted from 0.
    #[must_use]
    pub const fn places(self) -> Range<u64> {
        let first = self.page.saturating_sub(1).saturating_mul(self.page_size);
        first..first.saturating_add(self.page_size)
    }

    /// Returns the items of this page from the whole list `all`.
    pub fn select<I: IntoIterator>(self, all: I) -> impl Iterator<Item = I::Item> {
        items_at(self.places(), all)
    }

    /// Returns the numbers of this page's items in a list of `total` items that is sorted by number
    /// in descending order. Numbers start at 0.
    pub(super) fn item_numbers(self, total: u64) -> impl Iterator<Item = u64> {
        let Range { start, end } = self.places();
        (total.saturating_sub(end)..total.saturating_sub(start)).rev()
    }
}

/// Returns the items of `all` whose indexes are in `places`, counted from 0.
pub fn items_at<I: IntoIterator>(places: Range<u64>, all: I) -> impl Iterator<Item = I::Item> {
    let skipped = usize::try_from(places.start).unwrap_or(usize::MAX);
    let count = places.end.saturating_sub(places.start);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    all.into_iter().skip(skipped).take(count)
}

/// Page of a list, with the length of the whole list.
#[derive(Clone, Debug)]
pub struct ProjectionPage<T> {
    /// Items of the requested page.
    pub items: Vec<T>,
    /// Number of items in the whole list.
    pub total: u64,
}

/// Room for the content of the records on one page.
#[derive(Debug)]
pub(super) struct ContentRoom {
    bytes_left: usize,
}

impl ContentRoom {
    pub(super) const fn new() -> Self {
        Self {
            bytes_left: PAGE_CONTENT_BYTES,
        }
    }

    /// Returns true if there is no room for the content of any further record.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes_left == 0
    }

    /// Takes room for the content of `stored`, or leaves the content out if the page is full.
    pub(super) fn admit(&mut self, stored: StoredRecord) -> StoredRecord {
        let record = &stored.record;
        let parts = [
            &record.payload,
            &record.change,
            &record.answer,
            &record.call_body,
        ];
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if self.is_full() && bytes > 0 {
            return StoredRecord {
                record: stored.record.into_outline(),
                omits_content: true,
                ..stored
            };
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        stored
    }
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

//! One page of a list, as every list answers it.

use serde::Serialize;

use crate::projection::PageRequest;

/// One page of a list.
#[derive(Debug, Serialize)]
pub(super) struct ListPage<T> {
    items: Vec<T>,
    total: u64,
    page: u64,
    page_size: u64,
    pages: u64,
}

impl<T> ListPage<T> {
    pub(super) fn new(items: Vec<T>, total: u64, page: PageRequest) -> Self {
        Self {
            items,
            total,
            page: page.page,
            page_size: page.page_size,
            pages: total.div_ceil(page.page_size),
        }
    }
}

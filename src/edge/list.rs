//! Pages of lists: every list of the API answers in this form.

use serde::Serialize;
use utoipa::ToSchema;

use crate::projection::PageRequest;

/// Items of one page, with the number of the page and the size of the whole list.
#[derive(Debug, Serialize, ToSchema)]
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

    /// Wraps `items`, a whole list, as its only page.
    pub(super) fn whole(items: Vec<T>) -> Self {
        let total = items.len() as u64;
        let page_size = total.max(1);
        Self::new(items, total, PageRequest { page: 1, page_size })
    }
}

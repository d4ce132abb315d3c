//! Rows whose values format 1 stored in chunks, joined again.
//!
//! ```text
//! key    the row's key | chunk u16 BE
//! value  prefix of the tree | flags u8 (1 = last chunk) | a chunk of the value
//! ```
//!
//! The prefix is the same in all chunks, and the joined value begins with it once. It is empty in
//! the tree `deliveries`, and a format byte in the tree `enrichment`.

use super::error::FormerStoreError;

/// Key and whole value of a row.
pub type FormerRow = (Vec<u8>, Vec<u8>);

const LAST_CHUNK_FLAG: u8 = 1;
const CHUNK_NUMBER_BYTES: usize = 2;

/// Iterator over whole rows. A value without its last chunk is left out, as is a chunk after the
/// last one: a crash left them, and format 1 never read them.
pub(super) struct JoinedRows<R> {
    tree: &'static str,
    prefix_bytes: usize,
    chunks: R,
    unfinished: Option<UnfinishedRow>,
}

/// Row whose last chunk was not read yet.
struct UnfinishedRow {
    key: Vec<u8>,
    value: Vec<u8>,
    /// Number of the chunk that must follow.
    next: u16,
}

impl<R> JoinedRows<R> {
    /// Joins the `chunks` of `tree`, each of which begins with a prefix of `prefix_bytes`.
    pub(super) fn new(tree: &'static str, prefix_bytes: usize, chunks: R) -> Self {
        Self {
            tree,
            prefix_bytes,
            chunks,
            unfinished: None,
        }
    }

    /// Adds a chunk, and returns the row if that was its last one.
    fn add_chunk(&mut self, (key, value): &FormerRow) -> Option<Option<FormerRow>> {
        let (key, number) = key.split_last_chunk::<CHUNK_NUMBER_BYTES>()?;
        let number = u16::from_be_bytes(*number);
        let (prefix, value) = value.split_at_checked(self.prefix_bytes)?;
        let (flags, chunk) = value.split_first()?;

        let mut row = match self.unfinished.take() {
            _ if number == 0 => UnfinishedRow {
                key: key.to_vec(),
                value: prefix.to_vec(),
                next: 0,
            },
            Some(row) if row.key == key && row.next == number => row,
            Some(_) | None => return Some(None),
        };
        row.value.extend_from_slice(chunk);
        if flags & LAST_CHUNK_FLAG != 0 {
            return Some(Some((row.key, row.value)));
        }
        row.next = number.checked_add(1)?;
        self.unfinished = Some(row);
        Some(None)
    }
}

impl<R: Iterator<Item = Result<FormerRow, FormerStoreError>>> Iterator for JoinedRows<R> {
    type Item = Result<FormerRow, FormerStoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let chunk = match self.chunks.next()? {
                Ok(chunk) => chunk,
                Err(error) => return Some(Err(error)),
            };
            match self.add_chunk(&chunk) {
                Some(Some(row)) => return Some(Ok(row)),
                Some(None) => {}
                None => return Some(Err(FormerStoreError::MalformedRow(self.tree))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(key: &[u8], number: u16, value: &[u8]) -> Result<FormerRow, FormerStoreError> {
        Ok(([key, &number.to_be_bytes()].concat(), value.to_vec()))
    }

    fn join(
        prefix_bytes: usize,
        chunks: Vec<Result<FormerRow, FormerStoreError>>,
    ) -> Vec<FormerRow> {
        JoinedRows::new("t", prefix_bytes, chunks.into_iter())
            .collect::<Result<_, _>>()
            .expect("no row is malformed")
    }

    #[test]
    fn chunks_are_joined_and_their_prefix_stands_once() {
        let rows = vec![
            chunk(b"a", 0, b"\x07\x00ab"),
            chunk(b"a", 1, b"\x07\x01c"),
            chunk(b"b", 0, b"\x07\x01"),
        ];
        let expected: [FormerRow; 2] = [
            (b"a".to_vec(), b"\x07abc".to_vec()),
            (b"b".to_vec(), b"\x07".to_vec()),
        ];
        assert_eq!(join(1, rows), expected);
    }

    #[test]
    fn what_a_crash_left_of_a_value_is_no_row() {
        let rows = vec![
            chunk(b"a", 0, b"\x01whole"),
            chunk(b"a", 1, b"\x01of a longer value"),
            chunk(b"b", 0, b"\x00without its end"),
            chunk(b"c", 1, b"\x01without its begin"),
            chunk(b"d", 0, b"\x00with"),
            chunk(b"d", 2, b"\x01out its middle"),
        ];
        assert_eq!(join(0, rows), [(b"a".to_vec(), b"whole".to_vec())]);
    }

    #[test]
    fn a_row_that_no_version_writes_is_an_error() {
        for (key, value) in [(&b"k"[..], &b"\x01"[..]), (b"key", b"")] {
            let row = Ok((key.to_vec(), value.to_vec()));
            let read = JoinedRows::new("t", 0, [row].into_iter()).next();
            assert!(matches!(
                read,
                Some(Err(FormerStoreError::MalformedRow("t")))
            ));
        }
    }
}

//! Places up to which the content of sources with days of their own is removed, as the base file holds
//! them.
//!
//! | section | key | value |
//! |---|---|---|
//! | 5 | name of the source | format u8 = 1, `done` u64, `before` u64 |
//!
//! Integers are big-endian. These rows are the first of the file.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};

use super::error::BaseLoadError;
use crate::event::Position;
use crate::journal::{BaseRow, Journal, SegmentJournal};

const SECTION: u8 = 5;
const FORMAT: u8 = 1;

/// Part of a source's records whose content is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentCut {
    /// Position before which no segment holds content of the source.
    pub(super) done: Position,
    /// Position before which no content of the source is needed any more.
    pub(super) before: Position,
}

impl ContentCut {
    /// Cut of a source whose content is all there.
    pub(super) const NONE: Self = Self {
        done: Position::FIRST,
        before: Position::FIRST,
    };
}

/// Cuts of all sources from which content was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentCuts(BTreeMap<String, ContentCut>);

impl ContentCuts {
    /// Reads the cuts from the beginning of the base file of `journal`; there are none without one.
    ///
    /// # Errors
    /// [`BaseLoadError`] when the file cannot be read or is corrupt.
    pub(super) fn load(journal: &SegmentJournal) -> Result<Self, BaseLoadError> {
        let mut cuts = Self::default();
        let Some(mut base) = journal.read_base()? else {
            return Ok(cuts);
        };
        while let Some(rows) = base.read_rows()? {
            for row in rows {
                if row.section != SECTION {
                    return Ok(cuts);
                }
                let decoded = decode_row(row);
                let (source, cut) =
                    decoded.ok_or(BaseLoadError::Incomplete(journal.start().position))?;
                cuts.0.insert(source, cut);
            }
        }
        Ok(cuts)
    }

    /// Returns the rows for the base file.
    pub(super) fn to_rows(&self) -> impl Iterator<Item = BaseRow> {
        self.0.iter().map(|(source, cut)| {
            let mut value = vec![FORMAT];
            value.put_u64(cut.done.get());
            value.put_u64(cut.before.get());
            BaseRow {
                section: SECTION,
                key: source.clone().into_bytes(),
                value,
            }
        })
    }

    /// Returns the cuts with the names of their sources.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, ContentCut)> {
        self.0.iter().map(|(source, cut)| (source.as_str(), *cut))
    }

    /// Notes that no segment holds content of `source` before `done`.
    pub(super) fn finish_source(&mut self, source: &str, done: Position) {
        let cut = self.0.entry(source.to_owned()).or_insert(ContentCut::NONE);
        cut.done = cut.done.max(done);
        cut.before = cut.before.max(done);
    }

    /// Returns the cut of `source`.
    pub(super) fn cut_of(&self, source: &str) -> ContentCut {
        self.0.get(source).copied().unwrap_or(ContentCut::NONE)
    }

    /// Returns `true` if the record of `source` at `position` may lack its content.
    pub(super) fn contain(&self, source: &str, position: Position) -> bool {
        position < self.cut_of(source).before
    }

    /// Moves the cut of `source` to `before`; up to its former place, everything is done.
    pub(super) fn advance(&mut self, source: &str, before: Position) {
        let done = self.cut_of(source).before;
        let before = before.max(done);
        if before > Position::FIRST {
            self.0
                .insert(source.to_owned(), ContentCut { done, before });
        }
    }

    /// Returns the cuts when no segment holds content before them any more.
    pub(super) fn into_done(mut self) -> Self {
        for cut in self.0.values_mut() {
            cut.done = cut.before;
        }
        self
    }

    /// Notes that no segment holds content to be removed before `end` any more.
    pub(super) fn finish_before(&mut self, end: Position) {
        for cut in self.0.values_mut() {
            cut.done = cut.done.max(end.min(cut.before));
        }
    }

    /// Returns `true` if the content of the record of `source` at `position` is still to be removed.
    pub(super) fn is_undone(&self, source: &str, position: Position) -> bool {
        let cut = self.cut_of(source);
        cut.done <= position && position < cut.before
    }

    /// Returns the ranges of positions with content to be removed of some source, each with its end.
    /// They are in order and do not touch.
    pub(super) fn undone_ranges(&self) -> Vec<(Position, Position)> {
        let undone = self.0.values().filter(|cut| cut.done < cut.before);
        let mut cuts: Vec<_> = undone.map(|cut| (cut.done, cut.before)).collect();
        cuts.sort_unstable();
        let mut ranges: Vec<(Position, Position)> = Vec::new();
        for (done, before) in cuts {
            match ranges.last_mut() {
                Some((_, end)) if done <= *end => *end = before.max(*end),
                Some(_) | None => ranges.push((done, before)),
            }
        }
        ranges
    }

    /// Returns the first position whose content is still to be removed; `None` if there is none.
    pub(super) fn first_undone(&self) -> Option<Position> {
        let undone = self.0.values().filter(|cut| cut.done < cut.before);
        undone.map(|cut| cut.done).min()
    }

    /// Returns the position behind all cuts.
    pub(super) fn end(&self) -> Position {
        let ends = self.0.values().map(|cut| cut.before);
        ends.max().unwrap_or(Position::FIRST)
    }

    /// Returns `true` if a segment with the records from `first` to before `end` may hold content
    /// that is to be removed.
    pub(super) fn concern(&self, first: Position, end: Position) -> bool {
        self.0
            .values()
            .any(|cut| first < cut.before && cut.done < end && cut.done < cut.before)
    }
}

fn decode_row(row: BaseRow) -> Option<(String, ContentCut)> {
    let mut value = row.value.as_slice();
    value.try_get_u8().ok().filter(|format| *format == FORMAT)?;
    let cut = ContentCut {
        done: Position::new(value.try_get_u64().ok()?),
        before: Position::new(value.try_get_u64().ok()?),
    };
    Some((String::from_utf8(row.key).ok()?, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Position {
        Position::new(position)
    }

    #[test]
    fn the_bytes_of_a_cut_never_change() {
        let mut cuts = ContentCuts::default();
        cuts.advance("support", at(5));
        cuts.advance("support", at(9));
        let row = cuts.to_rows().next().expect("one row");
        assert_eq!((row.section, row.key.as_slice()), (5, &b"support"[..]));
        assert_eq!(
            hex::encode(&row.value),
            "0100000000000000050000000000000009"
        );
        let cut = ContentCut {
            done: at(5),
            before: at(9),
        };
        assert_eq!(decode_row(row), Some(("support".to_owned(), cut)));
    }

    #[test]
    fn only_segments_between_the_former_cut_and_the_new_one_are_rewritten() {
        let mut cuts = ContentCuts::default();
        cuts.advance("support", at(5));
        let mut cuts = cuts.into_done();
        assert!(!cuts.concern(at(1), at(5)));
        cuts.advance("support", at(9));
        cuts.advance("leads", at(3));
        let concerned = |first, end| cuts.concern(at(first), at(end));
        assert!(concerned(1, 3) && concerned(5, 6) && concerned(8, 20));
        assert!(!concerned(3, 5) && !concerned(9, 20));
        assert!(cuts.contain("support", at(8)) && !cuts.contain("leads", at(3)));
        assert_eq!((cuts.first_undone(), cuts.end()), (Some(at(1)), at(9)));
        let mut rest = cuts.clone();
        rest.finish_before(at(7));
        let cut_of_rest = ["leads", "support"].map(|source| rest.cut_of(source).done);
        assert_eq!(cut_of_rest, [at(3), at(7)]);
        assert_eq!(cuts.into_done().first_undone(), None);
    }

    #[test]
    fn records_that_two_sources_have_done_are_not_read_again() {
        let mut cuts = ContentCuts::default();
        cuts.advance("support", at(90));
        let mut cuts = cuts.into_done();
        cuts.advance("support", at(99));
        cuts.advance("leads", at(3));
        cuts.advance("crm", at(2));
        assert_eq!(cuts.undone_ranges(), [(at(1), at(3)), (at(90), at(99))]);
        assert!(cuts.is_undone("support", at(90)) && cuts.is_undone("crm", at(1)));
        assert!(!cuts.is_undone("support", at(2)) && !cuts.is_undone("crm", at(2)));
        cuts.advance("leads", at(95));
        assert_eq!(cuts.undone_ranges(), [(at(1), at(2)), (at(3), at(99))]);
    }

    #[test]
    fn a_cut_never_moves_back() {
        let mut cuts = ContentCuts::default();
        cuts.advance("support", at(5));
        cuts.advance("support", at(2));
        assert_eq!(cuts.cut_of("support").before, at(5));
    }
}

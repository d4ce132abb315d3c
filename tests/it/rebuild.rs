//! Everything derived can be made anew from the journal.

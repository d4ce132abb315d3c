//! Names that the configuration gives: few, used everywhere, and kept for as long as the process
//! lives.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

use parking_lot::Mutex;

/// An interned name, such as that of a source. Copied freely, compared by its text.
///
/// Each distinct text is kept for ever: make names of what is configured or stored, never of what a
/// request says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InternedName(&'static str);

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl InternedName {
    /// A name known when the program was written.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(text)
    }

    /// The name `text`, kept from now on.
    #[must_use]
    pub fn intern(text: &str) -> Self {
        let mut names = NAMES.lock();
        if let Some(known) = names.get(text) {
            return Self(known);
        }
        let kept = Box::leak(text.into());
        names.insert(kept);
        Self(kept)
    }

    /// The name `text`, if it was interned before.
    #[must_use]
    pub fn find_interned(text: &str) -> Option<Self> {
        NAMES.lock().get(text).map(|known| Self(known))
    }

    /// Its text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl Deref for InternedName {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl fmt::Display for InternedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for InternedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_once_it_was_interned() {
        assert_eq!(InternedName::find_interned("of this test only"), None);
        let name = InternedName::intern("of this test only");
        assert_eq!(InternedName::find_interned("of this test only"), Some(name));
        assert!(
            std::ptr::eq(
                InternedName::intern("of this test only").as_str(),
                name.as_str()
            ),
            "kept once"
        );
        assert_eq!(
            InternedName::from_static("of this test only"),
            name,
            "compared by text"
        );
    }
}

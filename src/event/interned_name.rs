//! Interned names, for the few names that the configuration defines and the whole program uses.
//! They stay in memory until the process ends.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

use parking_lot::Mutex;

/// Interned name, such as the name of a source. Cheap to copy, and compared by its text.
///
/// Each distinct text stays in memory for ever, so intern only names that are configured or stored,
/// never a text from a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InternedName(&'static str);

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl InternedName {
    /// Creates a name from a literal, without interning it.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(text)
    }

    /// Interns `text`, unless it is interned already, and returns its name.
    #[must_use]
    pub fn intern(text: &str) -> Self {
        let mut names = NAMES.lock();

        if let Some(known) = names.get(text) {
            return Self(known);
        }

        let leaked = Box::leak(text.into());
        names.insert(leaked);
        Self(leaked)
    }

    /// Returns the name `text` if it has been interned before.
    #[must_use]
    pub fn find_interned(text: &str) -> Option<Self> {
        NAMES.lock().get(text).map(|known| Self(known))
    }

    /// Returns the text of the name.
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

//! Characters that no reader sees, and that make a reader see other text than is there.

/// Returns true for control characters, line and paragraph separators, and marks that change the
/// direction of the text after them: they show `exe.fdp` as `pdf.exe` (Unicode Technical Report 36).
#[must_use]
pub fn is_invisible_mark(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

//! Formats an error and its sources as one line for a log or a person.

use std::error::Error;

/// Returns the texts of `error` and its sources, outermost first, separated by colons.
#[must_use]
pub(crate) fn format_error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        source = error.source();
        let source_text = error.to_string();
        // Some libraries repeat the text of their source at the end of their own text.
        if !text.ends_with(&source_text) {
            text = format!("{text}: {source_text}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum SampleError {
        #[error("cannot write")]
        Apart(#[source] io::Error),
        #[error("cannot write: {0}")]
        Within(#[source] io::Error),
    }

    #[test]
    fn every_source_is_shown_once() {
        let cause = || io::Error::other("the pipe is closed");
        for error in [SampleError::Apart(cause()), SampleError::Within(cause())] {
            assert_eq!(
                format_error_chain(&error),
                "cannot write: the pipe is closed"
            );
        }
    }
}

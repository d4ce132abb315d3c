//! An error with everything that caused it, in one line for a log or a person.

use std::error::Error;

/// `error` and its causes, outermost first, with colons between.
#[must_use]
pub(crate) fn format_error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        cause = error.source();
        let next = error.to_string();
        // Some libraries show their cause in their own text as well.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
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
    fn every_cause_is_shown_once() {
        let cause = || io::Error::other("the pipe is closed");
        for error in [SampleError::Apart(cause()), SampleError::Within(cause())] {
            assert_eq!(
                format_error_chain(&error),
                "cannot write: the pipe is closed"
            );
        }
    }
}

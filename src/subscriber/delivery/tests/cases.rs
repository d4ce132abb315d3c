//! Single cases, each a sentence.

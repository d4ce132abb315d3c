//! Purpose of a configuration, which decides about secrets.

/// Purpose of a configuration, which decides if secrets are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigPurpose {
    /// Runs a node: every secret of an enabled source must be set, and be hard to guess.
    Node,
    /// Runs a node for trials and tests: every secret must be set, and may be short.
    Trial,
    /// Judges a captured request as a node would: secrets may be missing.
    Judgement,
    /// Works on a node's data or calls a node: secrets may be missing, and schemas are not read.
    Tool,
}

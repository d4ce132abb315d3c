//! The binary's commands, run as a person would.

//! Panicking, passivated and quarantined entities.

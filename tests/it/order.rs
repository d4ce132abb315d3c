//! Per-entity order: numbers without gaps, late events that overwrite nothing newer.

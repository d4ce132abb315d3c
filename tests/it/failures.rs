//! A store that fails at put, flush or sync, and a full disk.

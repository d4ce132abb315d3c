//! Rebuilding what is derived gives what was there before.

use hookyard::app::{self, Rebuilt};

use crate::yard::Ground;

/// Rebuilds the store of `ground` on a thread of its own, since it blocks.
pub fn rebuild(ground: &Ground) -> Result<Rebuilt, app::Error> {
    let config = ground.config();
    std::thread::spawn(move || app::rebuild(&config)).join().expect("no panic in it")
}

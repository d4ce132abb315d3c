//! Entry point of the binary; all its code is in the library.

use std::process::ExitCode;

/// Allocator with a heap for each thread: events are allocated by one thread and freed by another,
/// which costs the system's allocator a seventh of the node's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookyard::cli::main()
}

//! Entry point of the binary; all its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hookyard::cli::main()
}

//! The `cairn-projector` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cairn_node::cairn_projector()
}

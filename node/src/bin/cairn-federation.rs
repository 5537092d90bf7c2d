//! The `cairn-federation` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cairn_node::cairn_federation()
}

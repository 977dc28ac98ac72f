//! The command `hydra-worker`: finds libtorch, then becomes `hydra-worker-engine`.
//!
//! It names nothing of this package's library: whatever it named would bring libtorch with it.

fn main() -> std::process::ExitCode {
    hydra_shell::launch::launch("hydra-worker")
}

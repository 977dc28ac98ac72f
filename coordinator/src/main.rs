//! The command `hydra-coordinator`: finds libtorch, then becomes `hydra-coordinator-engine`.

fn main() -> std::process::ExitCode {
    hydra_shell::launch::launch("hydra-coordinator")
}

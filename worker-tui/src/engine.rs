//! The worker itself, started by the command `hydra-worker`.

fn main() -> std::process::ExitCode {
    hydra_worker::run()
}

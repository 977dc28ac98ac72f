//! The coordinator itself, started by the command `hydra-coordinator`.

fn main() -> std::process::ExitCode {
    hydra_coordinator::run()
}

//! The command `hydra-query`.

fn main() -> std::process::ExitCode {
    hydra_query::run()
}

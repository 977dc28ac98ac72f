//! `hydra-coordinator` with one thread more, which panics when a test says so: for `xtask/tests/screens`.
//!
//! `PANIC_AT` is where the test listens; its hanging up is the word.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let at = std::env::var("PANIC_AT").expect("the test names its address");
    std::thread::spawn(move || {
        let mut wire = TcpStream::connect(at).expect("the test listens");
        // However it ends.
        let _ = wire.read_to_end(&mut Vec::new());
        panic!("a bug on purpose");
    });
    hydra_coordinator::run()
}

//! Opening a pseudo-terminal and starting a program as the leader of its session.
//!
//! The system offers both only through C, so this is one of the few places with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::termios::Winsize;

/// A new terminal: its master's side, and the side of programs.
pub fn open() -> io::Result<(File, File)> {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both pointers are to integers that live through the call; a name, modes and a size are not asked for.
    if unsafe { libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so both are open and nobody else's.
    let pair = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    for file in [&pair.0, &pair.1] {
        // Programs get the terminal as their standard streams and in no other way.
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(pair)
}

/// Starts a program whose terminal is `slave`.
pub fn spawn(command: &mut Command, slave: &File) -> io::Result<Child> {
    let terminal = slave.as_raw_fd();
    command
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave.try_clone()?));
    let lead = move || {
        // SAFETY: two system calls that touch no memory of this process.
        let done = unsafe { libc::setsid() != -1 && libc::ioctl(terminal, libc::TIOCSCTTY as _, 0) != -1 };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(lead) };
    command.spawn()
}

/// Sets the size, which tells the program.
pub fn resize(master: &File, columns: u16, rows: u16) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

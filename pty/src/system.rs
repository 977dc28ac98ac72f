//! Opening a pseudo-terminal and starting a program as the leader of its session.
//!
//! The system offers both only through C, so this is one of the few places with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::Winsize;

/// Held while a terminal is opened and while a program is started: one that starts between the two steps of opening
/// would keep another's terminal open.
static ALONE: Mutex<()> = Mutex::new(());

/// A new terminal: its master's side, and the side of programs.
pub fn open() -> io::Result<(File, File)> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
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
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Whether something that was typed waits to be read.
pub fn unread(slave: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(slave, PollFlags::IN)];
    // Unlike the number of bytes to read, this looks for those too that are still on their way within the system.
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
    Ok(fds[0].revents().contains(PollFlags::IN))
}

/// Sets the size, which tells the program.
pub fn resize(master: &File, columns: u16, rows: u16) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

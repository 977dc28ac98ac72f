//! Standard output as those see it who read only its beginning.

use std::io::{self, Write};

/// Output that may be cut short by those who read it, as `head` does: they have what they wanted.
pub struct Readers<W>(pub W);

impl<W: Write> Write for Readers<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_only_the_first_lines_is_no_error() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let mut out = Readers(pipe);
        out.write_all(b"a line\n").unwrap();
        out.flush().unwrap();
        let full = &mut [0; 2][..];
        assert!(Readers(full).write_all(b"a line\n").is_err(), "other errors are told");
    }
}

//! Copy of an archive on its way through the reader that checks it, and the count of its bytes.

use std::io::{self, Read, Write};

/// Sink that counts its bytes.
pub(super) struct CountedOutput<'o> {
    out: &'o mut dyn Write,
    bytes: u64,
}

impl<'o> CountedOutput<'o> {
    pub(super) fn new(out: &'o mut dyn Write) -> Self {
        Self { out, bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Write for CountedOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reader that writes all that is read to `out`.
pub(super) struct ArchiveTee<R, W> {
    input: R,
    out: W,
    write_error: Option<io::Error>,
}

impl<R, W> ArchiveTee<R, W> {
    pub(super) fn new(input: R, out: W) -> Self {
        Self {
            input,
            out,
            write_error: None,
        }
    }

    /// Takes the error of writing to `out`, which the reader saw as the end of its input.
    pub(super) fn take_write_error(&mut self) -> Option<io::Error> {
        self.write_error.take()
    }
}

impl<R: Read, W: Write> Read for ArchiveTee<R, W> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(bytes)?;
        match self.out.write_all(&bytes[..count]) {
            Ok(()) => Ok(count),
            Err(error) => {
                self.write_error = Some(error);
                Ok(0)
            }
        }
    }
}

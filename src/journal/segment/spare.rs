//! Spare segment: the next segment file, created ahead by a thread of its own so that no commit
//! waits for the allocation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use super::{Disk, DiskFile};

/// Created segment file that is not in use yet: it reads as zeros, and its name is on the disk.
pub(super) struct SpareSegment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

impl SpareSegment {
    /// Creates the file of segment `number`, in place of an unused one from an earlier run.
    ///
    /// # Errors
    /// The error of the operating system, such as a full disk.
    pub(super) fn create(
        disk: &dyn Disk,
        folder: &Path,
        number: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let path = segment_path(folder, number);
        // A used file cannot be here: its number would be lower. A fresh file holds no stale bytes
        // that could be taken for blocks.
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&path, bytes)?;
        disk.sync_folder(folder)?;
        Ok(Self { number, path, file })
    }
}

/// Returns the path of segment `number` in `folder`.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.segment"))
}

/// Parses a file name of [`segment_path`]; `None` if it is none.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    digits.parse().ok().filter(|_| digits.len() >= 10)
}

/// Receiver of the spare segments, one ahead.
pub(super) struct SpareSegments {
    /// `None` only while this is dropped.
    channels: Option<SpareChannels>,
    thread: Option<thread::JoinHandle<()>>,
    next_number: u64,
}

struct SpareChannels {
    requests: SyncSender<u64>,
    created: Receiver<io::Result<SpareSegment>>,
}

impl SpareSegments {
    /// Starts the thread, which creates segment `first_number` at once.
    ///
    /// # Errors
    /// The error of the operating system if the thread cannot be started.
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        first_number: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let (requests, numbers) = mpsc::sync_channel(1);
        let (sender, created) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("journal-spare".into())
            .spawn(move || {
                for number in numbers {
                    let spare = SpareSegment::create(disk.as_ref(), &folder, number, bytes);
                    if sender.send(spare).is_err() {
                        break;
                    }
                }
            })?;

        let spares = Self {
            channels: Some(SpareChannels { requests, created }),
            thread: Some(thread),
            next_number: first_number,
        };
        spares.request();
        Ok(spares)
    }

    /// Takes the spare segment, waits for it if need be, and has the next one created.
    ///
    /// # Errors
    /// The error of its creation, which was tried just now.
    pub(super) fn take(&mut self) -> io::Result<SpareSegment> {
        let spare = self.receive().or_else(|_| {
            // That attempt may be old, and the disk may have room again.
            self.request();
            self.receive()
        });
        if spare.is_ok() {
            self.next_number += 1;
        }
        self.request();
        spare
    }

    fn receive(&self) -> io::Result<SpareSegment> {
        self.channels
            .as_ref()
            .and_then(|channels| channels.created.recv().ok())
            .unwrap_or_else(|| Err(io::Error::other("the journal's spare thread ended")))
    }

    fn request(&self) {
        // There is room: a request is made only after the earlier one was answered. A thread that
        // has ended is reported by the next `take`.
        if let Some(channels) = &self.channels {
            let _ = channels.requests.try_send(self.next_number);
        }
    }
}

impl Drop for SpareSegments {
    fn drop(&mut self) {
        // Wait for the thread: once the data folder is free for others, it must touch no file.
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has logged any panic of the thread.
            let _ = thread.join();
        }
    }
}

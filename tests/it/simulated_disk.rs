//! Disk in memory that loses at a power cut what a real one may lose.
//!
//! ```text
//!  write          ──> page cache ──sync_data────> platter     a list of unsynced changes for each file,
//!  create, rename ──> names      ──sync_folder──> platter     and one for the names
//!
//!  power cut   platter + each unsynced change kept, lost, or kept in part
//!  kill        page cache; the unsynced changes stay unsynced
//!  sync fails  once; the changes count as clean afterwards: no later sync writes them
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hookyard::journal::{Disk, DiskFile};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Thread of the journal that creates the segments ahead.
const SPARE_THREAD: &str = "journal-spare";

/// Far longer than the creation of a file in memory takes.
const SPARE_PATIENCE: Duration = Duration::from_millis(200);

/// Errors as the operating system numbers them.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// Seeded generator of random draws: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct SeededDraws(u64);

impl SeededDraws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() % end as u64).expect("it is below a usize")
    }

    /// Is true in one of `times` draws.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Kind of an operation, for scripts of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    Write,
    Sync,
    Create,
    Rename,
    Remove,
    SyncFolder,
}

/// Way in which an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    Io,
    Full,
    /// This operation and all later ones fail, until the disk is healed.
    ReadOnly,
    /// A part is written before the error.
    ShortWrite,
}

impl DiskFault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => EIO,
            Self::Full | Self::ShortWrite => ENOSPC,
            Self::ReadOnly => EROFS,
        })
    }
}

/// Failure that comes when `kind` was called `spared` times more.
#[derive(Clone, Copy, Debug)]
pub struct ScriptedFailure {
    pub kind: OperationKind,
    pub spared: usize,
    /// Number of operations of the kind that fail.
    pub times: usize,
    pub fault: DiskFault,
}

/// Disk in memory; a handle of it is cheap to clone.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<SharedDisk>,
}

struct SharedDisk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

/// Everything on the disk, and the tests' hold on it.
#[derive(Clone)]
struct DiskState {
    /// Unit in which unsynced bytes are kept or lost: a sector or a page.
    piece_bytes: usize,
    files: Vec<FileContent>,
    cached_names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    cached_folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    unsynced_entries: Vec<EntryChange>,
    /// Number of changing operations so far.
    operations: usize,
    /// Operation in the middle of which everything stops.
    stop_at: Option<usize>,
    is_stopped: bool,
    is_read_only: bool,
    script: Vec<ScriptedFailure>,
    /// Number of scripted failures that came.
    failures: usize,
    is_held: bool,
    blocked: usize,
    /// Number of spare segments that the journal asked its other thread for.
    spares_due: usize,
    /// Number of them that are there, or failed.
    spares_done: usize,
}

/// Content of one file, as reads see it and as a power cut leaves it.
#[derive(Clone, Default)]
struct FileContent {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<FileChange>,
}

#[derive(Clone)]
enum FileChange {
    /// Bytes of a whole piece after a write. A piece whose sync failed counts as clean.
    Piece {
        index: usize,
        bytes: Vec<u8>,
        is_clean: bool,
    },
    Length(usize),
}

/// Part of an unsynced change that a power cut keeps.
#[derive(Clone, Copy)]
enum KeptPart {
    Nothing,
    Whole,
    Prefix(usize),
}

#[derive(Clone)]
enum EntryChange {
    Folder(PathBuf),
    Created(PathBuf, usize),
    Renamed(PathBuf, PathBuf, usize),
    Removed(PathBuf, usize),
}

/// Decision on an operation that is about to happen.
enum OperationVerdict {
    Succeed,
    Fail(DiskFault),
    /// The process dies in the middle of the operation, or just before its result arrives.
    Stop(SeededDraws),
}

impl SimulatedDisk {
    /// Creates an empty disk that keeps or loses `piece_bytes` at a time.
    pub fn new(piece_bytes: usize) -> Self {
        Self::from_state(DiskState {
            piece_bytes,
            files: Vec::new(),
            cached_names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            cached_folders: BTreeSet::new(),
            durable_folders: BTreeSet::new(),
            unsynced_entries: Vec::new(),
            operations: 0,
            stop_at: None,
            is_stopped: false,
            is_read_only: false,
            script: Vec::new(),
            failures: 0,
            is_held: false,
            blocked: 0,
            spares_due: 0,
            spares_done: 0,
        })
    }

    fn from_state(state: DiskState) -> Self {
        let shared = SharedDisk {
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Stops this disk for ever, and returns what a power cut may leave of it.
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut left = self.stop_and_copy();
        left.lose_unsynced(&mut SeededDraws::new(seed));
        Self::from_state(left)
    }

    /// Stops this disk for ever, and returns it as the next process finds it.
    pub fn kill(&self, seed: u64) -> Self {
        let left = Self::from_state(self.stop_and_copy());
        left.evict_clean(seed);
        left
    }

    /// Drops pages from the cache whose sync failed, as a system short of memory may.
    pub fn evict_clean(&self, seed: u64) {
        let mut draws = SeededDraws::new(seed);
        if !draws.one_in(4) {
            return;
        }
        let mut state = self.state();
        let piece_bytes = state.piece_bytes;
        for file in &mut state.files {
            file.evict_clean(piece_bytes, &mut draws);
        }
    }

    /// Lets everything stop in the middle of the operation after the next `spared` ones.
    pub fn stop_after(&self, spared: usize) {
        let mut state = self.state();
        state.stop_at = Some(state.operations + spared + 1);
    }

    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    pub fn is_read_only(&self) -> bool {
        self.state().is_read_only
    }

    pub fn operations(&self) -> usize {
        self.state().operations
    }

    pub fn plan_failure(&self, failure: ScriptedFailure) {
        self.state().script.push(failure);
    }

    /// Number of scripted failures that came so far.
    pub fn failures(&self) -> usize {
        self.state().failures
    }

    /// Ends all failures, those to come too.
    pub fn heal(&self) {
        let mut state = self.state();
        state.script.clear();
        state.is_read_only = false;
    }

    /// Blocks the next changing operation until [`SimulatedDisk::release`].
    pub fn hold(&self) {
        self.state().is_held = true;
    }

    pub fn release(&self) {
        self.state().is_held = false;
        self.shared.changed.notify_all();
    }

    /// Waits until an operation is blocked, or `is_over`.
    pub fn wait_until_blocked(&self, is_over: impl Fn() -> bool) {
        let mut state = self.state();
        for _ in 0..60_000 {
            if state.blocked > 0 || is_over() {
                return;
            }
            // The disk does not notice that something is over, so this asks again.
            let pause = Duration::from_millis(1);
            self.shared.changed.wait_for(&mut state, pause);
        }
        panic!("nothing reached the disk for a minute");
    }

    /// Names and lengths of the files, as reads see them.
    pub fn list_files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.state();
        let names = state.cached_names.iter();
        names
            .map(|(path, id)| (path.clone(), state.files[*id].cached.len()))
            .collect()
    }

    pub fn read_file(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.cached_names[path]].cached.clone()
    }

    /// Flips one bit of a file, in the cache and on the platter.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: usize) {
        let mut state = self.state();
        let id = state.cached_names[path];
        let file = &mut state.files[id];
        assert!(file.unsynced.is_empty(), "only durable bytes rot");
        file.cached[offset] ^= 1 << bit;
        file.durable[offset] ^= 1 << bit;
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.shared.state.lock()
    }

    fn stop_and_copy(&self) -> DiskState {
        let mut state = self.state();
        state.is_stopped = true;
        state.is_held = false;
        let copy = DiskState {
            is_stopped: false,
            stop_at: None,
            blocked: 0,
            spares_due: 0,
            spares_done: 0,
            ..state.clone()
        };
        drop(state);
        self.shared.changed.notify_all();
        copy
    }

    /// Lets a changing operation happen, fail, or be the last one.
    fn begin(
        &self,
        kind: OperationKind,
    ) -> io::Result<(MutexGuard<'_, DiskState>, OperationVerdict)> {
        let mut state = self.state();
        if !is_spare_thread() {
            self.wait_for_spare(&mut state);
        }
        if state.is_held {
            state.blocked += 1;
            self.shared.changed.notify_all();
            self.shared
                .changed
                .wait_while(&mut state, |state| state.is_held);
            state.blocked -= 1;
        }
        state.check_power()?;

        state.operations += 1;
        if state.stop_at == Some(state.operations) {
            state.is_stopped = true;
            self.shared.changed.notify_all();
            let draws = SeededDraws::new(state.operations as u64);
            return Ok((state, OperationVerdict::Stop(draws)));
        }
        let Some(fault) = state.next_fault(kind) else {
            return Ok((state, OperationVerdict::Succeed));
        };
        self.end_spare(&mut state);
        Ok((state, OperationVerdict::Fail(fault)))
    }

    /// Waits until the journal's other thread is idle: the order of all operations, and so the
    /// meaning of a seed, must not depend on the scheduler.
    fn wait_for_spare(&self, state: &mut MutexGuard<'_, DiskState>) {
        let is_due =
            |state: &mut DiskState| state.spares_done < state.spares_due && !state.is_stopped;
        // Bounded, because the thread may have been ended before it got to work.
        let wait = self
            .shared
            .changed
            .wait_while_for(state, is_due, SPARE_PATIENCE);
        if wait.timed_out() {
            state.spares_due = state.spares_done;
        }
    }

    /// Counts a spare segment after its last operation, or a failed one.
    fn end_spare(&self, state: &mut DiskState) {
        if is_spare_thread() {
            state.spares_done += 1;
            self.shared.changed.notify_all();
        }
    }

    /// Tells that the journal was opened, and so has asked for a spare segment.
    pub fn expect_spare(&self) {
        self.state().spares_due += 1;
    }

    /// Waits until no operation is on its way.
    pub fn wait_until_idle(&self) {
        self.wait_for_spare(&mut self.state());
    }

    /// Tells that the journal was closed, and with it its threads.
    pub fn forget_spares(&self) {
        let mut state = self.state();
        state.spares_due = state.spares_done;
    }

    /// Performs an operation that happens whole or not at all.
    fn perform<T>(
        &self,
        kind: OperationKind,
        change: impl FnOnce(&mut DiskState) -> io::Result<T>,
    ) -> io::Result<T> {
        let (mut state, verdict) = self.begin(kind)?;
        match verdict {
            OperationVerdict::Succeed => change(&mut state),
            OperationVerdict::Fail(fault) => Err(fault.error()),
            OperationVerdict::Stop(mut draws) => {
                if draws.one_in(2) {
                    change(&mut state)?;
                }
                Err(power_is_off())
            }
        }
    }
}

fn is_spare_thread() -> bool {
    thread::current().name() == Some(SPARE_THREAD)
}

/// Is true for the bytes that begin a segment other than the first, and not a rewritten one.
fn begins_segment(bytes: &[u8], offset: usize) -> bool {
    offset == 0
        && bytes.starts_with(b"HOOKYSEG")
        && bytes.get(16..24) != Some(&[0, 0, 0, 0, 0, 0, 0, 1])
        && bytes.get(52..56) == Some(&[0, 0, 0, 0])
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl DiskState {
    fn check_power(&self) -> io::Result<()> {
        if self.is_stopped {
            return Err(power_is_off());
        }
        Ok(())
    }

    fn next_fault(&mut self, kind: OperationKind) -> Option<DiskFault> {
        if self.is_read_only {
            return Some(DiskFault::ReadOnly);
        }
        for failure in &mut self.script {
            if failure.kind != kind || failure.times == 0 {
                continue;
            }
            if failure.spared > 0 {
                failure.spared -= 1;
                continue;
            }
            failure.times -= 1;
            self.failures += 1;
            self.is_read_only = failure.fault == DiskFault::ReadOnly;
            return Some(failure.fault);
        }
        None
    }

    fn find_file(&self, path: &Path) -> io::Result<usize> {
        let found = self.cached_names.get(path).copied();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn create_file(&mut self, path: &Path) -> io::Result<usize> {
        if self.cached_names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let id = self.files.len();
        self.files.push(FileContent::default());
        self.cached_names.insert(path.to_owned(), id);
        self.unsynced_entries
            .push(EntryChange::Created(path.to_owned(), id));
        Ok(id)
    }

    fn lose_unsynced(&mut self, draws: &mut SeededDraws) {
        for file in &mut self.files {
            file.lose_unsynced(self.piece_bytes, draws);
        }

        let changes = mem::take(&mut self.unsynced_entries);
        let bias = LossBias::draw(draws);
        for (number, change) in changes.iter().enumerate() {
            if bias.keeps(number, changes.len(), draws) {
                change.apply(&mut self.durable_names, &mut self.durable_folders);
            }
        }
        let folders = &self.durable_folders;
        self.durable_names
            .retain(|path, _| path.parent().is_some_and(|parent| folders.contains(parent)));
        self.cached_names = self.durable_names.clone();
        self.cached_folders = self.durable_folders.clone();
    }

    fn sync_folder(&mut self, folder: &Path) {
        for change in mem::take(&mut self.unsynced_entries) {
            if change.path().parent() == Some(folder) {
                change.apply(&mut self.durable_names, &mut self.durable_folders);
            } else {
                self.unsynced_entries.push(change);
            }
        }
    }
}

/// Choice of the unsynced changes that a power cut keeps.
#[derive(Clone, Copy)]
enum LossBias {
    AllLost,
    AllKept,
    OnlyLastKept,
    OnlyLastLost,
    OnlyFirstLost,
    /// As if the changes were written in order.
    FirstKept(usize),
    Half,
    MostKept,
    FewKept,
}

impl LossBias {
    fn draw(draws: &mut SeededDraws) -> Self {
        match draws.below(9) {
            0 => Self::AllLost,
            1 => Self::AllKept,
            2 => Self::OnlyLastKept,
            3 => Self::OnlyLastLost,
            4 => Self::OnlyFirstLost,
            5 => Self::FirstKept(draws.below(1 << 16)),
            6 => Self::Half,
            7 => Self::MostKept,
            _ => Self::FewKept,
        }
    }

    fn keeps(self, number: usize, count: usize, draws: &mut SeededDraws) -> bool {
        match self {
            Self::AllLost => false,
            Self::AllKept => true,
            Self::OnlyLastKept => number + 1 == count,
            Self::OnlyLastLost => number + 1 < count,
            Self::OnlyFirstLost => number > 0,
            Self::FirstKept(drawn) => number < drawn % (count + 1),
            Self::Half => draws.one_in(2),
            Self::MostKept => !draws.one_in(8),
            Self::FewKept => draws.one_in(8),
        }
    }
}

impl EntryChange {
    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Created(path, _) | Self::Removed(path, _) => path,
            Self::Renamed(_, to, _) => to,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>, folders: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Folder(path) => {
                folders.insert(path.clone());
            }
            Self::Created(path, id) => {
                names.insert(path.clone(), *id);
            }
            Self::Renamed(from, to, id) => {
                if names.get(from) == Some(id) {
                    names.remove(from);
                }
                names.insert(to.clone(), *id);
            }
            Self::Removed(path, id) => {
                if names.get(path) == Some(id) {
                    names.remove(path);
                }
            }
        }
    }
}

impl FileContent {
    fn write(&mut self, bytes: &[u8], offset: usize, piece_bytes: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.cached.len() {
            self.set_len(end);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        for index in offset / piece_bytes..=(end - 1) / piece_bytes {
            let start = index * piece_bytes;
            let stop = (start + piece_bytes).min(self.cached.len());
            self.unsynced.push(FileChange::Piece {
                index,
                bytes: self.cached[start..stop].to_vec(),
                is_clean: false,
            });
        }
    }

    fn set_len(&mut self, bytes: usize) {
        self.cached.resize(bytes, 0);
        self.unsynced.push(FileChange::Length(bytes));
    }

    fn sync(&mut self, piece_bytes: usize) {
        let changes = mem::take(&mut self.unsynced);
        self.durable = replay(
            mem::take(&mut self.durable),
            &changes,
            piece_bytes,
            |change| match change {
                FileChange::Piece { is_clean: true, .. } => KeptPart::Nothing,
                FileChange::Piece { .. } | FileChange::Length(_) => KeptPart::Whole,
            },
        );

        // The pages of an earlier failed sync may still reach the platter by themselves, unless
        // newer content of theirs is there.
        for (number, change) in changes.iter().enumerate() {
            let FileChange::Piece {
                index,
                is_clean: true,
                ..
            } = change
            else {
                continue;
            };
            let is_replaced = changes[number + 1..].iter().any(|later| match later {
                FileChange::Piece {
                    index: other,
                    is_clean,
                    ..
                } => other == index && !is_clean,
                FileChange::Length(bytes) => *bytes <= index * piece_bytes,
            });
            if !is_replaced {
                self.unsynced.push(change.clone());
            }
        }
    }

    fn fail_sync(&mut self) {
        for change in &mut self.unsynced {
            if let FileChange::Piece { is_clean, .. } = change {
                *is_clean = true;
            }
        }
    }

    fn evict_clean(&mut self, piece_bytes: usize, draws: &mut SeededDraws) {
        let dirty: BTreeSet<usize> = self
            .unsynced
            .iter()
            .filter_map(|change| match change {
                FileChange::Piece {
                    index,
                    is_clean: false,
                    ..
                } => Some(*index),
                FileChange::Piece { .. } | FileChange::Length(_) => None,
            })
            .collect();
        let mut evicted = BTreeSet::new();
        for change in &self.unsynced {
            if let FileChange::Piece { index, .. } = change
                && !dirty.contains(index)
                && !draws.one_in(4)
            {
                evicted.insert(*index);
            }
        }

        for index in &evicted {
            let start = index * piece_bytes;
            let stop = (start + piece_bytes).min(self.cached.len());
            for offset in start..stop {
                self.cached[offset] = self.durable.get(offset).copied().unwrap_or(0);
            }
        }
        self.unsynced.retain(|change| match change {
            FileChange::Piece { index, .. } => !evicted.contains(index),
            FileChange::Length(_) => true,
        });
    }

    fn lose_unsynced(&mut self, piece_bytes: usize, draws: &mut SeededDraws) {
        let changes = mem::take(&mut self.unsynced);
        let is_length = |change: &&FileChange| matches!(change, FileChange::Length(_));
        let lengths = changes.iter().filter(is_length).count();
        let pieces = changes.len() - lengths;
        // File systems write lengths in order, in the log of their metadata.
        let lengths_kept = match draws.below(4) {
            0 => 0,
            1 => draws.below(lengths + 1),
            _ => lengths,
        };
        let bias = LossBias::draw(draws);
        let torn_in = [2, 8, usize::MAX][draws.below(3)];

        let (mut length, mut piece) = (0, 0);
        self.durable = replay(
            mem::take(&mut self.durable),
            &changes,
            piece_bytes,
            |change| {
                let FileChange::Piece { bytes, .. } = change else {
                    length += 1;
                    return if length <= lengths_kept {
                        KeptPart::Whole
                    } else {
                        KeptPart::Nothing
                    };
                };
                piece += 1;
                if !bias.keeps(piece - 1, pieces, draws) {
                    KeptPart::Nothing
                } else if draws.one_in(torn_in) {
                    KeptPart::Prefix(draws.below(bytes.len() + 1))
                } else {
                    KeptPart::Whole
                }
            },
        );
        self.cached = self.durable.clone();
    }
}

/// Returns `durable` after the kept parts of `changes`.
fn replay(
    durable: Vec<u8>,
    changes: &[FileChange],
    piece_bytes: usize,
    mut keep: impl FnMut(&FileChange) -> KeptPart,
) -> Vec<u8> {
    let mut length = durable.len();
    let mut content = durable;
    for change in changes {
        let kept = keep(change);
        match change {
            FileChange::Piece { index, bytes, .. } => {
                let kept = match kept {
                    KeptPart::Nothing => continue,
                    KeptPart::Whole => bytes.as_slice(),
                    KeptPart::Prefix(kept) => &bytes[..kept],
                };
                let start = index * piece_bytes;
                if content.len() < start + kept.len() {
                    content.resize(start + kept.len(), 0);
                }
                content[start..start + kept.len()].copy_from_slice(kept);
            }
            FileChange::Length(bytes) => {
                if matches!(kept, KeptPart::Nothing) {
                    continue;
                }
                if *bytes < content.len() {
                    content[*bytes..].fill(0);
                }
                length = *bytes;
            }
        }
    }
    content.resize(length, 0);
    content
}

impl Disk for SimulatedDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if self.state().cached_folders.contains(path) {
            return Ok(());
        }
        self.perform(OperationKind::Create, |state| {
            state.cached_folders.insert(path.to_owned());
            state
                .unsynced_entries
                .push(EntryChange::Folder(path.to_owned()));
            Ok(())
        })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        if !state.cached_folders.contains(folder) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let paths = state.cached_names.keys();
        let names = paths
            .filter(|path| path.parent() == Some(folder))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        // Sorted by nothing, as in a real folder.
        let mut names: Vec<_> = names.collect();
        names.reverse();
        Ok(names)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let bytes = usize::try_from(bytes).expect("a small file");
        let (mut state, verdict) = self.begin(OperationKind::Create)?;
        match verdict {
            OperationVerdict::Succeed => {
                let id = state.create_file(path)?;
                if bytes > 0 {
                    state.files[id].set_len(bytes);
                }
                Ok(self.file(id))
            }
            OperationVerdict::Fail(fault) => {
                // The name comes first, then there is no room for the bytes.
                if fault == DiskFault::Full {
                    state.create_file(path)?;
                }
                Err(fault.error())
            }
            OperationVerdict::Stop(mut draws) => {
                if draws.one_in(2) {
                    let id = state.create_file(path)?;
                    if draws.one_in(2) {
                        state.files[id].set_len(bytes);
                    }
                }
                Err(power_is_off())
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.check_power()?;
        Ok(self.file(state.find_file(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(OperationKind::Rename, |state| {
            let id = state.find_file(from)?;
            state.cached_names.remove(from);
            state.cached_names.insert(to.to_owned(), id);
            let change = EntryChange::Renamed(from.to_owned(), to.to_owned(), id);
            state.unsynced_entries.push(change);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform(OperationKind::Remove, |state| {
            let id = state.find_file(path)?;
            state.cached_names.remove(path);
            state
                .unsynced_entries
                .push(EntryChange::Removed(path.to_owned(), id));
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.perform(OperationKind::SyncFolder, |state| {
            state.sync_folder(folder);
            self.end_spare(state);
            Ok(())
        })
    }
}

impl SimulatedDisk {
    fn file(&self, id: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile {
            disk: self.clone(),
            id,
        })
    }
}

/// Open file of a simulated disk.
struct SimulatedFile {
    disk: SimulatedDisk,
    id: usize,
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.files[self.id].cached.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.check_power()?;
        let offset = usize::try_from(offset).expect("a small file");
        let rest = state.files[self.id].cached.get(offset..).unwrap_or(&[]);
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("a small file");
        let (mut state, verdict) = self.disk.begin(OperationKind::Write)?;
        let is_blank = state.files[self.id].cached.first() == Some(&0);
        if is_blank && begins_segment(bytes, offset) {
            state.spares_due += 1;
        }
        let piece_bytes = state.piece_bytes;
        let operation = state.operations as u64;
        let file = &mut state.files[self.id];
        match verdict {
            OperationVerdict::Succeed => {
                file.write(bytes, offset, piece_bytes);
                Ok(())
            }
            OperationVerdict::Fail(fault) => {
                if fault == DiskFault::ShortWrite {
                    let written = SeededDraws::new(operation).below(bytes.len() + 1);
                    file.write(&bytes[..written], offset, piece_bytes);
                }
                Err(fault.error())
            }
            OperationVerdict::Stop(mut draws) => {
                let written = match draws.below(4) {
                    0 => 0,
                    1 => bytes.len(),
                    _ => draws.below(bytes.len() + 1),
                };
                file.write(&bytes[..written], offset, piece_bytes);
                Err(power_is_off())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, verdict) = self.disk.begin(OperationKind::Sync)?;
        let piece_bytes = state.piece_bytes;
        let file = &mut state.files[self.id];
        match verdict {
            OperationVerdict::Succeed => {
                file.sync(piece_bytes);
                Ok(())
            }
            OperationVerdict::Fail(fault) => {
                file.fail_sync();
                Err(fault.error())
            }
            OperationVerdict::Stop(mut draws) => {
                if draws.one_in(2) {
                    file.sync(piece_bytes);
                }
                Err(power_is_off())
            }
        }
    }
}

/// Regression guards of the simulation itself: a model that keeps too much proves nothing.
mod tests {
    use super::*;

    const FOLDER: &str = "/data/journal";

    fn disk_with_file(content: &[u8]) -> (SimulatedDisk, PathBuf, Arc<dyn DiskFile>) {
        let disk = SimulatedDisk::new(512);
        let path = Path::new(FOLDER).join("1");
        disk.create_folder(Path::new(FOLDER)).expect("creates");
        disk.sync_folder(Path::new("/data")).expect("syncs");
        let file = disk.create(&path, 4096).expect("creates");
        file.write_all_at(content, 0).expect("writes");
        (disk, path, file)
    }

    /// Contents of the file after many power cuts; `None` where it is not there.
    fn outcomes(disk: &SimulatedDisk, path: &Path) -> BTreeSet<Option<Vec<u8>>> {
        let cut = |seed| {
            let left = disk.power_cut(seed);
            left.open(path).is_ok().then(|| left.read_file(path))
        };
        (0..400).map(cut).collect()
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_nothing_else_for_sure() {
        let (disk, path, file) = disk_with_file(&[1; 1024]);
        assert!(outcomes(&disk.kill(0), &path).contains(&None));

        let (disk, path, file_2) = disk_with_file(&[1; 1024]);
        drop(file);
        file_2.sync_data().expect("syncs");
        disk.sync_folder(Path::new(FOLDER)).expect("syncs");
        file_2.write_all_at(&[2; 1024], 512).expect("writes");
        let outcomes = outcomes(&disk, &path);
        assert!(!outcomes.contains(&None), "its name was synced");
        let pieces = outcomes.iter().flatten().map(|content| {
            assert_eq!((content.len(), &content[..512]), (4096, &[1; 512][..]));
            (content[512], content[1024], content[1535])
        });
        let pieces: BTreeSet<_> = pieces.collect();
        for expected in [(1, 0, 0), (1, 2, 2), (2, 0, 0), (2, 2, 2), (2, 2, 0)] {
            assert!(pieces.contains(&expected), "{expected:?} of {pieces:?}");
        }
    }

    #[test]
    fn a_sync_after_a_failed_sync_succeeds_and_saves_nothing() {
        let (disk, path, file) = disk_with_file(&[1; 512]);
        disk.sync_folder(Path::new(FOLDER)).expect("syncs");
        disk.plan_failure(ScriptedFailure {
            kind: OperationKind::Sync,
            spared: 0,
            times: 1,
            fault: DiskFault::Io,
        });
        let error = file.sync_data().expect_err("planned");
        assert_eq!(error.raw_os_error(), Some(EIO));
        file.sync_data().expect("only one was planned");
        assert_eq!(disk.read_file(&path)[0], 1, "the cache shows it");

        let first_bytes: BTreeSet<_> = outcomes(&disk, &path)
            .into_iter()
            .map(|content| content.expect("synced")[0])
            .collect();
        assert_eq!(first_bytes, BTreeSet::from([0, 1]));
    }

    #[test]
    fn a_rename_leaves_the_old_name_or_the_new_one_and_its_sync_leaves_the_new_one() {
        let (disk, path, file) = disk_with_file(&[1; 512]);
        file.sync_data().expect("syncs");
        disk.sync_folder(Path::new(FOLDER)).expect("syncs");
        let renamed = path.with_extension("new");
        disk.rename(&path, &renamed).expect("renames");
        let names = |disk: &SimulatedDisk| -> BTreeSet<_> {
            (0..100)
                .map(|seed| disk.power_cut(seed).list_files())
                .collect()
        };
        let (old, new) = (vec![(path, 4096)], vec![(renamed, 4096)]);
        assert_eq!(names(&disk), BTreeSet::from([old, new.clone()]));

        let disk = disk.kill(0);
        disk.sync_folder(Path::new(FOLDER)).expect("syncs");
        assert_eq!(names(&disk), BTreeSet::from([new]));
    }
}

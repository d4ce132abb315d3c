//! Verification of a store's journal: reads its files, of a stopped node or beside a running one,
//! and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::base_file::{BaseReadError, open_base_file};
use super::content_cipher::ContentCipher;
use super::disk::LocalDisk;
use super::frame::JournalFrame;
use super::open_error::StoreOpenError;
use super::segment::{BlockBodyError, BlockContent, LogDamage, LogFolder, StoredBlock};
use super::store_identity::{FORMAT, StoreIdentity};
use super::table_changes::TableChanges;
use crate::event::{Position, Timestamp};

/// Problem of a block whose checksum is right.
const UNKNOWN_FORM: &str = "a block is whole, but its content has an unknown form";

/// Part of a journal that a verification reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedPart {
    /// Every byte of every segment.
    Everything,
    /// Headers of all segments, and the newest segment.
    NewestSegment,
}

/// Content and damage of a verified journal.
#[derive(Clone, Debug)]
pub struct JournalReport {
    /// Number of records that were read.
    pub records: u64,
    /// Groups of changes to the node's own tables that were read.
    pub changes: u64,
    /// Position after the last record.
    pub end: Position,
    /// Receive time of the last record that was read, which later ones never precede.
    pub last_received_at: Option<Timestamp>,
    /// Damaged places, at most one for each segment.
    pub damage: Vec<LogDamage>,
    /// File and offset of an incomplete commit at the end, which the next start drops.
    pub torn_tail: Option<(PathBuf, u64)>,
    /// Number of blocks that are not encrypted as new ones are: with another key, or not at all.
    pub outdated_blocks: u64,
    /// Number of blocks, and of base files, of which no configured key decrypts the content. Only
    /// their checksums were checked.
    pub encrypted_parts: u64,
}

/// Reads the journal in the data folder `folder`, whose content `cipher` decrypts, up to its durable
/// end if a node is running.
///
/// # Errors
/// [`StoreOpenError`] when there is no store, its files do not belong together, or a file cannot be
/// read.
pub fn verify_journal(
    folder: &Path,
    cipher: &ContentCipher,
    part: VerifiedPart,
) -> Result<JournalReport, StoreOpenError> {
    let journal = folder.join("journal");
    let identity =
        StoreIdentity::read(folder)?.ok_or_else(|| StoreOpenError::NoFormat(journal.clone()))?;
    if identity.version < FORMAT {
        return Err(StoreOpenError::NoJournal { folder: journal });
    }

    let (mut records, mut changes, mut last_received_at) = (0, 0, None);
    let (mut outdated_blocks, mut encrypted_parts) = (0, 0);
    let log = LogFolder::new(&identity, cipher.clone(), Arc::new(LocalDisk), journal);
    let check = log.check(part == VerifiedPart::Everything, &mut |stored| {
        let body = match stored.block.open_body(cipher, String::new) {
            Ok(body) => body,
            // Its checksum is right, and its key can still be configured.
            Err(BlockBodyError::Encrypted(_)) => {
                (outdated_blocks, encrypted_parts) = (outdated_blocks + 1, encrypted_parts + 1);
                return None;
            }
            Err(BlockBodyError::Malformed) => return Some(UNKNOWN_FORM),
        };
        outdated_blocks += u64::from(!body.is_current);
        match read_content(stored, body.bytes) {
            Some(BlockSummary::Records(count, received_at)) => {
                records += count;
                last_received_at = Some(received_at);
            }
            Some(BlockSummary::Changes) => changes += 1,
            None => return Some(UNKNOWN_FORM),
        }
        None
    })?;
    let mut damage = check.damage;
    if part == VerifiedPart::Everything {
        match check_base(&identity, cipher, &folder.join("journal"))? {
            BaseCheck::Whole => {}
            BaseCheck::Encrypted => encrypted_parts += 1,
            BaseCheck::Damaged(found) => damage.push(found),
        }
    }
    Ok(JournalReport {
        records,
        changes,
        end: check.end.position,
        last_received_at,
        damage,
        torn_tail: check.torn_tail,
        outdated_blocks,
        encrypted_parts,
    })
}

/// Result of reading the base file, or of finding none.
enum BaseCheck {
    Whole,
    Encrypted,
    Damaged(LogDamage),
}

/// Reads the base file of the journal in `folder`, if there is one.
fn check_base(
    identity: &StoreIdentity,
    cipher: &ContentCipher,
    folder: &Path,
) -> Result<BaseCheck, StoreOpenError> {
    let seed = identity.checksum_seed;
    let log_identity = (identity.incarnations.newest(), seed);
    let Some(base) = open_base_file(&LocalDisk, folder, log_identity)? else {
        return Ok(BaseCheck::Whole);
    };
    match base.check(seed, cipher) {
        Ok(()) => Ok(BaseCheck::Whole),
        Err(BaseReadError::Encrypted(_)) => Ok(BaseCheck::Encrypted),
        Err(BaseReadError::Io { file, source }) => Err(StoreOpenError::Io { path: file, source }),
        Err(BaseReadError::Corrupt { file, offset }) => Ok(BaseCheck::Damaged(LogDamage {
            file,
            offset,
            position: base.start.position,
            readable_from: None,
            problem: "the base file, which holds what was derived from removed events, is damaged",
        })),
    }
}

enum BlockSummary {
    /// Number of records, and the receive time of the last one.
    Records(u64, Timestamp),
    Changes,
}

/// Decodes `body`, the content of a block; `None` if no version of this program writes one like it.
fn read_content(stored: &StoredBlock, body: Bytes) -> Option<BlockSummary> {
    let block = &stored.block;
    match block.content {
        BlockContent::Changes => TableChanges::decode(body).map(|_| BlockSummary::Changes),
        BlockContent::Records => {
            let frame = JournalFrame::from_body(Position::new(block.number), body)?;
            let last = frame.entries.last()?;
            (frame.end().get() == block.next_number())
                .then(|| BlockSummary::Records(u64::from(block.count), last.received_at))
        }
    }
}

//! Log that several nodes share, of which each node's segments are a copy.
//!
//! ```text
//!  leader     commit ──append──> shared log ──durable──> own segments ──synced──> settled
//!                                    │
//!  followers                         └──read──> own segments, projection
//! ```
//!
//! The shared log decides: it takes a commit only from the node that leads, and only at its end. So
//! a copy is never ahead of it, and two nodes never write different commits at one place.

use std::error::Error;

use bytes::Bytes;

use super::content_cipher::ContentCipher;
use super::frame::JournalFrame;
use super::log_place::LogPlace;
use super::segment::{Block, BlockBodyError, BlockContent, StoredBlock};
use super::table_changes::TableChanges;
use crate::event::Position;

/// Error of a node that writes to the shared log.
#[derive(Debug, thiserror::Error)]
pub enum SharedLogError {
    /// The log takes commits of another node now, and nothing of this one.
    #[error("another node leads the cluster now")]
    Fenced,
    /// The log could not be reached in the time of the node's lease. A commit that was being
    /// appended may be there or not.
    #[error("the cluster's log could not be reached before the lease of this node ended")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// Shared log, as the node writes to it that leads. All methods block.
pub trait SharedLog: Send {
    /// Returns the place at which the next commit is expected.
    fn end(&self) -> LogPlace;

    /// Appends `commit`, which must begin at [`Self::end`]. Returns once it is durable.
    ///
    /// # Errors
    /// [`SharedLogError`]; the node must not write any more then.
    fn append(&mut self, commit: &LogCommit) -> Result<(), SharedLogError>;

    /// Renews the lease of this node, if it is time. Is called at least twice a second.
    ///
    /// # Errors
    /// [`SharedLogError`]; the node must not write any more then.
    fn renew_lease(&mut self) -> Result<(), SharedLogError>;

    /// Gives the lease back, so that another node need not wait for its end.
    fn release_lease(&mut self);
}

/// Part of a node in the log that its journal is a copy of.
pub enum LogRole {
    /// There is no shared log: the journal is the log.
    Sole,
    /// Each commit goes to the shared log first.
    Leader(Box<dyn SharedLog>),
    /// The journal takes nothing but commits of the shared log.
    Follower,
}

/// Commit in the form in which nodes exchange it: its blocks, each with the checksum of the block
/// before it in the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCommit {
    begin: LogPlace,
    end: LogPlace,
    bytes: Bytes,
}

/// Bytes that are no commit, or a commit of another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the commit at position {} of the cluster's log is malformed", .0.position)]
pub struct MalformedCommit(pub LogPlace);

impl LogCommit {
    /// Encodes `blocks`, the first of which is at `begin`, with checksums that continue `seed`.
    pub(super) fn encode(begin: LogPlace, blocks: &[Block], seed: u32) -> Self {
        let mut end = begin;
        let mut chain = 0;
        let size = blocks.iter().map(Block::stored_bytes).sum();
        let mut bytes = Vec::with_capacity(size);
        for block in blocks {
            chain = block.encode_into(&mut bytes, seed, 0, chain);
            block.advance_place(&mut end);
        }
        Self {
            begin,
            end,
            bytes: bytes.into(),
        }
    }

    /// Takes `bytes` for the commit that begins at `begin` and ends at `end`. They are checked when
    /// the commit is appended to a journal.
    #[must_use]
    pub const fn from_bytes(begin: LogPlace, end: LogPlace, bytes: Bytes) -> Self {
        Self { begin, end, bytes }
    }

    /// Returns the place of the commit's first block.
    #[must_use]
    pub const fn begin(&self) -> LogPlace {
        self.begin
    }

    /// Returns the place after the commit's last block.
    #[must_use]
    pub const fn end(&self) -> LogPlace {
        self.end
    }

    /// Returns the blocks in their encoded form.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Decodes the blocks, and checks that they continue each other from the commit's begin to its
    /// end.
    pub(super) fn decode(&self, seed: u32) -> Result<Vec<Block>, MalformedCommit> {
        let malformed = MalformedCommit(self.begin);
        let (mut place, mut chain) = (self.begin, 0);
        let mut blocks = Vec::new();
        let mut rest = self.bytes.clone();
        while !rest.is_empty() {
            let stored = StoredBlock::decode(&rest, 0, seed).ok_or(malformed)?;
            let is_next =
                stored.chain == chain && stored.block.number == stored.block.number_at(&place);
            let length = stored.block.stored_bytes();
            if !is_next || length > rest.len() {
                return Err(malformed);
            }
            stored.block.advance_place(&mut place);
            chain = stored.checksum;
            rest = rest.slice(length..);
            blocks.push(stored.block);
        }
        if blocks.is_empty() || place != self.end {
            return Err(malformed);
        }
        Ok(blocks)
    }
}

/// Content of a block of a commit, as readers of the journal see it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommitContent {
    Records(JournalFrame),
    Changes(u64, TableChanges),
}

impl CommitContent {
    /// Opens `block` of the commit at `begin`.
    pub(super) fn open(
        block: &Block,
        begin: LogPlace,
        cipher: &ContentCipher,
    ) -> Result<Self, CopyError> {
        let describe = || {
            format!(
                "the commit at position {} of the cluster's log",
                begin.position
            )
        };
        let malformed = || CopyError::Malformed(MalformedCommit(begin));
        let body = block
            .open_body(cipher, describe)
            .map_err(|error| match error {
                BlockBodyError::Malformed => malformed(),
                BlockBodyError::Encrypted(error) => CopyError::Encrypted(error),
            })?;
        let content = match block.content {
            BlockContent::Records => {
                JournalFrame::from_body(Position::new(block.number), body.bytes).map(Self::Records)
            }
            BlockContent::Changes => {
                TableChanges::decode(body.bytes).map(|changes| Self::Changes(block.number, changes))
            }
        };
        content.ok_or_else(malformed)
    }
}

/// Error of a journal that copies the shared log.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The bytes in the shared log are no commit.
    #[error(transparent)]
    Malformed(#[from] MalformedCommit),
    /// The commit is encrypted with a key that this node does not have.
    #[error(transparent)]
    Encrypted(#[from] super::content_cipher::DecryptionError),
    /// The commit does not continue what this node has.
    #[error(
        "this node has the log up to position {}, and the cluster's log goes on at {}",
        .at.position, .found.position
    )]
    Gap {
        /// Place after the last commit of this node.
        at: LogPlace,
        /// Place at which the commit begins.
        found: LogPlace,
    },
    /// The journal has failed or is being closed.
    #[error(transparent)]
    Closed(#[from] super::submission::JournalClosed),
    /// The journal cannot be read.
    #[error(transparent)]
    Unreadable(#[from] super::submission::JournalReadError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u32 = 7;

    fn sample() -> (LogPlace, Vec<Block>) {
        let begin = LogPlace {
            position: Position::new(40),
            change: 9,
        };
        let cipher = ContentCipher::default();
        let block = |content, number, count| {
            Block::new(content, number, count, vec![number as u8; 50], &cipher)
        };
        let blocks = vec![
            block(BlockContent::Records, 40, 3),
            block(BlockContent::Records, 43, 1),
            block(BlockContent::Changes, 9, 1),
        ];
        (begin, blocks)
    }

    #[test]
    fn a_commit_is_read_as_it_was_written() {
        let (begin, blocks) = sample();
        let commit = LogCommit::encode(begin, &blocks, SEED);
        assert_eq!(commit.end().position, Position::new(44));
        assert_eq!(commit.end().change, 10);
        assert_eq!(commit.decode(SEED), Ok(blocks));
    }

    #[test]
    fn no_changed_shortened_or_displaced_commit_is_taken() {
        let (begin, blocks) = sample();
        let commit = LogCommit::encode(begin, &blocks, SEED);
        let malformed = Err(MalformedCommit(begin));
        let with_bytes =
            |bytes: Vec<u8>| LogCommit::from_bytes(begin, commit.end(), bytes.into()).decode(SEED);

        for length in 0..commit.bytes().len() {
            assert_eq!(
                with_bytes(commit.bytes()[..length].to_vec()),
                malformed,
                "{length}"
            );
        }
        // The zeros that fill a block up to a multiple of eight are not checked: nothing reads them.
        let first = blocks[0].stored_bytes();
        for index in (0..first).filter(|index| commit.bytes()[*index] != 0) {
            let mut bytes = commit.bytes().to_vec();
            bytes[index] ^= 1;
            assert_eq!(with_bytes(bytes), malformed, "{index}");
        }
        let swapped = LogCommit::encode(begin, &[blocks[1].clone(), blocks[0].clone()], SEED);
        assert_eq!(swapped.decode(SEED), malformed);
        assert_eq!(commit.decode(SEED + 1), malformed);
        let elsewhere = LogCommit::from_bytes(begin, begin, commit.bytes().clone());
        assert_eq!(elsewhere.decode(SEED), malformed);
    }
}

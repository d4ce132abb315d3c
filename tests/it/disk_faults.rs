//! Faults of the journal's disk as the operating system reports them: the node answers 503 with the
//! reason, recovers by itself, and each of its answers is true afterwards.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::json;

use crate::failures::{
    check_timeline, incompressible_text, join_all, repeat_until_known, spawn_all, until_readyz_is,
};
use crate::hooked_disk::{DiskHooks, HookedDisk};
use crate::test_node::{TestAnswer, TestClient, TestEnv, run_async};

const TICKETS: [&str; 3] = ["SUP-1", "SUP-2", "SUP-3"];

/// Large enough that a few dozen events fill a segment.
const TEXT_BYTES: usize = 40_000;

/// Fault that lasts until the disk is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastingFault {
    /// No sync reaches the disk.
    SyncsFail,
    /// There is no room for another segment.
    NoRoomForFiles,
    /// Each write ends after its first bytes.
    WritesEndEarly,
    /// The file system was mounted read-only after an error.
    ReadOnly,
}

impl LastingFault {
    fn error(self) -> io::Error {
        let kind = match self {
            Self::SyncsFail => return io::Error::from_raw_os_error(5),
            Self::NoRoomForFiles | Self::WritesEndEarly => io::ErrorKind::StorageFull,
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        };
        kind.into()
    }

    /// Part of the reason that an operator reads.
    fn reason(self) -> &'static str {
        match self {
            Self::SyncsFail => "Input/output error",
            Self::NoRoomForFiles | Self::WritesEndEarly => "no storage space",
            Self::ReadOnly => "read-only filesystem",
        }
    }
}

/// Disk of a node, healthy at first.
#[derive(Default)]
struct FaultyDisk(Mutex<Option<LastingFault>>);

impl FaultyDisk {
    fn check(&self, affected: &[LastingFault]) -> io::Result<()> {
        match *self.0.lock() {
            Some(fault) if affected.contains(&fault) => Err(fault.error()),
            _ => Ok(()),
        }
    }
}

impl DiskHooks for FaultyDisk {
    fn before_write(&self) -> io::Result<()> {
        self.check(&[LastingFault::ReadOnly])
    }

    fn before_sync(&self) -> io::Result<()> {
        self.check(&[LastingFault::SyncsFail, LastingFault::ReadOnly])
    }

    fn before_create(&self) -> io::Result<()> {
        self.check(&[LastingFault::NoRoomForFiles, LastingFault::ReadOnly])
    }

    fn before_entry_change(&self) -> io::Result<()> {
        self.check(&[LastingFault::ReadOnly])
    }

    fn room_bytes(&self) -> Option<usize> {
        (*self.0.lock() == Some(LastingFault::WritesEndEarly)).then_some(20)
    }
}

#[test]
fn while_the_disk_fails_the_node_says_so_and_once_it_heals_every_event_is_there_exactly_once() {
    for fault in [
        LastingFault::SyncsFail,
        LastingFault::NoRoomForFiles,
        LastingFault::WritesEndEarly,
        LastingFault::ReadOnly,
    ] {
        run_async(survive(fault));
    }
}

async fn survive(fault: LastingFault) {
    let mut test_env = TestEnv::new(&[("store.segment_bytes", "1048576")]);
    let disk = Arc::new(FaultyDisk::default());
    test_env.deps.disk = Arc::new(HookedDisk(Arc::clone(&disk) as Arc<dyn DiskHooks>));
    let node = test_env.start().await;

    let is_enough = Arc::new(AtomicBool::new(false));
    let senders = spawn_all(TICKETS.map(|ticket| {
        let (client, is_enough) = (node.api.clone(), Arc::clone(&is_enough));
        async move {
            let (mut keys, mut accepted) = (Vec::new(), Vec::new());
            while !is_enough.load(Ordering::Relaxed) || keys.len() < 3 {
                let key = format!("{ticket}-{}", keys.len());
                accepted.extend(send_text_until_known(&client, ticket, &key).await);
                keys.push(key);
            }
            (keys, accepted)
        }
    }));

    // A fault that passes over and over again, and one that was there for long.
    for _ in 0..2 {
        *disk.0.lock() = Some(fault);
        let not_ready = until_readyz_is(&node, 503).await;
        let reason = not_ready.body["reason"].as_str().expect("a reason");
        assert!(reason.contains(fault.reason()), "{fault:?}: {reason}");
        *disk.0.lock() = None;
        until_readyz_is(&node, 200).await;
    }
    is_enough.store(true, Ordering::Relaxed);
    let sent = join_all(senders).await;

    for (ticket, (keys, accepted)) in TICKETS.iter().zip(&sent) {
        check_timeline(&node, ticket, keys, accepted).await;
    }
    node.stop().await;
    let node = test_env.start().await;
    for (ticket, (keys, accepted)) in TICKETS.iter().zip(&sent) {
        check_timeline(&node, ticket, keys, accepted).await;
    }
    node.stop().await;
}

/// Sends one large event until it is known to be stored.
async fn send_text_until_known(client: &TestClient, ticket: &str, key: &str) -> Option<TestAnswer> {
    let data = json!({"message_id": key, "text": incompressible_text(TEXT_BYTES)});
    repeat_until_known(client, || {
        client.send(ticket, key, "message.created", data.clone())
    })
    .await
}

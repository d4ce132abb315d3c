//! Messages to the service manager that started the node: systemd's protocol `sd_notify`, which is
//! one datagram to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::time::interval;
use tracing::warn;

use crate::edge::CoreGate;
use crate::error_chain;

const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Shortest time between two messages to the watchdog.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// Twice the longest time that a turn of an idle commit thread takes.
const TURN_MAX: Duration = Duration::from_secs(2);

/// State of the node that a service manager wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceState {
    /// The node accepts events from now on.
    Ready,
    /// The node stops in order.
    Stopping,
    /// The threads of the node move.
    Alive,
}

impl ServiceState {
    const fn message(self) -> &'static [u8] {
        match self {
            Self::Ready => b"READY=1",
            Self::Stopping => b"STOPPING=1",
            Self::Alive => b"WATCHDOG=1",
        }
    }
}

/// Tells the service manager's watchdog, if there is one, that the node is alive, as long as the thread
/// of this function and the commit thread behind `gate` move. A thread that hangs lets the service manager
/// restart the node. Without an open store there is nothing to restart for: `/readyz` says why.
pub(super) async fn feed_watchdog(gate: CoreGate) {
    let limit = std::env::var("WATCHDOG_USEC");
    let Some(limit) = limit.ok().and_then(|micros| micros.parse().ok()) else {
        return;
    };
    let period = Duration::from_micros(limit) / 2;
    let mut watch = CommitWatch::new(period);
    let mut ticks = interval(period.max(PERIOD_MIN));
    loop {
        ticks.tick().await;
        let turns = gate.current().map(|core| core.journal.commit_turns());
        if watch.has_moved(turns) {
            notify_service_manager(ServiceState::Alive);
        }
    }
}

/// Watch over the turns of the commit thread, which makes one every second at least.
#[derive(Debug)]
struct CommitWatch {
    last_turns: Option<u64>,
    /// Looks in a row that found no new turn.
    idle_looks: u32,
    /// Looks that fall into the time of one turn.
    idle_looks_max: u32,
}

impl CommitWatch {
    /// Begins a watch that looks once a `period`.
    fn new(period: Duration) -> Self {
        let looks = TURN_MAX.as_millis() / period.max(PERIOD_MIN).as_millis();
        Self {
            last_turns: None,
            idle_looks: 0,
            idle_looks_max: u32::try_from(looks).unwrap_or(u32::MAX),
        }
    }

    /// Tells if the thread is moving that has made so many `turns`, or if there is none.
    fn has_moved(&mut self, turns: Option<u64>) -> bool {
        let is_idle = turns.is_some() && turns == self.last_turns;
        self.idle_looks = if is_idle { self.idle_looks + 1 } else { 0 };
        self.last_turns = turns;
        self.idle_looks <= self.idle_looks_max
    }
}

/// Tells the service manager, if there is one. A failure is only logged: the node serves anyway.
pub(super) fn notify_service_manager(state: ServiceState) {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else {
        return;
    };
    if let Err(failure) = send_message(socket, state.message()) {
        let error = error_chain::format_error_chain(&failure);
        warn!(error, "service manager cannot be notified");
    }
}

fn send_message(socket: OsString, message: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::net::SocketAddr;

        // A leading @ marks a name without a file, as containers use it.
        if let Some(name) = socket.as_bytes().strip_prefix(b"@") {
            let address = SocketAddr::from_abstract_name(name)?;
            return sender.send_to_addr(message, &address).map(drop);
        }
    }
    sender.send_to(message, socket).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(receiver: &UnixDatagram) -> Vec<u8> {
        let mut message = [0; 64];
        let length = receiver.recv(&mut message).expect("a message");
        message[..length].to_vec()
    }

    #[test]
    fn a_message_reaches_the_socket_of_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).expect("a free name");
        send_message(path.into(), ServiceState::Ready.message()).expect("it listens");
        assert_eq!(receive(&receiver), b"READY=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_message_reaches_a_socket_without_a_file() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        let name = format!("hookyard-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let receiver = UnixDatagram::bind_addr(&address).expect("a free name");
        let socket = format!("@{name}").into();
        send_message(socket, ServiceState::Stopping.message()).expect("it listens");
        assert_eq!(receive(&receiver), b"STOPPING=1");
    }

    /// A node whose commit thread hung was never restarted.
    #[test]
    fn a_commit_thread_that_hangs_does_not_feed_the_watchdog() {
        let mut watch = CommitWatch::new(Duration::from_secs(30));
        let looks = [Some(1), Some(2), Some(2), Some(2), Some(3), None, None];
        let moved = looks.map(|turns| watch.has_moved(turns));
        assert_eq!(moved, [true, true, false, false, true, true, true]);
        // A turn may take longer than a short period.
        let mut watch = CommitWatch::new(Duration::from_millis(500));
        let moved = [1, 1, 1, 1, 1, 1].map(|turns| watch.has_moved(Some(turns)));
        assert_eq!(moved, [true, true, true, true, true, false]);
    }

    #[test]
    fn a_socket_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("none");
        assert!(send_message(missing.into(), b"READY=1").is_err());
    }
}

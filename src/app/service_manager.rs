//! Messages to the service manager that started the node: systemd's protocol `sd_notify`, which is
//! one datagram to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::warn;

use crate::error_chain;

const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// State of the node that a service manager wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceState {
    /// The node accepts events from now on.
    Ready,
    /// The node stops in order.
    Stopping,
}

impl ServiceState {
    const fn message(self) -> &'static [u8] {
        match self {
            Self::Ready => b"READY=1",
            Self::Stopping => b"STOPPING=1",
        }
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

    #[test]
    fn a_socket_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("none");
        assert!(send_message(missing.into(), b"READY=1").is_err());
    }
}

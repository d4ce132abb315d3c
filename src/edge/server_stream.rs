//! Stream of an accepted connection, plain or by TLS, and what TLS says of the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig as RustlsConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::config::read_subject;

/// Stream of a connection: plain, or encrypted.
pub(super) type ServerStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connection that is encrypted by TLS, as its requests see it.
#[derive(Clone, Debug)]
pub(super) struct TlsConnection {
    /// Subject of the client's certificate, which was verified; `None` if it has shown none.
    pub(super) client: Option<Arc<str>>,
}

impl TlsConnection {
    /// Describes the TLS of `stream`; `None` if it has none.
    pub(super) fn of_stream(stream: &ServerStream) -> Option<Self> {
        let Either::Right(stream) = stream else {
            return None;
        };
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let client = certificate.map(|certificate| {
            let subject = read_subject(certificate);
            subject.unwrap_or_else(|| "a subject that cannot be read".to_owned())
        });
        Some(Self {
            client: client.map(Arc::from),
        })
    }
}

/// Begins TLS on `io`. The whole handshake has `limit`.
///
/// # Errors
/// The handshake failed, or took too long.
pub(super) async fn accept_tls(
    io: TcpStream,
    acceptor: Arc<RustlsConfig>,
    limit: Duration,
) -> io::Result<ServerStream> {
    let accepted = timeout(limit, TlsAcceptor::from(acceptor).accept(io)).await;
    let stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Either::Right(Box::new(stream)))
}

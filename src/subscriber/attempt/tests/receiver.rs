//! A scripted server on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Action of the server on one request.
#[derive(Clone, Debug)]
pub(super) enum ReceiverAction {
    /// Answers with these bytes and keeps the connection.
    Answer(String),
    /// Answers with these bytes, keeps the connection and sends nothing more.
    Hang(&'static str),
    /// Answers with these bytes and closes the connection.
    Close(&'static str),
    /// Resets the connection without an answer.
    Reset,
    /// Answers 200 and sends an endless body slowly, a few bytes at a time.
    Drip,
    /// Answers with this status and an endless body.
    Endless(u16),
}

#[derive(Default)]
struct SeenRequests {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    written: AtomicUsize,
}

pub(super) struct AttemptReceiver {
    pub(super) address: SocketAddr,
    seen: Arc<SeenRequests>,
    serving: JoinHandle<()>,
}

impl Drop for AttemptReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl AttemptReceiver {
    /// Starts a receiver on loopback that performs one of `acts` on each request, and the last of
    /// them on all further requests.
    pub(super) async fn start(acts: &[ReceiverAction]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<SeenRequests>::default();
        let (own, acts): (_, Arc<[ReceiverAction]>) = (Arc::clone(&seen), acts.into());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                own.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&own), Arc::clone(&acts)));
            }
        });
        Self {
            address,
            seen,
            serving,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hooks?token=s3cret", self.address)
    }

    /// Returns heads and bodies of all requests.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of endless bodies that were sent.
    pub(super) fn written(&self) -> usize {
        self.seen.written.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<SeenRequests>, acts: Arc<[ReceiverAction]>) {
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut requests = seen.requests.lock();
            requests.push(request);
            requests.len()
        };
        let act = acts
            .get(number - 1)
            .or(acts.last())
            .expect("at least one")
            .clone();
        match act {
            ReceiverAction::Answer(answer) => stream
                .write_all(answer.as_bytes())
                .await
                .expect("the caller reads"),
            ReceiverAction::Close(answer) => {
                return stream
                    .write_all(answer.as_bytes())
                    .await
                    .expect("the caller reads");
            }
            ReceiverAction::Reset => {
                return stream.set_zero_linger().expect("a socket");
            }
            ReceiverAction::Hang(answer) => {
                stream
                    .write_all(answer.as_bytes())
                    .await
                    .expect("the caller reads");
                // Until the client closes the connection.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            ReceiverAction::Drip => {
                let mut piece = &b"HTTP/1.1 200 OK\r\n\r\n"[..];
                let mut pauses = tokio::time::interval(Duration::from_millis(5));
                while stream.write_all(piece).await.is_ok() {
                    pauses.tick().await;
                    piece = b"x";
                }
                return;
            }
            ReceiverAction::Endless(status) => {
                let head = format!("HTTP/1.1 {status} X\r\n\r\n");
                let mut piece = head.into_bytes();
                while stream.write_all(&piece).await.is_ok() {
                    seen.written.fetch_add(piece.len(), Ordering::SeqCst);
                    piece = vec![b'x'; 8 * 1024];
                }
                return;
            }
        }
    }
}

/// Reads one request, head and body; `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len()
                >= head + 4 + length.map_or(0, |length| length.parse().expect("a number"))
            {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

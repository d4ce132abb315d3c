//! Proxy before the database that cuts a connection after a statement has arrived and before its answer
//! is passed on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::test_node::run_async;

/// First byte of the message that an executed statement is answered with: `CommandComplete`.
const COMMAND_COMPLETE: u8 = b'C';

#[derive(Clone, Default)]
struct CutState {
    is_armed: Arc<AtomicBool>,
    cuts: Arc<AtomicU32>,
}

pub struct CutProxy {
    pub port: u16,
    state: CutState,
}

impl CutProxy {
    /// Passes connections on to `port`, on a thread of its own: a test waits for a node to start.
    pub fn start(port: u16) -> Self {
        let (sender, receiver) = mpsc::channel();
        let state = CutState::default();
        let cuts = state.clone();
        thread::spawn(move || {
            run_async(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let own_port = listener.local_addr().expect("bound").port();
                sender.send(own_port).expect("the test waits");
                while let Ok((client, _)) = listener.accept().await {
                    actix_rt::spawn(pass_on(client, port, cuts.clone()));
                }
            });
        });
        Self {
            port: receiver.recv().expect("the proxy listens"),
            state,
        }
    }

    /// Cuts the connection on which the next commit is answered.
    pub fn cut_next_answer(&self) {
        self.state.is_armed.store(true, Ordering::SeqCst);
    }

    /// Number of connections that were cut.
    pub fn cuts(&self) -> u32 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

async fn pass_on(client: TcpStream, port: u16, state: CutState) {
    let server = TcpStream::connect(("127.0.0.1", port)).await;
    let server = server.expect("the database accepts connections");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        // Ends when either side closes.
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let answering = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let is_insert = find_insert(&bytes[..count]);
            if is_insert && state.is_armed.swap(false, Ordering::SeqCst) {
                state.cuts.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}

/// Tells if `bytes` hold the completion of an insertion of one row.
fn find_insert(bytes: &[u8]) -> bool {
    let tag = b"INSERT 0 1\0";
    bytes
        .windows(tag.len() + 5)
        .any(|window| window[0] == COMMAND_COMPLETE && &window[5..] == tag)
}

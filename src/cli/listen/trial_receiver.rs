//! Receiver within the process of another command: it verifies and counts deliveries, and prints
//! nothing.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::sync::mpsc;

use super::behaviour::AnswerBehaviour;
use super::error::ListenError;
use super::keys::ListenerKeys;
use super::report::{ReportLine, ReportTotals};
use super::server::{LINES_MAX, ListenerContext, serve_receiver};
use crate::config::Secret;

/// Running receiver on a free port of loopback.
pub(in crate::cli) struct TrialReceiver {
    context: Arc<ListenerContext>,
    handle: ServerHandle,
    port: u16,
}

impl TrialReceiver {
    /// Starts a receiver that accepts every delivery, and expects signatures made with `secret`.
    /// `note_accepted` gets the id of each event that is accepted for the first time. Needs an actix
    /// system around it.
    pub(in crate::cli) fn start(
        secret: &Secret,
        note_accepted: impl Fn(&str) + 'static,
    ) -> Result<Self, ListenError> {
        let mut keys = ListenerKeys::default();
        keys.add_secret(secret.expose())?;
        let behaviour = AnswerBehaviour {
            fail: 0.0,
            seed: 0,
            status: 200,
            delay: Duration::ZERO,
        };
        let (lines, mut reported) = mpsc::channel(LINES_MAX);
        actix_rt::spawn(async move {
            while let Some(line) = reported.recv().await {
                let ReportLine {
                    delivery, is_new, ..
                } = line;
                delivery
                    .id
                    .filter(|_| is_new)
                    .iter()
                    .for_each(|id| note_accepted(id));
            }
        });
        let context = Arc::new(ListenerContext::new(keys, behaviour, lines));
        let (server, port) = listen_on_loopback()
            .and_then(|(listener, port)| {
                Ok((serve_receiver(Arc::clone(&context), listener)?, port))
            })
            .map_err(ListenError::Setup)?;
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(Self {
            context,
            handle,
            port,
        })
    }

    /// Returns the URL to deliver to.
    pub(in crate::cli) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Answers every further delivery with `status`.
    pub(in crate::cli) fn answer_with(&self, status: u16) {
        self.context.answer_with(status);
    }

    /// Returns the counters and the number of entities.
    pub(in crate::cli) fn totals(&self) -> (ReportTotals, u64) {
        self.context.totals()
    }

    pub(in crate::cli) async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

fn listen_on_loopback() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

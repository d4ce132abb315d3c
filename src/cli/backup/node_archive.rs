//! Archive that a running node sends over its admin API.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use reqwest::Response;
use tokio::runtime::{Builder, Runtime};

use super::error::BackupCommandError;
use crate::cli::node_args::SelectedNode;
use crate::cli::node_url::client_builder;
use crate::cli::refusal_detail::read_refusal_detail;
use crate::journal::BackupStart;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest silence of the node. The whole backup may take hours.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Body of the answer, read as it arrives.
pub(super) struct NodeArchive {
    runtime: Runtime,
    response: Response,
    rest: Bytes,
}

impl NodeArchive {
    /// Asks `node` for an archive from `start` on.
    pub(super) fn request(
        node: &SelectedNode,
        start: BackupStart,
    ) -> Result<Self, BackupCommandError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BackupCommandError::Client)?;
        let client = client_builder(node.is_own)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX)
            .build()
            .map_err(|error| BackupCommandError::Client(io::Error::other(error)))?;

        let query = match start {
            BackupStart::Everything => String::new(),
            BackupStart::Position(position) => format!("?since={position}"),
            BackupStart::Place(place) => {
                format!("?since={}&since_change={}", place.position, place.change)
            }
        };
        let address = format!("{}/api/v1/backup{query}", node.base);
        let request = client.get(address).bearer_auth(node.token.expose());
        let response = runtime.block_on(async {
            let answer = request.send().await;
            let answer = answer.map_err(|error| BackupCommandError::Unreachable {
                url: node.base.clone(),
                source: error.without_url(),
            })?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            Err(BackupCommandError::Refused {
                status,
                detail: read_refusal_detail(answer).await,
            })
        })?;
        Ok(Self {
            runtime,
            response,
            rest: Bytes::new(),
        })
    }
}

impl Read for NodeArchive {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let chunk = self.runtime.block_on(self.response.chunk());
            let chunk = chunk.map_err(|error| io::Error::other(error.without_url()))?;
            let Some(chunk) = chunk else { return Ok(0) };
            self.rest = chunk;
        }
        let count = bytes.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut bytes[..count]);
        Ok(count)
    }
}

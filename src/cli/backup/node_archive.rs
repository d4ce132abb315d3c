//! Archive that a running node sends over its admin API.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use reqwest::{Method, Response};
use tokio::runtime::{Builder, Runtime};

use super::error::BackupCommandError;
use crate::cli::admin_client::{AdminClient, given_filters};
use crate::journal::BackupStart;

/// Body of the answer, read as it arrives.
pub(super) struct NodeArchive {
    runtime: Runtime,
    response: Response,
    rest: Bytes,
}

impl NodeArchive {
    /// Asks `node` for an archive from `start` on.
    pub(super) fn request(
        node: &AdminClient,
        start: BackupStart,
    ) -> Result<Self, BackupCommandError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BackupCommandError::Client)?;

        let (since, change) = match start {
            BackupStart::Everything => (None, None),
            BackupStart::Position(position) => (Some(position.to_string()), None),
            BackupStart::Place(place) => (
                Some(place.position.to_string()),
                Some(place.change.to_string()),
            ),
        };
        let query = given_filters([
            ("since", since.as_deref()),
            ("since_change", change.as_deref()),
        ]);
        let url = node.url(&["backup"], &query)?;
        let response = runtime.block_on(node.call(Method::GET, url, None))?;
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

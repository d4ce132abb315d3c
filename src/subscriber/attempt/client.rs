//! The HTTP client of all attempts: one time limit over an exchange, one bound over all connections,
//! no redirect, and only the beginning of an answer is read.
//!
//! It speaks HTTP/1.1 by hyper's connection API and keeps the connections itself, instead of using
//! reqwest, for three reasons. An attempt on a kept connection that the receiver had closed has to be
//! told from one that the subscriber failed. reqwest's pool bounds idle connections for each host, and
//! neither idle nor open ones over all hosts. And a delivery costs less without a task for each
//! connection.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::timeout;
use tracing::error;

use super::access_tokens::AccessToken;
use super::classify::{AttemptError, SubscriberResponse, TIMEOUT};
use super::connection::SubscriberConnection;
use super::connection_pool::ConnectionPool;
use super::connector::SubscriberConnector;
use super::delivery_origin::DeliveryOrigin;
use super::prepared_target::DeliveryRequest;
use super::system_resolver::SystemResolver;
use super::tls::TlsSetupError;
use crate::clock::Clock;
use crate::config;

/// Status with which a server may close a connection that was idle for too long (RFC 9110, 15.5.9).
const REQUEST_TIMEOUT: u16 = 408;

/// Status of a request whose token is not valid (RFC 6750, section 3.1).
const UNAUTHORIZED: u16 = 401;

/// Client with the connections of all subscribers.
pub(super) struct DeliveryClient {
    connector: SubscriberConnector,
    pub(super) pool: ConnectionPool,
}

impl DeliveryClient {
    /// # Errors
    /// The certificates of `delivery.ca_files` cannot be read.
    pub(super) fn try_new(
        config: &config::DeliveryConfig,
        resolver: SystemResolver,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsSetupError> {
        Ok(Self {
            connector: SubscriberConnector::try_new(config, resolver, Arc::clone(&clock))?,
            pool: ConnectionPool::new(config.attempts_max, clock),
        })
    }

    /// Lets `networks` be called although they are not public, from the next connection on. No open
    /// connection is used again.
    pub(super) fn set_allow_targets(&self, networks: &[IpNet]) {
        if self.connector.set_allow_targets(networks) {
            self.pool.close_all();
        }
    }

    /// Shows `credentials` to servers from the next connection on. No open connection is used again,
    /// because it may have been begun with another certificate.
    pub(super) fn set_credentials(&self, config: &config::DeliveryConfig) {
        match self.connector.credentials.replace(config) {
            Ok(true) => self.pool.close_all(),
            Ok(false) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "credentials of subscribers' servers not renewed");
            }
        }
    }

    /// Posts `request` within `limit`, which covers connecting, sending and reading. Returns the
    /// part of the response that arrived, with an error if it is not complete.
    pub(super) async fn post_request(
        &self,
        request: &DeliveryRequest<'_>,
        limit: Duration,
    ) -> (SubscriberResponse, Option<AttemptError>) {
        let mut response = SubscriberResponse::default();
        let mut body = Vec::new();
        let exchange = self.send_and_read(request, &mut response, &mut body);
        let error = match timeout(limit, exchange).await {
            Ok(exchanged) => exchanged.err(),
            Err(_) => Some(timeout_error(limit, &response)),
        };
        response.body = body.into();
        (response, error)
    }

    async fn send_and_read(
        &self,
        request: &DeliveryRequest<'_>,
        response: &mut SubscriberResponse,
        body: &mut Vec<u8>,
    ) -> Result<(), AttemptError> {
        let Some(tokens) = self.connector.credentials.access_tokens(request) else {
            return self.exchange_once(request, None, response, body).await;
        };
        let token = tokens.current_token().await?;
        let mut exchanged = self
            .exchange_once(request, Some(&token), response, body)
            .await;
        if response.status == Some(UNAUTHORIZED) && tokens.forget_refused(&token) {
            // A token that was kept may have been withdrawn meanwhile, which is no failure.
            (*response, *body) = (SubscriberResponse::default(), Vec::new());
            let token = tokens.current_token().await?;
            exchanged = self
                .exchange_once(request, Some(&token), response, body)
                .await;
        }
        response.is_token_refused = response.status == Some(UNAUTHORIZED);
        exchanged
    }

    async fn exchange_once(
        &self,
        request: &DeliveryRequest<'_>,
        token: Option<&AccessToken>,
        response: &mut SubscriberResponse,
        body: &mut Vec<u8>,
    ) -> Result<(), AttemptError> {
        let generation = self.pool.generation();
        if let Some(mut kept) = self.pool.take_idle(request.origin()).await {
            let exchanged = kept
                .exchange(request.to_http_request(token), response, body)
                .await;
            let is_answered = match &exchanged {
                Ok(()) => response.status != Some(REQUEST_TIMEOUT),
                Err(_) => kept.has_received(),
            };
            if is_answered {
                return self
                    .end_exchange(request, kept, generation, exchanged)
                    .await;
            }

            // The receiver closed the connection before the request came. That is no failure, so
            // the request is sent once more, by a connection that cannot be stale.
            (*response, *body) = (SubscriberResponse::default(), Vec::new());
        }

        let mut fresh = self.open_connection(request.origin()).await?;
        let exchanged = fresh
            .exchange(request.to_http_request(token), response, body)
            .await;
        self.end_exchange(request, fresh, generation, exchanged)
            .await
    }

    async fn open_connection(
        &self,
        origin: &DeliveryOrigin,
    ) -> Result<SubscriberConnection, AttemptError> {
        let Some(slot) = self.pool.acquire_slot().await else {
            return Err(AttemptError::broken_off("this node stops"));
        };
        let stream = self.connector.connect(origin).await?;
        let started = SubscriberConnection::start(stream, slot).await;
        started.map_err(|error| AttemptError::broken_off(error.to_string()))
    }

    /// Keeps `connection` for the next attempt, unless the exchange failed.
    async fn end_exchange(
        &self,
        request: &DeliveryRequest<'_>,
        connection: SubscriberConnection,
        generation: u64,
        exchanged: Result<(), AttemptError>,
    ) -> Result<(), AttemptError> {
        if exchanged.is_ok() {
            self.pool
                .put_idle(request.origin(), connection, generation)
                .await;
        }
        exchanged
    }
}

fn timeout_error(limit: Duration, received: &SubscriberResponse) -> AttemptError {
    let problem = if received.status.is_some() {
        "response not complete"
    } else {
        "no response"
    };
    AttemptError::new(
        TIMEOUT,
        format!("{problem} within {} s", limit.as_secs_f64()),
    )
}

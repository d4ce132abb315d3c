//! Log lines: their look and their filter, to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::Error;
use crate::config::{LogFormat, Telemetry};

/// Sends what is logged from now on to standard error, as `telemetry` says.
pub(super) fn start(telemetry: &Telemetry) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&telemetry.level).map_err(|error| Error::Logging(error.into()))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match telemetry.log {
        LogFormat::Pretty => lines.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| Error::Logging(error.into()))
}

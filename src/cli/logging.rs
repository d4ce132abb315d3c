//! Log output: format and filter of the lines on standard error.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use super::error::CliError;
use crate::config::{LogFormat, TelemetryConfig};
use crate::log_sink::{LogSink, RawLineForm};

/// Highest level of noisy libraries, unless `telemetry.level` names them.
const LIBRARIES: [(&str, LevelFilter); 3] = [
    // Its info lines only announce workers.
    ("actix_server", LevelFilter::WARN),
    ("actix_web", LevelFilter::WARN),
    // Logs malformed requests of strangers as errors.
    ("actix_http", LevelFilter::OFF),
];

/// Filter of the log lines, which follows the configuration.
pub(super) struct LogFilter(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl LogFilter {
    /// Puts the level of `telemetry` into force, from the next line on.
    pub(super) fn set_level(&self, telemetry: &TelemetryConfig) {
        // The level was validated with the configuration.
        if let Ok(filter) = make_filter(telemetry) {
            (self.0)(filter);
        }
    }
}

/// Installs the log output on standard error, as `telemetry` describes.
pub(super) fn start_logging(telemetry: &TelemetryConfig) -> Result<LogFilter, CliError> {
    let filter = make_filter(telemetry).map_err(|error| CliError::Logging(error.into()))?;
    let raw_form = match telemetry.log {
        LogFormat::Pretty => RawLineForm::Text,
        LogFormat::Json => RawLineForm::Json,
    };
    let sink =
        LogSink::start(io::stderr(), raw_form).map_err(|error| CliError::Logging(error.into()))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // An error of a line would be written to standard error, where it could panic.
        .log_internal_errors(false)
        .with_writer(Arc::clone(&sink));
    let (started, filter) = match telemetry.log {
        LogFormat::Pretty => {
            let lines = lines
                .with_ansi(io::stderr().is_terminal())
                .with_filter_reloading();
            let filter = lines.reload_handle();
            (lines.finish().try_init(), follow_level(filter))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let filter = lines.reload_handle();
            (lines.finish().try_init(), follow_level(filter))
        }
    };
    sink.install();
    started.map_err(|error| CliError::Logging(error.into()))?;
    Ok(filter)
}

fn make_filter(telemetry: &TelemetryConfig) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(quiet_libraries(&telemetry.level))
}

fn follow_level<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> LogFilter {
    LogFilter(Box::new(move |filter| {
        // It fails only without the subscriber, which lives as long as the process.
        let _ = handle.reload(filter);
    }))
}

/// Appends a directive for each library that `level` does not name and would make noisy.
fn quiet_libraries(level: &str) -> String {
    let parts = || level.split(',').map(str::trim);
    let general = parts()
        .filter_map(|part| part.parse().ok())
        .next_back()
        .unwrap_or(LevelFilter::OFF);
    let is_named = |library: &str| {
        parts()
            .filter_map(directive_target)
            .any(|target| library.starts_with(target) || target.starts_with(library))
    };
    let mut text = level.to_owned();
    for (library, level_max) in LIBRARIES {
        if level_max < general && !is_named(library) {
            text.push_str(&format!(",{library}={level_max}"));
        }
    }
    text
}

/// Returns the target of the directive `part`; `None` for a bare level.
fn directive_target(part: &str) -> Option<&str> {
    let is_level = part.parse::<LevelFilter>().is_ok();
    part.split(['=', '['])
        .next()
        .filter(|target| !is_level && !target.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_the_level_names_them() {
        let table = [
            (
                "info",
                "info,actix_server=warn,actix_web=warn,actix_http=off",
            ),
            (
                "DEBUG",
                "DEBUG,actix_server=warn,actix_web=warn,actix_http=off",
            ),
            ("warn", "warn,actix_http=off"),
            ("error", "error,actix_http=off"),
            ("off", "off"),
            ("hookyard=debug", "hookyard=debug"),
            (
                "info,actix_http=debug",
                "info,actix_http=debug,actix_server=warn,actix_web=warn",
            ),
            (
                "info, actix_http::h1",
                "info, actix_http::h1,actix_server=warn,actix_web=warn",
            ),
            ("info,actix=info", "info,actix=info"),
        ];
        for (level, expected) in table {
            assert_eq!(quiet_libraries(level), expected);
            assert!(EnvFilter::try_new(expected).is_ok(), "{expected}");
        }
    }
}

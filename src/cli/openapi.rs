//! `hookyard openapi`: prints the description of the API, for tools that generate clients or pages.

use std::io::Write;

use super::error::CliError;
use crate::edge::docs::build_openapi;

/// Print the OpenAPI 3.1 description of the API as JSON
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard openapi > openapi.json")]
pub(super) struct OpenApiCommand {}

impl OpenApiCommand {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(&build_openapi()).map_err(std::io::Error::from)?;
        writeln!(out, "{text}")?;
        Ok(())
    }
}

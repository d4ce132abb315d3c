//! `hookyard guide`: prints the embedded guides as Markdown.

use std::io::Write;

use clap::builder::PossibleValuesParser;

use super::error::CliError;
use crate::edge::docs::guide::GUIDES;

/// Print a guide, or the list of guides
///
/// The guides are part of the binary and describe this version. A running node shows them at
/// /docs/guide/.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  hookyard guide subscribe | less")]
pub(super) struct GuideCommand {
    /// Topic of the guide; without it, the list of guides is printed
    #[arg(value_parser = PossibleValuesParser::new(GUIDES.map(|guide| guide.topic)))]
    topic: Option<String>,
}

impl GuideCommand {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), CliError> {
        match GUIDES
            .iter()
            .find(|guide| Some(guide.topic) == self.topic.as_deref())
        {
            Some(guide) => out.write_all(guide.markdown.as_bytes())?,
            None => {
                for guide in GUIDES {
                    writeln!(out, "{:<10} {}", guide.topic, guide.summary)?;
                }
            }
        }
        Ok(())
    }
}

//! `hookyard serve`: runs a node until a signal stops it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use tracing::warn;

use super::config_args::{ConfigArgs, LoadedConfig};
use super::error::CliError;
use super::node_url::listener_url;
use super::send::SAMPLE_TICKET;
use super::{dev_mode, logging};
use crate::app::{self, Node};
use crate::config::{Config, ConfigPurpose, DevSecrets, LiveConfig, Secret};
use crate::panics;

/// Run a node until a signal stops it
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hookyard serve --dev\n  hookyard serve --config hookyard.toml"
)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    config: ConfigArgs,
}

impl ServeCommand {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), CliError> {
        let LoadedConfig { config, dev } = self.config.load(ConfigPurpose::Node)?;
        let log_filter = logging::start_logging(&config.telemetry)?;
        panics::install_panic_hook();
        forbid_core_dumps();
        for warning in &config.warnings {
            warn!(%warning, "configuration has a weakness");
        }
        if let Some(secrets) = &dev {
            dev_mode::save_secrets(&config.store.path, secrets)?;
        }

        let shown = config.clone();
        let greet = |node: &Node| {
            if let Some(secrets) = &dev {
                let link = node.login_link();
                // Ignored: the node runs without a terminal too.
                let addresses = (node.address(), node.admin_address());
                let _ = self.print_greeting(&shown, addresses, secrets, link, out);
            }
        };
        let live_config = LiveConfig::new(config, self.config.read_again());
        live_config.follow(move |config| {
            log_filter.set_level(&config.telemetry);
            true
        });
        Ok(app::run_node(live_config, greet)?)
    }

    /// Prints the path of the secrets, two commands to paste (one sends an event, the other reads
    /// it back), and a link to the dashboard.
    fn print_greeting(
        &self,
        config: &Config,
        (address, admin_address): (SocketAddr, SocketAddr),
        secrets: &DevSecrets,
        login_link: Option<Secret>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let path = dev_mode::secrets_path(&config.store.path);
        let url = listener_url(config, address);
        let admin_url = listener_url(config, admin_address);
        let program = std::env::args_os()
            .next()
            .unwrap_or_else(|| "hookyard".into());
        let program = shell_word(Path::new(&program));
        let mut send =
            format!("{program} send message.created --entity {SAMPLE_TICKET} --url {url}");
        if let Some(file) = &self.config.config {
            send = format!("{send} --config {}", shell_quote(file));
        }
        // Another terminal does not have this terminal's environment.
        if std::env::var_os("HOOKYARD_STORE__PATH").is_some() {
            send = format!(
                "HOOKYARD_STORE__PATH={} {send}",
                shell_quote(&config.store.path)
            );
        }

        let is_generated = secrets
            .get("admin.token")
            .is_some_and(|secret| secret.expose() == config.admin.token.expose());
        let token = match is_generated {
            true => format!(
                "$(sed -n 's/^token = \"\\(.*\\)\"$/\\1/p' {})",
                shell_quote(&path)
            ),
            false => "<the admin.token you have set>".to_owned(),
        };

        writeln!(
            out,
            "development node on {url}, its secrets are in {}\n",
            path.display()
        )?;
        writeln!(out, "send an event:\n  {send}\n")?;
        writeln!(
            out,
            "read the ticket back:\n  curl -H \"Authorization: Bearer {token}\" \
             {admin_url}/api/v1/entities/ticket/{SAMPLE_TICKET}\n"
        )?;
        if let Some(link) = login_link {
            let link = link.expose();
            writeln!(
                out,
                "watch it in a browser (the link logs in once, within ten minutes):\n  {admin_url}{link}\n"
            )?;
        }
        out.flush()
    }
}

/// Keeps the memory of the process, which holds secrets and messages, out of core dumps and from
/// debuggers of the same user.
fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "core dumps cannot be switched off");
    }
}

/// Returns `path` as one word of a shell command, quoted only if needed.
fn shell_word(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte);
    let text = path.display().to_string();
    if text.bytes().all(|byte| plain(&byte)) {
        text
    } else {
        shell_quote(path)
    }
}

/// Returns `path` in single quotes for a shell.
fn shell_quote(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_node_goes_into_no_core_dump() {
        use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

        let before = dumpable_behavior().expect("Linux");
        forbid_core_dumps();
        let after = dumpable_behavior().expect("Linux");
        set_dumpable_behavior(before).expect("as it was");
        assert_eq!(after, DumpableBehavior::NotDumpable);
    }

    #[test]
    fn the_lines_to_paste_show_no_secret_and_name_what_differs_from_the_defaults() {
        let secrets = DevSecrets::generate(dev_mode::make_secret).expect("random bytes");
        let mut draft =
            crate::config::ConfigDraft::from_toml(None, [("HOOKYARD_SERVER__BIND", "127.0.0.1:9")]);
        draft.apply_dev_mode(&secrets);
        let config = draft.finish(ConfigPurpose::Node).expect("complete");
        let serve = ServeCommand {
            config: ConfigArgs {
                config: Some("it's.toml".into()),
                dev: true,
            },
        };
        let mut out = Vec::new();
        let address = "127.0.0.1:9".parse().expect("an address");
        serve
            .print_greeting(
                &config,
                (address, address),
                &secrets,
                Some(Secret::new("/dashboard/login?link=x")),
                &mut out,
            )
            .expect("memory to write to");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains("--url http://127.0.0.1:9 --config 'it'\\''s.toml'"),
            "{text}"
        );
        assert!(
            text.contains("/p' 'hookyard-data/dev-secrets.toml')\" http://127.0.0.1:9/api/v1/"),
            "{text}"
        );
        assert!(
            text.contains("  http://127.0.0.1:9/dashboard/login?link=x\n"),
            "{text}"
        );
        assert!(
            secrets
                .iter()
                .all(|(_, secret)| !text.contains(secret.expose()))
        );
    }
}

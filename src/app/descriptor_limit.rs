//! The process's limit of open files, raised as far as the operating system allows.
//!
//! Each connection takes a descriptor, and common systems begin a process with 1,024 of them. What
//! the administrator allows is the hard limit; the soft one is for programs that use `select`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::edge::ADMIN_CONNECTIONS_MAX;

/// Descriptors for everything but connections: the store's files, event queues, and log.
const OWN_DESCRIPTORS: u64 = 256;

/// Raises the soft limit to the hard one, and warns if it cannot hold the connections that `config`
/// allows.
pub(super) fn raise_descriptor_limit(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused where the system has a lower bound of its own; the limit stays as it was then.
    let _ = setrlimit(Resource::Nofile, raised);

    let needed = needed_descriptors(config);
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < needed
    {
        warn!(
            limit,
            needed, "limit of open files is below what the configuration allows"
        );
    }
}

fn needed_descriptors(config: &Config) -> u64 {
    let connections = config.server.connections_max + config.delivery.attempts_max;
    let admin = config
        .admin
        .bind
        .as_ref()
        .map_or(0, |_| ADMIN_CONNECTIONS_MAX);
    (connections + admin) as u64 + OWN_DESCRIPTORS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_config;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let config = load_config(None, [("HOOKYARD_ADMIN__TOKEN", "t")]).expect("valid");
        assert_eq!(needed_descriptors(&config), 10_000 + 1_024 + 256);
        let limit = getrlimit(Resource::Nofile);
        let lowered = Rlimit {
            current: limit.maximum.map(|maximum| maximum - 1),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, lowered).expect("a limit may be lowered");
        raise_descriptor_limit(&config);
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}

//! The process's limit of open files, raised as far as the operating system allows.
//!
//! Each connection takes a descriptor, and common systems begin a process with 1,024 of them. What
//! the administrator allows is the hard limit; the soft one is for programs that use `select`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::edge::ADMIN_CONNECTIONS_MAX;

/// Descriptors for everything but connections: the store's files, event queues, and log.
const OWN_DESCRIPTORS: usize = 256;

/// Fewest connections of a node, however low the limit is.
const CONNECTIONS_MIN: usize = 16;

/// Raises the soft limit to the hard one. Returns the most connections for which it has room besides
/// deliveries, the admin's listener and the store, with a warning if `config` allows more.
pub(super) fn fit_connections(config: &Config) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused where the system has a lower bound of its own; the limit stays as it was then.
    let _ = setrlimit(Resource::Nofile, raised);

    let configured = config.server.connections_max;
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return configured;
    };
    let connections = count_connections(config, limit);
    if connections < configured {
        warn!(
            limit,
            configured, connections, "limit of open files is low; fewer connections are accepted"
        );
    }
    connections
}

/// Returns the connections of `config` for which `limit` descriptors have room. Deliveries leave them
/// half of what there is at least.
fn count_connections(config: &Config, limit: u64) -> usize {
    let admin = config
        .admin
        .bind
        .as_ref()
        .map_or(0, |_| ADMIN_CONNECTIONS_MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let left = limit.saturating_sub(OWN_DESCRIPTORS + admin);
    let fitting = left.saturating_sub(config.delivery.attempts_max);
    config
        .server
        .connections_max
        .min(fitting.max(left / 2).max(CONNECTIONS_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_config;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let config = load_config(None, [("HOOKYARD_ADMIN__TOKEN", "t")]).expect("valid");
        for (limit, connections) in [
            (1 << 20, 10_000),
            (10_000 + 1_024 + 256, 10_000),
            (10_000 + 1_024 + 255, 9_999),
            (1_024, 384),
            (200, 16),
        ] {
            assert_eq!(count_connections(&config, limit), connections, "{limit}");
        }
        let limit = getrlimit(Resource::Nofile);
        let lowered = Rlimit {
            current: limit.maximum.map(|maximum| maximum - 1),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, lowered).expect("a limit may be lowered");
        fit_connections(&config);
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}

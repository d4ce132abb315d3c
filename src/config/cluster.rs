//! Section `[cluster]`: several nodes that share one log in a PostgreSQL.

use std::path::PathBuf;
use std::time::Duration;

use super::draft::ConfigDraft;
use super::problem::ConfigProblem;
use super::secret::Secret;
use super::values::parse_string;

/// Longest id of a node, in bytes.
const NODE_ID_MAX_BYTES: usize = 64;

/// Longest lease: whoever waits longer for another leader has no use for a second node.
const LEASE_MAX_S: f64 = 60.0;

/// Section `[cluster]` of a node that is part of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Server, database, user and password.
    pub server: tokio_postgres::Config,
    /// Name of this node, which no other node of the cluster has.
    pub node_id: String,
    /// URL at which the other nodes reach this one, without a slash at its end.
    pub advertise: String,
    /// Secret that all nodes share, by which they know requests that another one passes on.
    pub secret: Secret,
    /// Time without a renewal after which another node takes over.
    pub lease: Duration,
    /// Works also with a server that may lose acknowledged commits.
    pub allow_asynchronous: bool,
    /// Files of certificates that the server's certificate may be signed with.
    pub ca_files: Vec<PathBuf>,
}

impl ConfigDraft {
    /// Reads the lease, which a leader renews twice a second at most.
    fn read_lease(&mut self) -> Duration {
        let seconds = self.read_number_of("cluster.lease_s", "seconds", 1.0..=LEASE_MAX_S);
        Duration::from_secs_f64(seconds)
    }

    /// Reads the section; `None` without `cluster.postgres_url`.
    pub(super) fn read_cluster(&mut self) -> Option<ClusterConfig> {
        let server = self.read_as("cluster.postgres_url", |value| {
            let url = parse_string(value)?;
            if url.is_empty() {
                return Ok(None);
            }
            let expected = "a URL such as postgresql://user:password@host/database";
            let parsed = url.expose().parse::<tokio_postgres::Config>();
            // The URL holds a password, so it is not shown.
            let server = parsed.map_err(|_| format!("expected {expected}"))?;
            let is_whole = !server.get_hosts().is_empty() && server.get_dbname().is_some();
            is_whole
                .then_some(Some(server))
                .ok_or_else(|| format!("expected {expected}, with a host and a database"))
        });
        let is_clustered = server.is_some();
        let node_id = self.read_text("cluster.node_id", |text| {
            let is_valid = text.len() <= NODE_ID_MAX_BYTES
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            is_valid.then_some(()).ok_or_else(|| {
                "at most 64 letters, digits, hyphens, dots and underscores".to_owned()
            })
        });
        let advertise = self.read_base_url("cluster.advertise").unwrap_or_default();
        let secret = self.read_secret("cluster.secret");
        let lease = self.read_lease();
        let allow_asynchronous = self.read_boolean("cluster.allow_asynchronous");
        let ca_files = self.read_files("cluster.ca_files");
        let needed = [
            ("cluster.node_id", node_id.is_empty()),
            ("cluster.advertise", advertise.is_empty()),
            ("cluster.secret", secret.is_empty()),
        ];
        for (key, is_missing) in needed {
            // A member without its cluster would accept events under numbers that the cluster uses too.
            let (wrong, detail) = match (is_clustered, is_missing) {
                (true, true) => (
                    key,
                    "expected a value, because cluster.postgres_url is set".into(),
                ),
                (false, false) => {
                    let detail = format!("expected the URL of the database, because {key} is set");
                    ("cluster.postgres_url", detail)
                }
                (true, false) | (false, true) => continue,
            };
            let problem = ConfigProblem::for_key(wrong, self.origin_of(&[wrong]), detail);
            self.problems.push(problem);
        }
        Some(ClusterConfig {
            server: server?,
            node_id,
            advertise,
            secret,
            lease,
            allow_asynchronous,
            ca_files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_config;

    fn problems_of(section: &str) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("h.toml");
        std::fs::write(&file, section).expect("is written");
        let none = std::iter::empty::<(&str, &str)>();
        load_config(Some(&file), none)
            .map(|_| String::new())
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn a_cluster_needs_a_database_a_name_an_address_and_a_secret() {
        let problems = problems_of("[cluster]\npostgres_url = \"postgresql://u:hush@h/d\"\n");
        for key in ["cluster.node_id", "cluster.advertise", "cluster.secret"] {
            assert!(problems.contains(key), "{problems}");
        }
        for url in [
            "postgresql://u:hush@/d",
            "http://u:hush@h/d",
            "host=h password=hush",
        ] {
            let problems = problems_of(&format!("[cluster]\npostgres_url = \"{url}\"\n"));
            assert!(problems.contains("cluster.postgres_url"), "{problems}");
            assert!(!problems.contains("hush"), "{problems}");
        }
        assert!(!problems_of("").contains("cluster"));
        // The URL of a member that is lost makes it no node on its own.
        let problems = problems_of("[cluster]\nnode_id = \"a\"\n");
        assert!(problems.contains("cluster.postgres_url"), "{problems}");
    }

    #[test]
    fn a_cluster_refuses_the_removal_of_events() {
        let section = "[store]\nretention_days = 30\n[cluster]\nnode_id = \"a\"\nadvertise = \"http://a\"\n\
                       secret = \"0123456789abcdef01234567\"\npostgres_url = \"postgresql://u:p@h/d\"\n";
        assert!(problems_of(section).contains("store.retention_days"));
    }
}

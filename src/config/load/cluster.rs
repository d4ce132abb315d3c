//! Checks the keys that the nodes of a cluster do not follow.

use super::super::Config;
use super::super::draft::ConfigDraft;
use super::super::problem::ConfigProblem;

impl ConfigDraft {
    /// Refuses keys that the nodes of a cluster do not follow.
    pub(super) fn check_cluster(&mut self, config: &Config) {
        if config.cluster.is_none() {
            return;
        }
        let refused = [
            ("store.retention_days", config.store.retention.is_some()),
            ("store.max_bytes", config.store.max_bytes.is_some()),
        ];
        if config.admin.bind.is_some() {
            let key = "admin.bind";
            let detail =
                "cannot be set with cluster.postgres_url: nodes pass requests on to one address";
            let problem = ConfigProblem::for_key(key, self.origin_of(&[key]), detail);
            self.problems.push(problem);
        }
        let of_sources = !config.sources.retention.is_empty();
        let keys = refused
            .into_iter()
            .filter_map(|(key, is_set)| is_set.then_some(key))
            .chain(of_sources.then_some("retention_days of a source"));
        for key in keys.collect::<Vec<_>>() {
            let detail = "cannot be set with cluster.postgres_url: a cluster keeps its whole log";
            let problem = ConfigProblem::for_key(key, self.origin_of(&[key]), detail);
            self.problems.push(problem);
        }
    }
}

//! Parts of the answers of pre-leads, leads and customers.

use serde_json::Value as Json;

/// What an answer says besides the id of the entity that decides. The order of its members is the
/// contract's.
#[derive(Debug)]
pub(in crate::entity) enum AnswerMembers {
    /// An item was added to the entity: the name of its id, and the id. It stands before the
    /// entity's.
    Added(&'static str, u64),
    /// What holds for the entity now, which stands behind its id.
    Now(Vec<(&'static str, Json)>),
}

impl AnswerMembers {
    pub(in crate::entity) const NONE: Self = Self::Now(Vec::new());
}

//! Members of the answers of pre-leads, leads and customers.

use serde_json::Value as Json;

/// Members of an answer besides the id of the deciding entity. The contract fixes their order.
#[derive(Debug)]
pub(in crate::entity) enum AnswerMembers {
    /// Id of an added item, by the name of its member. It stands before the entity's id.
    AddedItem(&'static str, u64),
    /// Members that stand behind the entity's id.
    AfterId(Vec<(&'static str, Json)>),
}

impl AnswerMembers {
    pub(in crate::entity) const NONE: Self = Self::AfterId(Vec::new());
}

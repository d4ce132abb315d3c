//! Sources of calls: under these names requests stand in logs, and those of senders in the call
//! log.

use crate::event::{InternedName, catalogue};

/// Name of the support contract, in records and logs.
pub const SUPPORT: InternedName = InternedName::from_static("support");
/// Name of the leads contract, in records and logs.
pub const LEADS: InternedName = InternedName::from_static("leads");
/// Name of the CRM's event bus, in records and logs.
pub const CRM: InternedName = InternedName::from_static(catalogue::CRM_SOURCE);

/// Owner of the path that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallSource {
    /// The admin API.
    Admin,
    /// The description of the API.
    Docs,
    /// Nobody: there is nothing at the path, or it is for anyone.
    Nobody,
    /// Senders of a built-in contract.
    Contract(InternedName),
    /// The sender that the configuration describes at this place in its list.
    Configured {
        /// Place in the list of configured sources.
        index: usize,
        /// Name in the configuration.
        name: InternedName,
    },
}

impl CallSource {
    /// The name in logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Docs => "docs",
            Self::Nobody => "none",
            Self::Contract(name) | Self::Configured { name, .. } => name.as_str(),
        }
    }

    /// Calls of senders have a row in the call log; all others are the node's own business.
    pub(super) const fn is_logged(self) -> bool {
        match self {
            Self::Contract(_) | Self::Configured { .. } => true,
            Self::Admin | Self::Docs | Self::Nobody => false,
        }
    }
}

//! Sources of calls, by whose names requests are logged.

use crate::event::{InternedName, catalogue};

/// Name of the support contract, in records and logs.
pub const SUPPORT: InternedName = InternedName::from_static("support");
/// Name of the leads contract, in records and logs.
pub const LEADS: InternedName = InternedName::from_static("leads");
/// Name of the CRM's event bus, in records and logs.
pub const CRM: InternedName = InternedName::from_static(catalogue::CRM_SOURCE);

/// Source that a called path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallSource {
    /// Caller of the admin API.
    Admin,
    /// Reader of the API's documentation.
    Docs,
    /// Person who uses the dashboard.
    Dashboard,
    /// No source: an unknown path, or a path that anyone may call.
    Nobody,
    /// Sender of a built-in contract.
    Contract(InternedName),
    /// Sender that the configuration describes.
    Configured {
        /// Index in the list of configured sources.
        index: usize,
        /// Name that the configuration gives the source.
        name: InternedName,
    },
}

impl CallSource {
    /// Returns the source's name in logs and in the call log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Docs => "docs",
            Self::Dashboard => "dashboard",
            Self::Nobody => "none",
            Self::Contract(name) | Self::Configured { name, .. } => name.as_str(),
        }
    }

    /// Returns true if a call gets a row in the call log: only calls of senders do.
    pub(super) const fn is_logged(self) -> bool {
        match self {
            Self::Contract(_) | Self::Configured { .. } => true,
            Self::Admin | Self::Docs | Self::Dashboard | Self::Nobody => false,
        }
    }
}

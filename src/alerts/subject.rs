//! Conditions that alerts are about, and their text form in entity ids and logs.

use std::fmt;

use crate::event::{EntityKey, Kind};
use crate::subscriber::SubscriberId;

const BACKLOG_AGE: &str = "backlog_age";
const CERTIFICATE_END: &str = "certificate_end";
const DISK_SPACE: &str = "disk_space";
const LATE_SUBSCRIBERS: &str = "late_subscribers";
const PROJECTION_LAG: &str = "projection_lag";
const SILENT_SOURCE: &str = "silent_source";

/// Condition that the node watches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertSubject {
    /// Age of the oldest event that a subscriber is owed.
    BacklogAge(SubscriberId),
    /// Rest of the life of the certificate that the node presents.
    CertificateEnd,
    /// Free space of the disk that holds the data folder.
    DiskSpace,
    /// Number of subscribers that are owed an old event.
    LateSubscribers,
    /// Records that reads are behind.
    ProjectionLag,
    /// Time since the last event of a source.
    SilentSource(String),
}

impl AlertSubject {
    /// Conditions of the node as a whole.
    pub(super) const OF_NODE: [Self; 4] = [
        Self::CertificateEnd,
        Self::DiskSpace,
        Self::LateSubscribers,
        Self::ProjectionLag,
    ];

    /// Parses the text that [`fmt::Display`] writes; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == CERTIFICATE_END => Some(Self::CertificateEnd),
            None if text == DISK_SPACE => Some(Self::DiskSpace),
            None if text == LATE_SUBSCRIBERS => Some(Self::LateSubscribers),
            None if text == PROJECTION_LAG => Some(Self::ProjectionLag),
            Some((BACKLOG_AGE, subscriber)) => {
                SubscriberId::parse(subscriber).map(Self::BacklogAge)
            }
            Some((SILENT_SOURCE, source)) => Some(Self::SilentSource(source.to_owned())),
            None | Some(_) => None,
        }
    }

    /// Name of the condition, without the subscriber or source that it is about.
    #[must_use]
    pub const fn condition(&self) -> &'static str {
        match self {
            Self::BacklogAge(_) => BACKLOG_AGE,
            Self::CertificateEnd => CERTIFICATE_END,
            Self::DiskSpace => DISK_SPACE,
            Self::LateSubscribers => LATE_SUBSCRIBERS,
            Self::ProjectionLag => PROJECTION_LAG,
            Self::SilentSource(_) => SILENT_SOURCE,
        }
    }

    /// Subscriber or source that the condition is about; `None` if it is about the node.
    #[must_use]
    pub fn about(&self) -> Option<String> {
        match self {
            Self::BacklogAge(subscriber) => Some(subscriber.to_string()),
            Self::CertificateEnd
            | Self::DiskSpace
            | Self::LateSubscribers
            | Self::ProjectionLag => None,
            Self::SilentSource(source) => Some(source.clone()),
        }
    }

    /// Entity whose events tell the story of the condition; `None` if its id would be too long.
    pub(super) fn entity(&self) -> Option<EntityKey> {
        EntityKey::try_new(Kind::ALERT, &self.to_string()).ok()
    }
}

impl fmt::Display for AlertSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition())?;
        match self.about() {
            Some(about) => write!(f, ":{about}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_from_its_text() {
        for subject in [
            AlertSubject::BacklogAge(SubscriberId::Webhook(4)),
            AlertSubject::BacklogAge(SubscriberId::Forward("acc:1".into())),
            AlertSubject::CertificateEnd,
            AlertSubject::DiskSpace,
            AlertSubject::LateSubscribers,
            AlertSubject::ProjectionLag,
            AlertSubject::SilentSource("shop".to_owned()),
        ] {
            let text = subject.to_string();
            assert_eq!(AlertSubject::parse(&text), Some(subject), "{text}");
        }
        assert_eq!(AlertSubject::parse("disk_space:x"), None);
        assert_eq!(AlertSubject::parse("backlog_age:nobody"), None);
    }
}

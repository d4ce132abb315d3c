//! Kinds of entities: the built-in kinds, and custom kinds from the configuration.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::interned_name::InternedName;

/// Prefix of the name of a custom kind.
const CUSTOM_PREFIX: &str = "custom:";

/// Longest name of a custom kind, in bytes, without the prefix.
const NAME_MAX_BYTES: usize = 64;

/// Kind of an entity; each kind has its own state and rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Ticket of the support system.
    Ticket,
    /// Inquiry of the leads contract, which can be converted to a lead.
    PreLead,
    /// Lead of the leads contract, which can be won, lost or converted to a customer.
    Lead,
    /// Customer of the leads contract, made by converting a won lead.
    Customer,
    /// Lead of Contact2Sale, with the person that enrichment finds.
    C2sLead,
    /// Instagram conversation of a business account with one person.
    Conversation,
    /// Organisation in the CRM's database.
    Organisation,
    /// Person in the CRM's database.
    Person,
    /// Task in the CRM's database.
    Task,
    /// Mandate in the CRM's database; `mandat` is the CRM's own word.
    Mandat,
    /// Interaction, such as a call, in the CRM's database.
    Interaction,
    /// Kind of a configured source or a declared event, with its whole name, `custom:` included.
    Custom(InternedName),
}

impl Kind {
    /// All kinds that need no configuration.
    pub const BUILT_IN: [Self; 11] = [
        Self::Ticket,
        Self::PreLead,
        Self::Lead,
        Self::Customer,
        Self::C2sLead,
        Self::Conversation,
        Self::Organisation,
        Self::Person,
        Self::Task,
        Self::Mandat,
        Self::Interaction,
    ];

    /// Kind of the node's own alerts, one entity for each condition.
    pub const ALERT: Self = Self::Custom(InternedName::from_static("custom:alert"));

    /// Interns the kind `custom:<name>`; `None` if `name` is not 1 to 64 characters of a–z, 0–9,
    /// `_` and `-`.
    ///
    /// The name stays in memory for ever, so call this only for names that are configured or
    /// stored.
    #[must_use]
    pub fn intern_custom(name: &str) -> Option<Self> {
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
        };
        let fits = (1..=NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(plain);
        fits.then(|| Self::Custom(InternedName::intern(&format!("{CUSTOM_PREFIX}{name}"))))
    }

    /// Returns the kind's name on the wire and in store keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::PreLead => "pre_lead",
            Self::Lead => "lead",
            Self::Customer => "customer",
            Self::C2sLead => "c2s_lead",
            Self::Conversation => "conversation",
            Self::Organisation => "organisation",
            Self::Person => "person",
            Self::Task => "task",
            Self::Mandat => "mandat",
            Self::Interaction => "interaction",
            Self::Custom(name) => name.as_str(),
        }
    }

    /// Returns the kind with this name, if it is built in or this process has interned it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let built_in = Self::BUILT_IN
            .into_iter()
            .chain([Self::ALERT])
            .find(|kind| kind.as_str() == name);
        built_in.or_else(|| {
            name.starts_with(CUSTOM_PREFIX)
                .then(|| InternedName::find_interned(name).map(Self::Custom))?
        })
    }

    /// Returns the kind with this name from a store, which may contain a kind whose source is no
    /// longer configured.
    #[must_use]
    pub fn from_store(name: &str) -> Option<Self> {
        Self::parse(name).or_else(|| Self::intern_custom(name.strip_prefix(CUSTOM_PREFIX)?))
    }

    /// Returns `true` if the node itself allocates the ids of this kind's entities. Such ids are
    /// numbers, and no number is used twice.
    #[must_use]
    pub const fn has_allocated_ids(self) -> bool {
        matches!(self, Self::PreLead | Self::Lead | Self::Customer)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for Kind {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let built_in = text().enum_values(Some(Self::BUILT_IN.map(Self::as_str)));
        let custom = text().pattern(Some("^custom:[a-z0-9_-]{1,64}$"));
        let kind = AnyOfBuilder::new()
            .item(built_in.build())
            .item(custom.build())
            .description(Some("Kind of an entity."));
        RefOr::T(kind.build().into())
    }
}

impl ToSchema for Kind {
    fn name() -> Cow<'static, str> {
        "EntityKind".into()
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_store(&name).ok_or_else(|| de::Error::custom("expected the name of a kind"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_that_leads_back_to_it() {
        for kind in Kind::BUILT_IN {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        let made = Kind::intern_custom("billing-eu_2").expect("a name");
        assert_eq!(made.as_str(), "custom:billing-eu_2");
        assert_eq!(Kind::parse("custom:billing-eu_2"), Some(made));
    }

    #[test]
    fn a_request_cannot_make_a_kind_but_a_store_can_hold_one() {
        assert_eq!(Kind::parse("custom:never-configured"), None);
        assert_eq!(
            Kind::from_store("custom:once-configured"),
            Kind::intern_custom("once-configured")
        );
        for wrong in ["", "Upper", "a.b", "a:b", "ä", &"x".repeat(65)] {
            assert_eq!(Kind::intern_custom(wrong), None, "{wrong}");
        }
    }
}

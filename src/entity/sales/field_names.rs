//! Fields of pre-leads, leads and customers: all names, and the selection of each kind.

use serde::{Deserialize, Serialize};

/// Declares all fields with their names, which are the same on the wire and in the store.
macro_rules! sales_fields {
    ($($variant:ident = $name:literal,)+) => {
        /// Field of a pre-lead, lead or customer, under its name on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "the names are those of the wire")]
        pub enum SalesField {
            $(#[serde(rename = $name)] $variant,)+
        }

        impl SalesField {
            /// Name on the wire and in the store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Path in an event, such as `data.email`.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("data.", $name),)+
                }
            }
        }
    };
}

sales_fields! {
    FirstName = "first_name",
    LastName = "last_name",
    Email = "email",
    Phone = "phone",
    CompanyName = "company_name",
    CompanySize = "company_size",
    Designation = "designation",
    Source = "source",
    ProductInterest = "product_interest",
    Requirements = "requirements",
    City = "city",
    State = "state",
    Country = "country",
    AddressLine1 = "address_line1",
    AddressLine2 = "address_line2",
    ZipCode = "zip_code",
    Notes = "notes",
    LeadStatus = "lead_status",
    IndustryId = "industry_id",
    RegionId = "region_id",
    OfficeTimings = "office_timings",
    Timezone = "timezone",
    Priority = "priority",
    AssignedTo = "assigned_to",
    ExpectedValue = "expected_value",
    ProfileType = "profile_type",
    Company = "company",
    Industry = "industry",
    BestTimeCall = "best_time_call",
    Mode = "mode",
    ContactName = "contact_name",
    NeedType = "need_type",
    CurrentSolution = "current_solution",
    PainPoint = "pain_point",
    Budget = "budget",
    DecisionTimeline = "decision_timeline",
    DecisionMaker = "decision_maker",
    CompetitorInfo = "competitor_info",
    CreditLimit = "credit_limit",
    PaymentTerms = "payment_terms",
}

/// Fields that a pre-lead has.
pub const PRE_LEAD_FIELDS: [SalesField; 20] = [
    SalesField::FirstName,
    SalesField::LastName,
    SalesField::Email,
    SalesField::Phone,
    SalesField::CompanyName,
    SalesField::Source,
    SalesField::ProductInterest,
    SalesField::Requirements,
    SalesField::City,
    SalesField::State,
    SalesField::Country,
    SalesField::AddressLine1,
    SalesField::AddressLine2,
    SalesField::ZipCode,
    SalesField::Notes,
    SalesField::LeadStatus,
    SalesField::IndustryId,
    SalesField::RegionId,
    SalesField::OfficeTimings,
    SalesField::Timezone,
];

/// Fields of a lead: those of a pre-lead, and those that sales staff add.
pub const LEAD_FIELDS: [SalesField; 25] = [
    SalesField::FirstName,
    SalesField::LastName,
    SalesField::Email,
    SalesField::Phone,
    SalesField::CompanyName,
    SalesField::CompanySize,
    SalesField::Designation,
    SalesField::Source,
    SalesField::ProductInterest,
    SalesField::Requirements,
    SalesField::City,
    SalesField::State,
    SalesField::Country,
    SalesField::AddressLine1,
    SalesField::AddressLine2,
    SalesField::ZipCode,
    SalesField::Notes,
    SalesField::LeadStatus,
    SalesField::IndustryId,
    SalesField::RegionId,
    SalesField::OfficeTimings,
    SalesField::Timezone,
    SalesField::Priority,
    SalesField::AssignedTo,
    SalesField::ExpectedValue,
];

/// Fields of the new lead that the conversion of a pre-lead sets.
pub const LEAD_TERM_FIELDS: [SalesField; 4] = [
    SalesField::Priority,
    SalesField::AssignedTo,
    SalesField::ExpectedValue,
    SalesField::Notes,
];

/// Fields of a lead's qualified profile.
pub const PROFILE_FIELDS: [SalesField; 18] = [
    SalesField::ProfileType,
    SalesField::Company,
    SalesField::Industry,
    SalesField::BestTimeCall,
    SalesField::Timezone,
    SalesField::Mode,
    SalesField::ContactName,
    SalesField::Designation,
    SalesField::Phone,
    SalesField::Email,
    SalesField::NeedType,
    SalesField::CurrentSolution,
    SalesField::PainPoint,
    SalesField::Budget,
    SalesField::DecisionTimeline,
    SalesField::DecisionMaker,
    SalesField::CompetitorInfo,
    SalesField::Notes,
];

/// Fields of a customer: those kept from the lead, and the terms.
pub const CUSTOMER_FIELDS: [SalesField; 15] = [
    SalesField::FirstName,
    SalesField::LastName,
    SalesField::Email,
    SalesField::Phone,
    SalesField::CompanyName,
    SalesField::Designation,
    SalesField::City,
    SalesField::State,
    SalesField::Country,
    SalesField::AddressLine1,
    SalesField::AddressLine2,
    SalesField::ZipCode,
    SalesField::CreditLimit,
    SalesField::PaymentTerms,
    SalesField::Notes,
];

/// Fields of the new customer that the conversion of a lead sets.
pub const CUSTOMER_TERM_FIELDS: [SalesField; 3] = [
    SalesField::CreditLimit,
    SalesField::PaymentTerms,
    SalesField::Notes,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_has_every_field_of_a_pre_lead() {
        assert!(
            PRE_LEAD_FIELDS
                .iter()
                .all(|member| LEAD_FIELDS.contains(member))
        );
        assert!(
            CUSTOMER_TERM_FIELDS
                .iter()
                .all(|member| CUSTOMER_FIELDS.contains(member))
        );
    }
}

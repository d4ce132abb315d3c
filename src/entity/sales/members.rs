//! The names of all fields of pre-leads, leads and customers, and which of these has which.

use serde::{Deserialize, Serialize};

/// Makes the list of all fields, each with its name on the wire and in the store.
macro_rules! members {
    ($($variant:ident = $name:literal,)+) => {
        /// A field by its name on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "the names are those of the wire")]
        pub enum Member {
            $(#[serde(rename = $name)] $variant,)+
        }

        impl Member {
            /// Its name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Its place in an event.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("data.", $name),)+
                }
            }
        }
    };
}

members! {
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

/// The fields of a pre-lead.
pub const PRE_LEAD: [Member; 20] = [
    Member::FirstName,
    Member::LastName,
    Member::Email,
    Member::Phone,
    Member::CompanyName,
    Member::Source,
    Member::ProductInterest,
    Member::Requirements,
    Member::City,
    Member::State,
    Member::Country,
    Member::AddressLine1,
    Member::AddressLine2,
    Member::ZipCode,
    Member::Notes,
    Member::LeadStatus,
    Member::IndustryId,
    Member::RegionId,
    Member::OfficeTimings,
    Member::Timezone,
];

/// The fields of a lead: those of a pre-lead and what is found out about it.
pub const LEAD: [Member; 25] = [
    Member::FirstName,
    Member::LastName,
    Member::Email,
    Member::Phone,
    Member::CompanyName,
    Member::CompanySize,
    Member::Designation,
    Member::Source,
    Member::ProductInterest,
    Member::Requirements,
    Member::City,
    Member::State,
    Member::Country,
    Member::AddressLine1,
    Member::AddressLine2,
    Member::ZipCode,
    Member::Notes,
    Member::LeadStatus,
    Member::IndustryId,
    Member::RegionId,
    Member::OfficeTimings,
    Member::Timezone,
    Member::Priority,
    Member::AssignedTo,
    Member::ExpectedValue,
];

/// What the conversion of a pre-lead says of the lead.
pub const LEAD_TERMS: [Member; 4] = [Member::Priority, Member::AssignedTo, Member::ExpectedValue, Member::Notes];

/// The fields of a lead's qualified profile.
pub const PROFILE: [Member; 18] = [
    Member::ProfileType,
    Member::Company,
    Member::Industry,
    Member::BestTimeCall,
    Member::Timezone,
    Member::Mode,
    Member::ContactName,
    Member::Designation,
    Member::Phone,
    Member::Email,
    Member::NeedType,
    Member::CurrentSolution,
    Member::PainPoint,
    Member::Budget,
    Member::DecisionTimeline,
    Member::DecisionMaker,
    Member::CompetitorInfo,
    Member::Notes,
];

/// The fields of a customer: who the lead was, and the terms.
pub const CUSTOMER: [Member; 15] = [
    Member::FirstName,
    Member::LastName,
    Member::Email,
    Member::Phone,
    Member::CompanyName,
    Member::Designation,
    Member::City,
    Member::State,
    Member::Country,
    Member::AddressLine1,
    Member::AddressLine2,
    Member::ZipCode,
    Member::CreditLimit,
    Member::PaymentTerms,
    Member::Notes,
];

/// What the conversion of a lead says of the customer.
pub const CUSTOMER_TERMS: [Member; 3] = [Member::CreditLimit, Member::PaymentTerms, Member::Notes];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_has_every_field_of_a_pre_lead() {
        assert!(PRE_LEAD.iter().all(|member| LEAD.contains(member)));
        assert!(CUSTOMER_TERMS.iter().all(|member| CUSTOMER.contains(member)));
    }
}

//! Readers of single values in requests, with the type and limits of each field.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::fields::{FieldErrors, non_null};
use super::email::is_email;
use crate::entity::sales::{
    Decimal, FRACTION_DIGITS_MAX, STATUSES, SalesField, SalesValue, SalesValues, WHOLE_DIGITS_MAX,
};
use crate::event::find_members;

/// Most bytes of a name, number or other single line: far more than real values have, and few
/// enough for a thousand contacts in a state.
const LINE_MAX_BYTES: usize = 1_000;
/// Most bytes of a text that people write, such as a memo: 64 KiB.
const PROSE_MAX_BYTES: usize = 65_536;

const SOURCES: [&str; 10] = [
    "website",
    "referral",
    "social_media",
    "cold_call",
    "walk_in",
    "whatsapp",
    "email",
    "erp",
    "direct",
    "other",
];
const PRIORITIES: [&str; 4] = ["low", "medium", "high", "critical"];

/// Type of a field's value.
#[derive(Clone, Copy)]
enum LeadFieldType {
    /// A single line that is not blank.
    Name,
    Line,
    Prose,
    Email,
    OneOf(&'static [&'static str]),
    /// Number or name of an object in the sender's system.
    Reference,
    Money,
}

const fn field_type(member: SalesField) -> LeadFieldType {
    match member {
        SalesField::FirstName => LeadFieldType::Name,
        SalesField::Email => LeadFieldType::Email,
        SalesField::Source => LeadFieldType::OneOf(&SOURCES),
        SalesField::LeadStatus => LeadFieldType::OneOf(&STATUSES),
        SalesField::Priority => LeadFieldType::OneOf(&PRIORITIES),
        SalesField::IndustryId | SalesField::RegionId | SalesField::AssignedTo => {
            LeadFieldType::Reference
        }
        SalesField::ExpectedValue | SalesField::Budget | SalesField::CreditLimit => {
            LeadFieldType::Money
        }
        SalesField::ProductInterest
        | SalesField::Requirements
        | SalesField::Notes
        | SalesField::NeedType
        | SalesField::CurrentSolution
        | SalesField::PainPoint
        | SalesField::CompetitorInfo => LeadFieldType::Prose,
        SalesField::LastName
        | SalesField::Phone
        | SalesField::CompanyName
        | SalesField::CompanySize
        | SalesField::Designation
        | SalesField::City
        | SalesField::State
        | SalesField::Country
        | SalesField::AddressLine1
        | SalesField::AddressLine2
        | SalesField::ZipCode
        | SalesField::OfficeTimings
        | SalesField::Timezone
        | SalesField::ProfileType
        | SalesField::Company
        | SalesField::Industry
        | SalesField::BestTimeCall
        | SalesField::Mode
        | SalesField::ContactName
        | SalesField::DecisionTimeline
        | SalesField::DecisionMaker
        | SalesField::PaymentTerms => LeadFieldType::Line,
    }
}

/// Reads the members `fields` of `data`, an object; a null member counts as absent.
///
/// # Errors
/// The error of `serde_json` if `data` is no object.
pub(super) fn read_members<const N: usize>(
    data: &str,
    fields: &[SalesField; N],
    faults: &mut FieldErrors,
) -> Result<SalesValues, serde_json::Error> {
    let found = find_members(data, fields.map(SalesField::as_str))?;
    let values = fields
        .iter()
        .zip(found)
        .filter_map(|(member, raw)| Some((*member, read_value(*member, non_null(raw)?, faults))));
    Ok(values.collect())
}

fn read_value(member: SalesField, raw: &RawValue, faults: &mut FieldErrors) -> SalesValue {
    let path = member.path();
    match field_type(member) {
        LeadFieldType::Name => SalesValue::Text(read_name(faults, path, Some(raw))),
        LeadFieldType::Line => {
            SalesValue::Text(read_limited_text(faults, path, raw, LINE_MAX_BYTES))
        }
        LeadFieldType::Prose => {
            SalesValue::Text(read_limited_text(faults, path, raw, PROSE_MAX_BYTES))
        }
        LeadFieldType::Email => SalesValue::Text(read_email(faults, path, raw)),
        LeadFieldType::OneOf(names) => {
            SalesValue::Text(faults.read_one_of(path, Some(raw), names).into())
        }
        LeadFieldType::Reference if raw.get().starts_with('"') => {
            SalesValue::Text(read_limited_text(faults, path, raw, LINE_MAX_BYTES))
        }
        LeadFieldType::Reference => {
            SalesValue::Number(faults.read_number(path, Some(raw), 0, u64::MAX))
        }
        LeadFieldType::Money => SalesValue::Money(read_amount(faults, path, Some(raw))),
    }
}

/// Reads a required single line that is not blank.
pub(super) fn read_name(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Arc<str> {
    read_required_text(faults, path, raw, LINE_MAX_BYTES)
}

/// Reads a required single line that is not empty; it may be blank.
pub(super) fn read_label(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Arc<str> {
    read_text_unless(str::is_empty, faults, path, raw, LINE_MAX_BYTES)
}

/// Reads a required long text that is not blank.
pub(super) fn read_prose(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Arc<str> {
    read_required_text(faults, path, raw, PROSE_MAX_BYTES)
}

/// Reads an optional single line.
pub(super) fn read_optional_line(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Option<Arc<str>> {
    non_null(raw).map(|raw| read_limited_text(faults, path, raw, LINE_MAX_BYTES))
}

/// Reads an optional long text.
pub(super) fn read_optional_prose(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Option<Arc<str>> {
    non_null(raw).map(|raw| read_limited_text(faults, path, raw, PROSE_MAX_BYTES))
}

/// Reads an optional e-mail address.
pub(super) fn read_optional_email(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Option<Arc<str>> {
    non_null(raw).map(|raw| read_email(faults, path, raw))
}

fn read_required_text(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
    bytes_max: usize,
) -> Arc<str> {
    read_text_unless(|text| text.trim().is_empty(), faults, path, raw, bytes_max)
}

fn read_text_unless(
    is_empty: fn(&str) -> bool,
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
    bytes_max: usize,
) -> Arc<str> {
    let Some(raw) = non_null(raw) else {
        faults.add(path, "is required");
        return "".into();
    };
    let text = read_limited_text(faults, path, raw, bytes_max);
    if raw.get().starts_with('"') && is_empty(&text) {
        faults.add(path, "must not be empty");
    }
    text
}

fn read_limited_text(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: &RawValue,
    bytes_max: usize,
) -> Arc<str> {
    let text = faults.read_text(path, Some(raw));
    if text.len() > bytes_max {
        faults.add(path, format!("must have at most {bytes_max} bytes"));
    }
    text.into()
}

/// Reads an e-mail address, or an empty string, which removes the address.
fn read_email(faults: &mut FieldErrors, path: &'static str, raw: &RawValue) -> Arc<str> {
    let text = faults.read_text(path, Some(raw));
    if !text.is_empty() && !is_email(&text) {
        faults.add(path, "must be an e-mail address");
    }
    text.into()
}

/// Adds a field error if neither an e-mail address nor a phone number is given.
pub(super) fn check_email_or_phone(
    faults: &mut FieldErrors,
    email: Option<&RawValue>,
    phone: Option<&RawValue>,
) {
    let is_present = |raw| non_null(raw).is_some_and(|raw| raw.get() != "\"\"");
    if !is_present(email) && !is_present(phone) {
        faults.add("data.email", "or phone is required");
    }
}

/// Reads a required amount of money, not negative.
pub(super) fn read_amount(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Decimal {
    let Some(raw) = non_null(raw) else {
        faults.add(path, "is required");
        return Decimal::default();
    };
    if !raw
        .get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    {
        faults.add(path, "must be a number");
        return Decimal::default();
    }
    match Decimal::parse(raw.get()).filter(|amount| amount.is_bounded()) {
        Some(amount) if amount.is_negative() => faults.add(path, "must not be negative"),
        Some(amount) => return amount,
        None => faults.add(
            path,
            format!(
                "must have at most {WHOLE_DIGITS_MAX} digits before the point \
                 and {FRACTION_DIGITS_MAX} after it"
            ),
        ),
    }
    Decimal::default()
}

/// Reads the id of an entity: a whole number or a string of digits. `None`, with a field error, for
/// any other value.
pub(super) fn read_entity_id(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Option<u64> {
    let Some(raw) = non_null(raw) else {
        faults.add(path, "is required");
        return None;
    };
    let text = unquote(raw);
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        faults.add(path, "must be a whole number");
        return None;
    }
    // Digits beyond 64 bits name no entity, like any other id that was never allocated.
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Reads the id of an object in the sender's system: a string, or a whole number.
pub(super) fn read_reference(
    faults: &mut FieldErrors,
    path: &'static str,
    raw: Option<&RawValue>,
) -> Arc<str> {
    match non_null(raw) {
        Some(raw) if raw.get().starts_with(|c: char| c.is_ascii_digit()) => faults
            .read_number(path, Some(raw), 0, u64::MAX)
            .to_string()
            .into(),
        raw => faults.read_id(path, raw).into(),
    }
}

fn unquote(raw: &RawValue) -> Cow<'_, str> {
    let is_text = raw.get().starts_with('"');
    if is_text {
        serde_json::from_str(raw.get()).unwrap_or_default()
    } else {
        Cow::Borrowed(raw.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::error::ApiError;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    /// Returns the detail of the field error of `json` as the value of `member`, if it has one.
    fn error_detail(member: SalesField, json: &str) -> Option<String> {
        let mut faults = FieldErrors::default();
        read_value(member, raw(json), &mut faults);
        match faults.finish(()) {
            Ok(()) => None,
            Err(ApiError::InvalidFields(faults)) => Some(faults[0].detail.clone()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_empty_address_removes_the_earlier_one() {
        assert_eq!(error_detail(SalesField::Email, "\"\""), None);
        assert_eq!(
            error_detail(SalesField::Email, "\"nobody\"").as_deref(),
            Some("data.email must be an e-mail address")
        );
        assert_eq!(
            error_detail(SalesField::Email, "7").as_deref(),
            Some("data.email must be a string, not a number")
        );
    }

    #[test]
    fn amounts_are_numbers_of_bounded_length_and_not_negative() {
        let money = |json| error_detail(SalesField::ExpectedValue, json);
        for good in [
            "0",
            "50000.00",
            "1.0E7",
            "999999999999999999.999999999999999999",
            "-0",
        ] {
            assert_eq!(money(good), None, "{good}");
        }
        assert_eq!(
            money("-0.01").as_deref(),
            Some("data.expected_value must not be negative")
        );
        assert_eq!(
            money("\"5\"").as_deref(),
            Some("data.expected_value must be a number")
        );
        for long in ["1000000000000000000", "0.0000000000000000001", "1e400"] {
            let expected =
                "data.expected_value must have at most 18 digits before the point and 18 after it";
            assert_eq!(money(long).as_deref(), Some(expected), "{long}");
        }
    }

    #[test]
    fn a_reference_is_a_number_or_a_name() {
        assert_eq!(error_detail(SalesField::AssignedTo, "5"), None);
        assert_eq!(error_detail(SalesField::AssignedTo, "\"agent-5\""), None);
        assert!(
            error_detail(SalesField::AssignedTo, "5.5").is_some()
                && error_detail(SalesField::AssignedTo, "[]").is_some()
        );
        let mut faults = FieldErrors::default();
        assert_eq!(
            &*read_reference(&mut faults, "data.order_id", Some(raw("1042"))),
            "1042"
        );
        assert_eq!(
            &*read_reference(&mut faults, "data.order_id", Some(raw("\"ORD-7\""))),
            "ORD-7"
        );
        assert!(faults.finish(()).is_ok());
    }

    #[test]
    fn an_id_is_digits_as_a_number_or_a_string() {
        let read =
            |json| read_entity_id(&mut FieldErrors::default(), "data.lead_id", Some(raw(json)));
        assert_eq!(
            [read("12"), read("\"12\""), read("\"\\u0031\"")],
            [Some(12), Some(12), Some(1)]
        );
        assert_eq!(read("99999999999999999999999"), Some(u64::MAX));
        for wrong in ["-1", "1.0", "1e3", "\"\"", "\"1a\"", "null", "[1]", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn long_texts_are_refused_by_their_bytes() {
        let text = |member, length| error_detail(member, &format!("\"{}\"", "x".repeat(length)));
        assert_eq!(text(SalesField::City, LINE_MAX_BYTES), None);
        assert_eq!(
            text(SalesField::City, LINE_MAX_BYTES + 1).as_deref(),
            Some("data.city must have at most 1000 bytes")
        );
        assert_eq!(text(SalesField::Notes, PROSE_MAX_BYTES), None);
        assert!(text(SalesField::Notes, PROSE_MAX_BYTES + 1).is_some());
    }

    #[test]
    fn a_null_member_counts_as_absent() {
        let mut faults = FieldErrors::default();
        let values = read_members(
            r#"{"city": null, "country": "France", "other": 1}"#,
            &crate::entity::sales::LEAD_FIELDS,
            &mut faults,
        );
        assert_eq!(
            values.expect("an object"),
            SalesValues::from([(SalesField::Country, SalesValue::Text("France".into()))])
        );
    }
}

//! The values of fields on the wire: what each may be.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::fields::{Faults, present};
use super::email::is_email;
use crate::entity::sales::{Decimal, FRACTION_DIGITS_MAX, Given, Member, STATUSES, Value, WHOLE_DIGITS_MAX};
use crate::event::members;

/// The most bytes of a name, a number, a line: far more than any has, few enough for a thousand contacts in a state.
const LINE_MAX_BYTES: usize = 1_000;
/// The most bytes of what people write.
const PROSE_MAX_BYTES: usize = 65_536;

const SOURCES: [&str; 10] =
    ["website", "referral", "social_media", "cold_call", "walk_in", "whatsapp", "email", "erp", "direct", "other"];
const PRIORITIES: [&str; 4] = ["low", "medium", "high", "critical"];

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    /// A name that is not blank.
    Name,
    Line,
    Prose,
    Email,
    OneOf(&'static [&'static str]),
    /// The number or name of something in the sender's system.
    Reference,
    Money,
}

const fn shape(member: Member) -> Shape {
    match member {
        Member::FirstName => Shape::Name,
        Member::Email => Shape::Email,
        Member::Source => Shape::OneOf(&SOURCES),
        Member::LeadStatus => Shape::OneOf(&STATUSES),
        Member::Priority => Shape::OneOf(&PRIORITIES),
        Member::IndustryId | Member::RegionId | Member::AssignedTo => Shape::Reference,
        Member::ExpectedValue | Member::Budget | Member::CreditLimit => Shape::Money,
        Member::ProductInterest
        | Member::Requirements
        | Member::Notes
        | Member::NeedType
        | Member::CurrentSolution
        | Member::PainPoint
        | Member::CompetitorInfo => Shape::Prose,
        Member::LastName
        | Member::Phone
        | Member::CompanyName
        | Member::CompanySize
        | Member::Designation
        | Member::City
        | Member::State
        | Member::Country
        | Member::AddressLine1
        | Member::AddressLine2
        | Member::ZipCode
        | Member::OfficeTimings
        | Member::Timezone
        | Member::ProfileType
        | Member::Company
        | Member::Industry
        | Member::BestTimeCall
        | Member::Mode
        | Member::ContactName
        | Member::DecisionTimeline
        | Member::DecisionMaker
        | Member::PaymentTerms => Shape::Line,
    }
}

/// The fields among `wanted` that `data`, an object, gives; null gives nothing.
///
/// # Errors
/// `serde_json`'s, which an object cannot bring about.
pub(super) fn read<const N: usize>(
    data: &str,
    wanted: &[Member; N],
    faults: &mut Faults,
) -> Result<Given, serde_json::Error> {
    let found = members(data, wanted.map(Member::as_str))?;
    let given =
        wanted.iter().zip(found).filter_map(|(member, raw)| Some((*member, value(*member, present(raw)?, faults))));
    Ok(given.collect())
}

fn value(member: Member, raw: &RawValue, faults: &mut Faults) -> Value {
    let path = member.path();
    match shape(member) {
        Shape::Name => Value::Text(name(faults, path, Some(raw))),
        Shape::Line => Value::Text(limited(faults, path, raw, LINE_MAX_BYTES)),
        Shape::Prose => Value::Text(limited(faults, path, raw, PROSE_MAX_BYTES)),
        Shape::Email => Value::Text(email(faults, path, raw)),
        Shape::OneOf(names) => Value::Text(faults.one_of(path, Some(raw), names).into()),
        Shape::Reference if raw.get().starts_with('"') => Value::Text(limited(faults, path, raw, LINE_MAX_BYTES)),
        Shape::Reference => Value::Number(faults.number(path, Some(raw), 0, u64::MAX)),
        Shape::Money => Value::Money(money(faults, path, Some(raw))),
    }
}

/// A required text of one line that is not blank.
pub(super) fn name(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Arc<str> {
    required(faults, path, raw, LINE_MAX_BYTES)
}

/// A required text of one line that is not empty, though it may be blank: the sender's business.
pub(super) fn label(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Arc<str> {
    required_unless(str::is_empty, faults, path, raw, LINE_MAX_BYTES)
}

/// A required text that is not blank.
pub(super) fn prose(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Arc<str> {
    required(faults, path, raw, PROSE_MAX_BYTES)
}

/// An optional text of one line.
pub(super) fn optional_line(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Option<Arc<str>> {
    present(raw).map(|raw| limited(faults, path, raw, LINE_MAX_BYTES))
}

/// An optional text.
pub(super) fn optional_prose(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Option<Arc<str>> {
    present(raw).map(|raw| limited(faults, path, raw, PROSE_MAX_BYTES))
}

/// An optional e-mail address.
pub(super) fn optional_email(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Option<Arc<str>> {
    present(raw).map(|raw| email(faults, path, raw))
}

fn required(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>, bytes_max: usize) -> Arc<str> {
    required_unless(|text| text.trim().is_empty(), faults, path, raw, bytes_max)
}

fn required_unless(
    is_empty: fn(&str) -> bool,
    faults: &mut Faults,
    path: &'static str,
    raw: Option<&RawValue>,
    bytes_max: usize,
) -> Arc<str> {
    let Some(raw) = present(raw) else {
        faults.add(path, "is required");
        return "".into();
    };
    let text = limited(faults, path, raw, bytes_max);
    if raw.get().starts_with('"') && is_empty(&text) {
        faults.add(path, "must not be empty");
    }
    text
}

fn limited(faults: &mut Faults, path: &'static str, raw: &RawValue, bytes_max: usize) -> Arc<str> {
    let text = faults.text(path, Some(raw));
    if text.len() > bytes_max {
        faults.add(path, format!("must have at most {bytes_max} bytes"));
    }
    text.into()
}

/// An address, or nothing at all, which takes back an earlier one.
fn email(faults: &mut Faults, path: &'static str, raw: &RawValue) -> Arc<str> {
    let text = faults.text(path, Some(raw));
    if !text.is_empty() && !is_email(&text) {
        faults.add(path, "must be an e-mail address");
    }
    text.into()
}

/// Notes it if neither an address nor a number is given.
pub(super) fn email_or_phone(faults: &mut Faults, email: Option<&RawValue>, phone: Option<&RawValue>) {
    let is_given = |raw| present(raw).is_some_and(|raw| raw.get() != "\"\"");
    if !is_given(email) && !is_given(phone) {
        faults.add("data.email", "or phone is required");
    }
}

/// A required amount, not below zero.
pub(super) fn money(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Decimal {
    let Some(raw) = present(raw) else {
        faults.add(path, "is required");
        return Decimal::default();
    };
    if !raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        faults.add(path, "must be a number");
        return Decimal::default();
    }
    match Decimal::parse(raw.get()).filter(|amount| amount.is_bounded()) {
        Some(amount) if amount.is_negative() => faults.add(path, "must not be negative"),
        Some(amount) => return amount,
        None => faults.add(
            path,
            format!("must have at most {WHOLE_DIGITS_MAX} digits before the point and {FRACTION_DIGITS_MAX} after it"),
        ),
    }
    Decimal::default()
}

/// A number, or a string of digits: the id of an entity. `None`, and noted, if it is missing or neither.
pub(super) fn id(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Option<u64> {
    let Some(raw) = present(raw) else {
        faults.add(path, "is required");
        return None;
    };
    let text = unquoted(raw);
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        faults.add(path, "must be a whole number");
        return None;
    }
    // Digits that fit in no number are the id of nothing, like any other that was never given.
    Some(text.parse().unwrap_or(u64::MAX))
}

/// The id of something in the sender's system: a string, or a number as it is written.
pub(super) fn reference(faults: &mut Faults, path: &'static str, raw: Option<&RawValue>) -> Arc<str> {
    match present(raw) {
        Some(raw) if raw.get().starts_with(|c: char| c.is_ascii_digit()) => {
            faults.number(path, Some(raw), 0, u64::MAX).to_string().into()
        }
        raw => faults.id(path, raw).into(),
    }
}

fn unquoted(raw: &RawValue) -> Cow<'_, str> {
    let is_text = raw.get().starts_with('"');
    if is_text { serde_json::from_str(raw.get()).unwrap_or_default() } else { Cow::Borrowed(raw.get()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::error::Error;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    /// The detail of the fault that reading `json` as `member` makes, or nothing.
    fn fault(member: Member, json: &str) -> Option<String> {
        let mut faults = Faults::default();
        value(member, raw(json), &mut faults);
        match faults.finish(()) {
            Ok(()) => None,
            Err(Error::Invalid(faults)) => Some(faults[0].detail.clone()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_empty_address_takes_the_earlier_one_back() {
        assert_eq!(fault(Member::Email, "\"\""), None);
        assert_eq!(fault(Member::Email, "\"nobody\"").as_deref(), Some("data.email must be an e-mail address"));
        assert_eq!(fault(Member::Email, "7").as_deref(), Some("data.email must be a string, not a number"));
    }

    #[test]
    fn amounts_are_numbers_of_bounded_length_and_not_negative() {
        let money = |json| fault(Member::ExpectedValue, json);
        for good in ["0", "50000.00", "1.0E7", "999999999999999999.999999999999999999", "-0"] {
            assert_eq!(money(good), None, "{good}");
        }
        assert_eq!(money("-0.01").as_deref(), Some("data.expected_value must not be negative"));
        assert_eq!(money("\"5\"").as_deref(), Some("data.expected_value must be a number"));
        for long in ["1000000000000000000", "0.0000000000000000001", "1e400"] {
            let said = "data.expected_value must have at most 18 digits before the point and 18 after it";
            assert_eq!(money(long).as_deref(), Some(said), "{long}");
        }
    }

    #[test]
    fn a_reference_is_a_number_or_a_name() {
        assert_eq!(fault(Member::AssignedTo, "5"), None);
        assert_eq!(fault(Member::AssignedTo, "\"agent-5\""), None);
        assert!(fault(Member::AssignedTo, "5.5").is_some() && fault(Member::AssignedTo, "[]").is_some());
        let mut faults = Faults::default();
        assert_eq!(&*reference(&mut faults, "data.order_id", Some(raw("1042"))), "1042");
        assert_eq!(&*reference(&mut faults, "data.order_id", Some(raw("\"ORD-7\""))), "ORD-7");
        assert!(faults.finish(()).is_ok());
    }

    #[test]
    fn an_id_is_digits_as_a_number_or_a_string() {
        let read = |json| id(&mut Faults::default(), "data.lead_id", Some(raw(json)));
        assert_eq!([read("12"), read("\"12\""), read("\"\\u0031\"")], [Some(12), Some(12), Some(1)]);
        assert_eq!(read("99999999999999999999999"), Some(u64::MAX));
        for wrong in ["-1", "1.0", "1e3", "\"\"", "\"1a\"", "null", "[1]", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn long_texts_are_refused_by_their_bytes() {
        let text = |member, length| fault(member, &format!("\"{}\"", "x".repeat(length)));
        assert_eq!(text(Member::City, LINE_MAX_BYTES), None);
        assert_eq!(text(Member::City, LINE_MAX_BYTES + 1).as_deref(), Some("data.city must have at most 1000 bytes"));
        assert_eq!(text(Member::Notes, PROSE_MAX_BYTES), None);
        assert!(text(Member::Notes, PROSE_MAX_BYTES + 1).is_some());
    }

    #[test]
    fn what_is_null_is_not_given() {
        let mut faults = Faults::default();
        let given =
            read(r#"{"city": null, "country": "France", "other": 1}"#, &crate::entity::sales::LEAD, &mut faults);
        assert_eq!(given.expect("an object"), Given::from([(Member::Country, Value::Text("France".into()))]));
    }
}

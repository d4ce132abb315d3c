//! Books of a customer: counts of orders and payments, and totals for each currency; each order and
//! each payment counts once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value as Json, json};

use super::decimal::Decimal;
use crate::entity::decision::Rejection;
use crate::entity::fingerprint::{ItemFingerprint, packed};
use crate::entity::timed_value::UnixMicros;
use crate::event::Timestamp;

/// Number of remembered order ids, and of payment ids, of one customer. At 8 bytes each they need
/// little memory, and no sender repeats an order after so many others.
const REMEMBERED_MAX: usize = 10_000;
/// Maximum of currencies of one customer: more than there are in the world.
const CURRENCIES_MAX: usize = 200;

/// Currency by its three letters, in upper case. The default is no currency; it stands in for an
/// unreadable code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CurrencyCode([u8; 3]);

impl CurrencyCode {
    /// Parses a code such as `EUR` or `eur`; `None` if it is not three ASCII letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(letters.map(|letter| letter.to_ascii_uppercase())))
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl Serialize for CurrencyCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CurrencyCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::parse(&code)
            .ok_or_else(|| de::Error::custom("expected the three letters of a currency"))
    }
}

/// Order or payment as the event states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookEntry {
    /// Id in the sender's system; a repeated id is a duplicate.
    pub id: Arc<str>,
    /// Amount with the digits that were sent.
    pub amount: Decimal,
    /// Currency of the amount, ISO 4217.
    pub currency: CurrencyCode,
}

/// Effect of an order or payment on its book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::entity) struct BookPosting {
    pub(in crate::entity) entry: BookEntry,
    at: UnixMicros,
    /// New total in the entry's currency.
    total: Decimal,
    /// True if a newer entry is already in the book.
    #[serde(default)]
    pub(in crate::entity) late: bool,
}

/// Book of all orders, or of all payments, of one customer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PostingBook {
    count: u64,
    totals: BTreeMap<CurrencyCode, Decimal>,
    last: Option<(UnixMicros, BookEntry)>,
    /// Fingerprints of the newest [`REMEMBERED_MAX`] ids.
    #[serde(with = "packed")]
    remembered: VecDeque<ItemFingerprint>,
}

impl PostingBook {
    fn contains_id(&self, id: &str) -> bool {
        self.remembered.contains(&fingerprint_id(id))
    }

    fn total_in(&self, currency: CurrencyCode) -> Decimal {
        self.totals.get(&currency).copied().unwrap_or_default()
    }

    fn plan_posting(&self, entry: &BookEntry, at: UnixMicros) -> Option<BookPosting> {
        let total = match self.totals.get(&entry.currency) {
            Some(total) => total.checked_add(entry.amount)?,
            None => entry.amount,
        };
        let late = self.last.as_ref().is_some_and(|(last, _)| at < *last);

        Some(BookPosting {
            entry: entry.clone(),
            at,
            total,
            late,
        })
    }

    fn apply(&mut self, posting: &BookPosting) {
        let BookPosting {
            entry,
            at,
            total,
            late,
        } = posting;
        self.count += 1;
        self.totals.insert(entry.currency, *total);
        if !late {
            self.last = Some((*at, entry.clone()));
        }
        self.remembered.push_back(fingerprint_id(&entry.id));
        let surplus = self.remembered.len().saturating_sub(REMEMBERED_MAX);
        self.remembered.drain(..surplus);
    }

    fn last_to_json(&self, id_name: &'static str) -> Json {
        let Some((at, entry)) = &self.last else {
            return Json::Null;
        };
        json!({
            id_name: entry.id,
            "amount": entry.amount,
            "currency": entry.currency,
            "at": Timestamp::from(*at),
        })
    }
}

/// Both books of a customer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::entity) struct CustomerBooks {
    orders: PostingBook,
    payments: PostingBook,
}

impl CustomerBooks {
    pub(in crate::entity) fn has_order(&self, id: &str) -> bool {
        self.orders.contains_id(id)
    }

    pub(in crate::entity) fn has_payment(&self, id: &str) -> bool {
        self.payments.contains_id(id)
    }

    /// Computes the effect of a new order.
    ///
    /// # Errors
    /// [`Rejection`] when a total would have too many digits, or there would be too many
    /// currencies.
    pub(in crate::entity) fn plan_order(
        &self,
        entry: &BookEntry,
        at: UnixMicros,
    ) -> Result<BookPosting, Rejection> {
        let posting = self
            .orders
            .plan_posting(entry, at)
            .ok_or_else(reject_too_large)?;
        self.check_totals(
            entry.currency,
            posting.total,
            self.payments.total_in(entry.currency),
        )?;

        Ok(posting)
    }

    /// Computes the effect of a new payment.
    ///
    /// # Errors
    /// [`Rejection`] as in [`Self::plan_order`].
    pub(in crate::entity) fn plan_payment(
        &self,
        entry: &BookEntry,
        at: UnixMicros,
    ) -> Result<BookPosting, Rejection> {
        let posting = self
            .payments
            .plan_posting(entry, at)
            .ok_or_else(reject_too_large)?;
        self.check_totals(
            entry.currency,
            self.orders.total_in(entry.currency),
            posting.total,
        )?;

        Ok(posting)
    }

    fn check_totals(
        &self,
        currency: CurrencyCode,
        ordered: Decimal,
        paid: Decimal,
    ) -> Result<(), Rejection> {
        ordered.checked_sub(paid).ok_or_else(reject_too_large)?;
        let totals = [&self.orders.totals, &self.payments.totals];
        let is_full = totals
            .iter()
            .any(|totals| totals.len() >= CURRENCIES_MAX && !totals.contains_key(&currency));
        if is_full {
            let problem = format!("a customer has at most {CURRENCIES_MAX} currencies");
            return Err(Rejection::conflict("too_many_currencies", problem));
        }

        Ok(())
    }

    pub(in crate::entity) fn apply_order(&mut self, posting: &BookPosting) {
        self.orders.apply(posting);
    }

    pub(in crate::entity) fn apply_payment(&mut self, posting: &BookPosting) {
        self.payments.apply(posting);
    }

    /// Adds the books to `json` in the form of the API. A negative balance means that more was
    /// paid than ordered.
    pub(in crate::entity) fn add_to_json(&self, json: &mut Map<String, Json>) {
        let Self { orders, payments } = self;
        let currencies = orders.totals.keys().chain(payments.totals.keys());
        let balance: BTreeMap<_, _> = currencies
            .map(|currency| {
                let ordered = orders.total_in(*currency);
                let paid = payments.total_in(*currency);
                (currency, ordered.checked_sub(paid))
            })
            .collect();
        let time_of_last = |book: &PostingBook| {
            let time = book.last.as_ref().map(|(at, _)| Timestamp::from(*at));
            json!(time)
        };

        let members = [
            ("order_count", json!(orders.count)),
            ("order_total", json!(orders.totals)),
            ("last_order_at", time_of_last(orders)),
            ("payment_count", json!(payments.count)),
            ("paid_total", json!(payments.totals)),
            ("last_payment_at", time_of_last(payments)),
            ("last_payment", payments.last_to_json("payment_id")),
            ("balance", json!(balance)),
        ];

        json.extend(members.map(|(name, value)| (name.to_owned(), value)));
    }
}

fn fingerprint_id(id: &str) -> ItemFingerprint {
    ItemFingerprint::from_parts(&[id.as_bytes()])
}

fn reject_too_large() -> Rejection {
    Rejection::conflict(
        "total_too_large",
        "the customer's total would have too many digits",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, amount: &str, currency: &str) -> BookEntry {
        let (amount, currency) = (Decimal::parse(amount), CurrencyCode::parse(currency));
        BookEntry {
            id: id.into(),
            amount: amount.expect("a number"),
            currency: currency.expect("three letters"),
        }
    }

    fn at(micros: i64) -> UnixMicros {
        Timestamp::from_micros(micros).into()
    }

    fn shown(books: &CustomerBooks) -> Map<String, Json> {
        let mut shown = Map::new();
        books.add_to_json(&mut shown);
        shown
    }

    #[test]
    fn totals_and_balances_are_kept_for_each_currency() {
        let mut books = CustomerBooks::default();
        for (id, amount, currency) in [
            ("1", "100.10", "EUR"),
            ("2", "0.20", "eur"),
            ("3", "5", "USD"),
        ] {
            books.apply_order(
                &books
                    .plan_order(&entry(id, amount, currency), at(1))
                    .expect("small"),
            );
        }
        books.apply_payment(
            &books
                .plan_payment(&entry("p", "120", "EUR"), at(2))
                .expect("small"),
        );
        let shown = shown(&books);
        assert_eq!(shown["order_total"], json!({"EUR": "100.30", "USD": "5"}));
        assert_eq!(shown["balance"], json!({"EUR": "-19.70", "USD": "5"}));
        assert_eq!(
            (&shown["order_count"], &shown["payment_count"]),
            (&json!(3), &json!(1))
        );
    }

    #[test]
    fn an_older_order_counts_and_is_not_the_last() {
        let mut books = CustomerBooks::default();
        books.apply_order(
            &books
                .plan_order(&entry("1", "1", "EUR"), at(2_000_000))
                .expect("small"),
        );
        let posting = books
            .plan_order(&entry("2", "1", "EUR"), at(1_000_000))
            .expect("small");
        assert!(posting.late);
        books.apply_order(&posting);
        let shown = shown(&books);
        assert_eq!(
            (&shown["order_count"], &shown["last_order_at"]),
            (&json!(2), &json!("1970-01-01T00:00:02.000Z"))
        );
    }

    #[test]
    fn only_so_many_ids_are_remembered() {
        let mut book = PostingBook::default();
        for id in 0..=REMEMBERED_MAX {
            let posting = book
                .plan_posting(&entry(&id.to_string(), "0", "EUR"), at(1))
                .expect("small");
            book.apply(&posting);
        }
        assert!(
            !book.contains_id("0")
                && book.contains_id("1")
                && book.contains_id(&REMEMBERED_MAX.to_string())
        );
        assert_eq!(book.remembered.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_total_that_cannot_be_counted_is_refused() {
        let most = entry("1", "999999999999999999.999999999999999999", "EUR");
        let mut books = CustomerBooks::default();
        let refused = (0..1_000).find_map(|_| match books.plan_order(&most, at(1)) {
            Ok(posting) => {
                books.apply_order(&posting);
                None
            }
            Err(rejection) => Some(rejection),
        });
        assert_eq!(refused.expect("the digits end").code, "total_too_large");
        assert!(!shown(&books)["balance"]["EUR"].is_null());
    }

    #[test]
    fn a_customer_has_so_many_currencies() {
        let letters = || (b'A'..=b'Z').map(char::from);
        let all: Vec<String> = letters()
            .flat_map(|a| letters().map(move |b| format!("X{a}{b}")))
            .collect();
        let mut books = CustomerBooks::default();
        for code in &all[..CURRENCIES_MAX] {
            books.apply_order(
                &books
                    .plan_order(&entry(code, "1", code), at(1))
                    .expect("there is room"),
            );
        }
        let refused = books
            .plan_order(&entry("o", "1", &all[CURRENCIES_MAX]), at(1))
            .expect_err("no room");
        assert_eq!(refused.code, "too_many_currencies");
        assert!(books.plan_order(&entry("o", "1", &all[0]), at(1)).is_ok());
    }
}

//! `[[sources.custom]]`: one table for each configured source, read into the same flat settings as every other key.
//!
//! The keys of the source `billing` are `sources.custom.billing.secrets` and so on; thereby the environment can set them
//! (`HOOKYARD_SOURCES__CUSTOM__BILLING__SECRETS`), and a misspelt one finds its nearest.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Secret;
use super::draft::{Draft, Setting, Value};
use super::problem::{Place, Problem};
use crate::event::{Kind, Name};
use crate::provider::Source;
use crate::suggest::nearest_key;

/// The key of the list.
pub(super) const KEY: &str = "sources.custom";

/// Names that something else has: the other sources, the first words of events, and what logs call requests by.
pub(super) const TAKEN: [&str; 24] = [
    "admin",
    "agent",
    "attachment",
    "breaker",
    "c2s",
    "category",
    "crm",
    "custom",
    "dead_letter",
    "delivery",
    "docs",
    "entity",
    "instagram",
    "leads",
    "message",
    "none",
    "priority",
    "rating",
    "sla",
    "status",
    "store",
    "subscriber",
    "support",
    "tags",
];

/// A configured source: any sender that has no contract of its own.
#[derive(Clone, Debug)]
pub struct Custom {
    /// Its name: in the path, before its events' names, and in records.
    pub name: Name,
    /// The kind of its entities, `custom:<name>`.
    pub kind: Kind,
    /// Whether the endpoint exists.
    pub enabled: bool,
    /// How its requests are verified and read.
    pub source: Source,
    /// What a subscription has to know; empty where there is none.
    pub verify_token: Secret,
    /// Requests a minute for each client address; 0 means no limit.
    pub rate_per_minute: u32,
}

/// A table of the list, as far as it is more than its settings.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// What its keys begin with: `sources.custom.billing`.
    pub(super) section: String,
    /// Its name, if it has a proper one.
    pub(super) name: Option<String>,
    /// Where the table begins.
    pub(super) place: Place,
}

/// Every key of a table but its name, with what it is unless it is set.
fn defaults() -> [(&'static str, Value); 17] {
    let text = || Value::Text(Secret::default());
    [
        ("enabled", Value::Boolean(true)),
        ("entity", text()),
        ("event", text()),
        ("idempotency_key", text()),
        ("occurred_at", text()),
        ("preset", text()),
        ("rate_per_minute", Value::Integer(0)),
        ("scheme.algorithm", text()),
        ("scheme.encoding", text()),
        ("scheme.header", text()),
        ("scheme.prefix", text()),
        ("scheme.signed", text()),
        ("scheme.timestamp_header", text()),
        ("scheme.tolerance_s", Value::Integer(0)),
        ("secrets", Value::List(Vec::new())),
        ("tolerance_s", Value::Integer(0)),
        ("verify_token", text()),
    ]
}

impl Draft {
    /// Reads the list `value`.
    pub(super) fn read_custom(&mut self, value: &Spanned<DeValue<'_>>, here: Place, place: &dyn Fn(usize) -> Place) {
        let DeValue::Array(tables) = value.get_ref() else {
            return self.problems.push(Problem::of(KEY, here, "expected tables, each under [[sources.custom]]"));
        };
        for table in tables {
            let start = place(table.span().start);
            match table.get_ref() {
                DeValue::Table(inner) => self.read_custom_table(inner, start, place),
                other => {
                    let found = Value::read(other, place).describe();
                    self.problems.push(Problem::of(KEY, start, format!("expected a table, found {found}")));
                }
            }
        }
    }

    fn read_custom_table(&mut self, table: &DeTable<'_>, start: Place, place: &dyn Fn(usize) -> Place) {
        let name = self.custom_name(table, &start, place);
        // No proper name holds this sign.
        let label = name.as_deref().map_or_else(|| format!("#{}", self.custom.len() + 1), label);
        let section = format!("{KEY}.{label}");
        for (key, value) in defaults() {
            self.settings.insert(format!("{section}.{key}"), Setting { value, place: Place::Defaults });
        }
        for (key, value) in table {
            let here = place(key.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("name", _) => {}
                ("scheme", DeValue::Table(scheme)) => {
                    for (key, value) in scheme {
                        let here = place(key.span().start);
                        self.set_custom(&section, &format!("scheme.{}", key.get_ref()), value.get_ref(), here, place);
                    }
                }
                ("scheme", other) => {
                    let found = Value::read(other, place).describe();
                    let detail = format!("expected a table such as {{ header = \"X-Signature\", … }}, found {found}");
                    self.problems.push(Problem::of(&format!("{section}.scheme"), here, detail));
                }
                (key, value) => self.set_custom(&section, key, value, here, place),
            }
        }
        self.custom.push(Listed { section, name, place: start });
    }

    fn set_custom(
        &mut self,
        section: &str,
        key: &str,
        value: &DeValue<'_>,
        here: Place,
        place: &dyn Fn(usize) -> Place,
    ) {
        if let Some(setting) = self.settings.get_mut(&format!("{section}.{key}")) {
            *setting = Setting { value: Value::read(value, place), place: here };
            return;
        }
        let known = defaults().map(|(key, _)| key);
        let hint = match nearest_key(key, known.into_iter().chain(["name"])) {
            Some(nearest) => format!("the nearest is `{nearest}`"),
            None => format!("there are name, {}", known.join(", ")),
        };
        self.problems.push(Problem::at(here, format!("unknown key `{key}` of a configured source; {hint}")));
    }

    /// The name of `table`, if it has a proper one.
    fn custom_name(&mut self, table: &DeTable<'_>, start: &Place, place: &dyn Fn(usize) -> Place) -> Option<String> {
        let found = table.iter().find(|(key, _)| key.get_ref() == "name");
        let judged = match found.map(|(_, value)| value.get_ref()) {
            Some(DeValue::String(name)) => self.judge_name(name),
            Some(other) => Err(format!("expected a string, found {}", Value::read(other, place).describe())),
            None => Err("missing: it is in the path, /in/<name>".to_owned()),
        };
        let here = found.map_or_else(|| start.clone(), |(key, _)| place(key.span().start));
        judged.map_err(|detail| self.problems.push(Problem::of(&format!("{KEY}.name"), here, detail))).ok()
    }

    fn judge_name(&self, name: &str) -> Result<String, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(format!("expected 1 to 64 of a-z, 0-9, _ and -, found {name:?}"));
        }
        if TAKEN.contains(&name) || Kind::BUILT_IN.iter().any(|kind| kind.as_str() == name) {
            return Err(format!("{name:?} is the name of something built in; choose another"));
        }
        // `a-b` and `a_b` have one variable.
        if self.custom.iter().any(|other| other.section == format!("{KEY}.{}", label(name))) {
            return Err(format!("{name:?} is the name of another configured source, or differs only in - and _"));
        }
        Ok(name.to_owned())
    }
}

/// A name as it stands in keys: with what a variable's name can hold.
fn label(name: &str) -> String {
    name.replace('-', "_")
}

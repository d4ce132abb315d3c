//! Reads `[[sources.custom]]` into the same flat settings as every other key.
//!
//! The keys of the source `billing` are `sources.custom.billing.secrets` and so on; thereby the environment can set them
//! (`HOOKYARD_SOURCES__CUSTOM__BILLING__SECRETS`), and a misspelt one finds its nearest.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::custom::{KEY, Listed, TAKEN};
use super::super::problem::{Place, Problem};
use super::super::secret::Secret;
use super::super::setting::{Setting, Value};
use super::Draft;
use crate::event::Kind;
use crate::suggest::nearest_key;

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

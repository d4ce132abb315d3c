//! `[sources.c2s]`: lead events of Contact2Sale, and how they are enriched.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderName;

use super::draft::ConfigDraft;
use super::problem::ConfigProblem;
use super::secret::Secret;
use super::setting::SettingValue;
use super::text_template::TextTemplate;
use super::values::{
    DAY_S, DURATION_MIN_S, HOUR_S, check_sendable, describe_unexpected, parse_string,
};

/// The most retries of one step.
const RETRIES_MAX: usize = 100;

/// `[sources.c2s]`: lead events of Contact2Sale.
#[derive(Clone, Debug)]
pub struct C2sConfig {
    /// Whether the endpoint exists.
    pub enabled: bool,
    /// Tokens, any of which is taken.
    pub tokens: Vec<Secret>,
    /// Requests a minute for each client address; 0 means no limit.
    pub rate_per_minute: u32,
    /// Events a minute for each lead; 0 means no limit.
    pub lead_rate_per_minute: u32,
    /// Networks that may call; empty means all.
    pub ip_allowlist: Vec<ipnet::IpNet>,
    /// `[sources.c2s.enrichment]`
    pub enrichment: EnrichmentConfig,
}

/// `[sources.c2s.enrichment]`: finding the person behind an event, and telling the sender.
#[derive(Clone, Debug)]
pub struct EnrichmentConfig {
    /// Whether events are enriched.
    pub enabled: bool,
    /// Where a CPF is found by `{email}` or `{phone}`; `None` to look up nothing.
    pub lookup_url: Option<TextTemplate>,
    /// Where a person's data is found by `{cpf}`.
    pub person_url: TextTemplate,
    /// Where the message is posted; `None` to post nothing.
    pub reply_url: Option<String>,
    /// The header in which the key for `person_url` is sent.
    pub key_header: String,
    /// That key; empty to send none.
    pub key: Secret,
    /// How long one call may take, from connecting to the end of its answer.
    pub timeout: Duration,
    /// The pauses before each further try of a step.
    pub retry_schedule: Vec<Duration>,
    /// The message.
    pub message_template: TextTemplate,
    /// Leads that are worked on at once.
    pub concurrency: usize,
    /// Failures in a row after which a server is not asked for a while.
    pub breaker_failures: u32,
    /// How long it is not asked.
    pub breaker_open: Duration,
}

impl C2sConfig {
    /// Whether events are enriched before they are completed.
    #[must_use]
    pub const fn is_enrichment_enabled(&self) -> bool {
        self.enabled && self.enrichment.enabled
    }
}

impl ConfigDraft {
    pub(super) fn read_c2s(&mut self) -> C2sConfig {
        C2sConfig {
            enabled: self.read_boolean("sources.c2s.enabled"),
            tokens: self.read_secrets("sources.c2s.tokens", check_sendable),
            rate_per_minute: self.read_integer("sources.c2s.rate_per_minute", 0..=u32::MAX.into()),
            lead_rate_per_minute: self
                .read_integer("sources.c2s.lead_rate_per_minute", 0..=u32::MAX.into()),
            ip_allowlist: self.read_networks("sources.c2s.ip_allowlist"),
            enrichment: self.read_enrichment(),
        }
    }

    fn read_enrichment(&mut self) -> EnrichmentConfig {
        const PERSON_URL: &str = "sources.c2s.enrichment.person_url";
        let enabled = self.read_boolean("sources.c2s.enrichment.enabled");
        let is_missing = self
            .settings
            .get(PERSON_URL)
            .is_some_and(|setting| setting.value.is_empty());
        if enabled && is_missing {
            let place = self.origin_of(&[PERSON_URL, "sources.c2s.enrichment.enabled"]);
            self.problems.push(ConfigProblem::for_key(
                PERSON_URL,
                place,
                "missing: enrichment cannot do without it",
            ));
        }
        EnrichmentConfig {
            enabled,
            lookup_url: self
                .read_url_template("sources.c2s.enrichment.lookup_url", &["email", "phone"]),
            person_url: self
                .read_url_template(PERSON_URL, &["cpf"])
                .unwrap_or_default(),
            reply_url: self
                .read_url_template("sources.c2s.enrichment.reply_url", &[])
                .map(|url| url.fill(|_| "".into())),
            key_header: self.read_as("sources.c2s.enrichment.key_header", |value| {
                let name = parse_string(value)?;
                let is_name = HeaderName::from_bytes(name.expose().as_bytes()).is_ok();
                is_name
                    .then(|| name.expose().to_owned())
                    .ok_or("expected the name of a header".to_owned())
            }),
            key: self.read_secret("sources.c2s.enrichment.key"),
            timeout: self.read_seconds("sources.c2s.enrichment.timeout_s", HOUR_S),
            retry_schedule: self.read_retry_schedule("sources.c2s.enrichment.retry_schedule_s"),
            message_template: self.read_as("sources.c2s.enrichment.message_template", |value| {
                TextTemplate::parse(parse_string(value)?.expose(), is_place_in_message)
                    .map_err(|wanted| format!("expected {wanted}"))
            }),
            concurrency: self.read_integer("sources.c2s.enrichment.concurrency", 1..=1024),
            breaker_failures: self.read_integer(
                "sources.c2s.enrichment.breaker_failures",
                1..=u32::MAX.into(),
            ),
            breaker_open: self.read_seconds("sources.c2s.enrichment.breaker_open_s", DAY_S),
        }
    }

    /// A URL with at least one of `places`, if there are any to fill in; `None` if it is empty. Not
    /// shown, since it may hold a key.
    fn read_url_template(&mut self, key: &str, places: &[&str]) -> Option<TextTemplate> {
        self.read_as(key, |value| {
            let text = parse_string(value)?;
            if text.is_empty() {
                return Ok(None);
            }
            let template = TextTemplate::parse(text.expose(), |name| places.contains(&name));
            let template = template.map_err(|wanted| format!("expected {wanted}"))?;
            if !is_single_server_url(&template) {
                return Err("expected an http or https URL, whose host is given in full".to_owned());
            }
            if !places.is_empty() && !places.iter().any(|place| template.has_place(place)) {
                let names: Vec<_> = places.iter().map(|place| format!("{{{place}}}")).collect();
                return Err(format!("expected {} in it", names.join(" or ")));
            }
            Ok(Some(template))
        })
    }

    fn read_retry_schedule(&mut self, key: &str) -> Vec<Duration> {
        let place = self.origin_of(&[key]);
        let schedule = self.read_list(key, |value| {
            let seconds = match value {
                // Exact: a day's seconds are few.
                SettingValue::Integer(number) => number as f64,
                SettingValue::Float(number) => number,
                SettingValue::Raw(text) => text.expose().trim().parse().unwrap_or(f64::NAN),
                other => return Err(describe_unexpected("a number of seconds", &other)),
            };
            let fits = (DURATION_MIN_S..=DAY_S).contains(&seconds);
            fits.then(|| Duration::from_secs_f64(seconds))
                .ok_or(format!("expected {DURATION_MIN_S} to {DAY_S} seconds"))
        });
        if schedule.len() > RETRIES_MAX {
            self.problems.push(ConfigProblem::for_key(
                key,
                place,
                format!("expected at most {RETRIES_MAX} pauses"),
            ));
        }
        schedule
    }
}

/// Whether it is a URL of one server, whatever is filled in.
fn is_single_server_url(template: &TextTemplate) -> bool {
    let with = |text: &'static str| Url::parse(&template.fill(|_| text.into())).ok();
    with("a").zip(with("b")).is_some_and(|(one, other)| {
        matches!(one.scheme(), "http" | "https") && one.has_host() && one.origin() == other.origin()
    })
}

/// `person` and `customer` are objects, of which a member is named with a dot.
fn is_place_in_message(name: &str) -> bool {
    let (root, path) = name
        .split_once('.')
        .map_or((name, None), |(root, path)| (root, Some(path)));
    match root {
        "lead_id" | "cpf" => path.is_none(),
        "person" | "customer" => {
            path.is_none_or(|path| path.split('.').all(|member| !member.is_empty()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, load};

    fn with(keys: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let own = [
            ("enabled", "true"),
            ("tokens", "test-token"),
            ("enrichment.person_url", "http://p/{cpf}"),
        ];
        let named = own.iter().chain(keys).map(|(key, value)| {
            (
                format!(
                    "HOOKYARD_SOURCES__C2S__{}",
                    key.replace('.', "__").to_uppercase()
                ),
                (*value).to_owned(),
            )
        });
        let env = named.chain([("HOOKYARD_ADMIN__TOKEN".to_owned(), "test-token".to_owned())]);
        load::load_config(None, env)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn problem(key: &str, value: &str) -> String {
        let mut problems =
            with(&[("enrichment.enabled", "true"), (key, value)]).expect_err("something is wrong");
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = problems.remove(0);
        problem
            .split_once(": sources.c2s.")
            .expect("the key is named")
            .1
            .to_owned()
    }

    #[test]
    fn the_source_needs_a_token_and_enrichment_a_url() {
        assert!(
            problem("tokens", "")
                .starts_with("tokens: missing: set it in the configuration file or in HOOKYARD_")
        );
        let expected = "enrichment.person_url: missing: enrichment cannot do without it";
        assert_eq!(problem("enrichment.person_url", ""), expected);
        let config = with(&[]).expect("valid").sources.c2s;
        assert!(
            !config.is_enrichment_enabled()
                && config.enrichment.lookup_url.is_none()
                && config.enrichment.reply_url.is_none()
        );
    }

    #[test]
    fn wrong_urls_templates_and_pauses_are_found_without_being_shown() {
        let url = "expected an http or https URL, whose host is given in full";
        let table = [
            ("enrichment.person_url", "ftp://p/{cpf}", url),
            ("enrichment.person_url", "http://{cpf}.p/", url),
            ("enrichment.person_url", "p/{cpf}", url),
            ("enrichment.person_url", "http://p/", "expected {cpf} in it"),
            (
                "enrichment.person_url",
                "http://p/{email}",
                "expected places that there are, not {email}",
            ),
            (
                "enrichment.person_url",
                "http://p/{cpf",
                "expected every { closed by a } (or doubled)",
            ),
            (
                "enrichment.lookup_url",
                "http://p/",
                "expected {email} or {phone} in it",
            ),
            (
                "enrichment.reply_url",
                "http://p/{cpf}",
                "expected places that there are, not {cpf}",
            ),
            ("enrichment.reply_url", "reply", url),
            (
                "enrichment.message_template",
                "{nobody}",
                "expected places that there are, not {nobody}",
            ),
            (
                "enrichment.message_template",
                "{person..x}",
                "expected places that there are, not {person..x}",
            ),
            (
                "enrichment.key_header",
                "not a name",
                "expected the name of a header",
            ),
            (
                "enrichment.retry_schedule_s",
                "5,soon",
                "expected 0.001 to 86400 seconds",
            ),
        ];
        for (key, value, expected) in table {
            assert_eq!(problem(key, value), format!("{key}: {expected}"), "{value}");
        }
        let right = [
            ("enrichment.lookup_url", "https://u:p@l:8443/x?e={email}"),
            ("enrichment.reply_url", "http://127.0.0.1:9/r"),
            ("enrichment.retry_schedule_s", "0.5, 30"),
            (
                "enrichment.message_template",
                "{lead_id} {cpf} {customer} {customer.name} {person.address.city} {{x}}",
            ),
        ];
        let enrichment = with(&right).expect("valid").sources.c2s.enrichment;
        assert_eq!(enrichment.retry_schedule.len(), 2);
        assert!(
            enrichment.lookup_url.is_some()
                && enrichment.reply_url.as_deref() == Some("http://127.0.0.1:9/r")
        );
    }
}

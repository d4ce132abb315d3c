//! Section `[sources.c2s]`: lead events of Contact2Sale and their enrichment.

use std::time::Duration;

use reqwest::header::HeaderName;

use super::draft::ConfigDraft;
use super::problem::ConfigProblem;
use super::secret::Secret;
use super::setting::SettingValue;
use super::text_template::TextTemplate;
use super::values::{
    DAY_S, DURATION_MIN_S, HOUR_S, check_sendable, describe_unexpected, parse_string,
};
use super::web_url::parse_server_url;

/// Longest retry schedule of one enrichment step, in pauses.
const RETRIES_MAX: usize = 100;

/// Section `[sources.c2s]`: lead events of Contact2Sale.
#[derive(Clone, Debug)]
pub struct C2sConfig {
    /// Switches the endpoint on; a disabled source answers 404.
    pub enabled: bool,
    /// Tokens of the sender. Any of them is accepted, so tokens can be rotated.
    pub tokens: Vec<Secret>,
    /// Most requests a minute from one client address; 0 means no limit.
    pub rate_per_minute: u32,
    /// Most events a minute of one lead; 0 means no limit.
    pub lead_rate_per_minute: u32,
    /// Networks that may call; empty means every network.
    pub ip_allowlist: Vec<ipnet::IpNet>,
    /// Section `[sources.c2s.enrichment]`, which has its own switch.
    pub enrichment: EnrichmentConfig,
}

/// Section `[sources.c2s.enrichment]`: finds the person behind an event and reports to the sender.
#[derive(Clone, Debug)]
pub struct EnrichmentConfig {
    /// Switches enrichment on. When off, events are complete as soon as they are applied.
    pub enabled: bool,
    /// URL that finds a CPF by `{email}` or `{phone}`; `None` skips the lookup.
    pub lookup_url: Option<TextTemplate>,
    /// URL that finds a person's data by `{cpf}`.
    pub person_url: TextTemplate,
    /// URL that the finished message is posted to; `None` posts nothing.
    pub reply_url: Option<String>,
    /// Header that carries `key` to `person_url`.
    pub key_header: String,
    /// API key for `person_url`; an empty key is not sent.
    pub key: Secret,
    /// Limit of one call, from connecting to the end of the response.
    pub timeout: Duration,
    /// Pauses before the second attempt of a step, the third, and so on.
    pub retry_schedule: Vec<Duration>,
    /// Message for `reply_url`, with places for the lead and the person.
    pub message_template: TextTemplate,
    /// Leads that are enriched at the same time.
    pub concurrency: usize,
    /// Failures in a row that open a server's circuit breaker.
    pub breaker_failures: u32,
    /// Time for which an open circuit breaker stays open before one probe.
    pub breaker_open: Duration,
}

impl C2sConfig {
    /// Tells if applied events wait for enrichment, which needs both the source and its enrichment.
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
            let origin = self.origin_of(&[PERSON_URL, "sources.c2s.enrichment.enabled"]);
            self.problems.push(ConfigProblem::for_key(
                PERSON_URL,
                origin,
                "missing: enrichment requires it",
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
                    .map_err(|expected| format!("expected {expected}"))
            }),
            concurrency: self.read_integer("sources.c2s.enrichment.concurrency", 1..=1024),
            breaker_failures: self.read_integer(
                "sources.c2s.enrichment.breaker_failures",
                1..=u32::MAX.into(),
            ),
            breaker_open: self.read_seconds("sources.c2s.enrichment.breaker_open_s", DAY_S),
        }
    }

    /// Reads a URL with at least one of `places`, if `places` has any; `None` for an empty URL.
    /// Errors do not quote the URL, because it may hold a key.
    fn read_url_template(&mut self, key: &str, places: &[&str]) -> Option<TextTemplate> {
        self.read_as(key, |value| {
            let text = parse_string(value)?;
            if text.is_empty() {
                return Ok(None);
            }
            let template = TextTemplate::parse(text.expose(), |name| places.contains(&name));
            let template = template.map_err(|expected| format!("expected {expected}"))?;
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
        let origin = self.origin_of(&[key]);
        let schedule = self.read_list(key, |value| {
            let seconds = match value {
                // Exact: no accepted number of seconds comes near 2^53.
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
                origin,
                format!("expected at most {RETRIES_MAX} pauses"),
            ));
        }
        schedule
    }
}

/// Tells if every filled-in URL reaches the same server: an event must not choose the host.
fn is_single_server_url(template: &TextTemplate) -> bool {
    let with = |text: &'static str| parse_server_url(&template.fill(|_| text.into())).ok();
    with("a")
        .zip(with("b"))
        .is_some_and(|(one, other)| one.origin() == other.origin())
}

/// Tells if `name` is a place of the message. `person` and `customer` are objects, and a dot leads
/// to a member of theirs.
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
        let expected = "enrichment.person_url: missing: enrichment requires it";
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
                "expected known places, found {email}",
            ),
            (
                "enrichment.person_url",
                "http://p/{cpf",
                "expected every { closed by a }, or doubled",
            ),
            (
                "enrichment.lookup_url",
                "http://p/",
                "expected {email} or {phone} in it",
            ),
            (
                "enrichment.reply_url",
                "http://p/{cpf}",
                "expected known places, found {cpf}",
            ),
            ("enrichment.reply_url", "reply", url),
            (
                "enrichment.message_template",
                "{nobody}",
                "expected known places, found {nobody}",
            ),
            (
                "enrichment.message_template",
                "{person..x}",
                "expected known places, found {person..x}",
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

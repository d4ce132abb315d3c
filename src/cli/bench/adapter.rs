//! Adapter files: descriptions of other systems, so that they get the same traffic and the same
//! verdicts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hyper::Method;
use hyper::header::HeaderName;
use reqwest::Client;
use serde::Deserialize;

use super::error::{AdapterFileError, BenchError};
use super::receiver::DeliveryReading;
use super::target::{EventTarget, ServerAddress};
use super::template::{MissingVariable, RequestTemplate, TemplateValues};
use crate::cli::terminal_text::sanitize_text;

/// Content of an adapter file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdapterFile {
    /// Name of the system, for the report.
    pub(super) name: String,
    send: AdapterRequest,
    deliver: AdapterDelivery,
    register: Option<AdapterRequest>,
}

/// Request of which every text may have places.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterRequest {
    url: String,
    #[serde(default = "default_method")]
    method: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    /// Statuses that mean success; every 2xx if empty.
    #[serde(default)]
    accepted: Vec<u16>,
    /// Statuses that mean that a repeated request succeeded before.
    #[serde(default)]
    repeated: Vec<u16>,
}

/// Places in the deliveries of the system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterDelivery {
    entity: String,
    number: String,
    id_header: Option<String>,
}

fn default_method() -> String {
    "POST".to_owned()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl AdapterFile {
    /// Reads the adapter at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, BenchError> {
        let text = fs::read_to_string(path).map_err(|source| BenchError::AdapterFile {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| BenchError::Adapter {
            path: path.to_owned(),
            source,
        })
    }

    fn parse(text: &str) -> Result<Self, AdapterFileError> {
        let adapter: Self = toml::from_str(text)?;
        for pointer in [&adapter.deliver.entity, &adapter.deliver.number] {
            if !pointer.starts_with('/') {
                return Err(AdapterFileError::Pointer(pointer.clone()));
            }
        }
        Ok(adapter)
    }

    /// Returns the target of the events.
    pub(super) fn to_target(&self, label: &str) -> Result<EventTarget, BenchError> {
        let (server, path) = ServerAddress::split_url(&self.send.url)?;
        let mut headers = Vec::new();
        for (name, value) in &self.send.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let parsed = parsed.map_err(|_| BenchError::Header { name: name.clone() })?;
            headers.push((parsed, self.parse_template(value)?));
        }
        let method = Method::from_bytes(self.send.method.as_bytes());
        Ok(EventTarget {
            server,
            method: method.map_err(|_| BenchError::Header {
                name: self.send.method.clone(),
            })?,
            path: self.parse_template(&path)?,
            headers,
            body: self.parse_template(&self.send.body)?,
            accepted: self.send.accepted.clone(),
            repeated: self.send.repeated.clone(),
            signer: None,
            label: label.to_owned(),
        })
    }

    /// Returns the places of entity and number in a delivery.
    pub(super) fn to_reading(&self, label: &str) -> DeliveryReading {
        DeliveryReading {
            entity: self.deliver.entity.clone(),
            number: self.deliver.number.clone(),
            id_header: self.deliver.id_header.clone(),
            label: label.to_owned(),
            secret: None,
        }
    }

    /// Tells if the adapter registers receivers; if not, a person does.
    pub(super) fn registers_receivers(&self) -> bool {
        self.register.is_some()
    }

    /// Registers the receiver at `receiver_url`, if the adapter says how.
    pub(super) async fn register(&self, receiver_url: &str) -> Result<(), BenchError> {
        let Some(register) = &self.register else {
            return Ok(());
        };
        let values = TemplateValues {
            receiver_url,
            ..TemplateValues::default()
        };
        let fill = |text: &str| Ok::<_, BenchError>(self.parse_template(text)?.to_text(&values));
        let method = reqwest::Method::from_bytes(register.method.as_bytes());
        let method = method.map_err(|_| BenchError::Header {
            name: register.method.clone(),
        })?;
        let client = Client::builder().no_proxy().build();
        let client = client.map_err(BenchError::Register)?;
        let mut request = client.request(method, fill(&register.url)?);
        for (name, value) in &register.headers {
            request = request.header(name, fill(value)?);
        }
        let answer = request.body(fill(&register.body)?).send().await;
        let answer = answer.map_err(|error| BenchError::Register(error.without_url()))?;

        let status = answer.status();
        let is_accepted = match register.accepted.is_empty() {
            true => status.is_success(),
            false => register.accepted.contains(&status.as_u16()),
        };
        if is_accepted {
            return Ok(());
        }
        let body = sanitize_text(&answer.text().await.unwrap_or_default());
        Err(BenchError::NotRegistered { status, body })
    }

    fn parse_template(&self, text: &str) -> Result<RequestTemplate, BenchError> {
        let parsed = RequestTemplate::parse(text, variable);
        parsed.map_err(|source: MissingVariable| BenchError::Adapter {
            path: self.name.clone().into(),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    const ADAPTER: &str = r#"
name = "other"

[send]
url = "http://127.0.0.1:8071/api/{entity}/msg"
headers = { Idempotency-Key = "{key}" }
body = '{"entity": "{entity}", "number": {number}}'
accepted = [202]
repeated = [409]

[deliver]
entity = "/entity"
number = "/number"
id_header = "webhook-id"
"#;

    #[test]
    fn an_adapter_describes_target_and_deliveries() {
        let adapter = AdapterFile::parse(ADAPTER).expect("valid");
        let target = adapter.to_target("b").expect("valid");
        assert_eq!((target.method, target.accepted), (Method::POST, vec![202]));
        assert_eq!(target.server.port, 8071);
        assert_eq!(target.headers[0].0, "idempotency-key");
        let reading = adapter.to_reading("b");
        let body = serde_json::json!({"entity": "b-1", "number": 2});
        assert_eq!(reading.find_event(&body), Some((1, 2)));
        assert!(!adapter.registers_receivers());
    }

    #[test]
    fn the_adapters_of_the_guide_can_be_read() {
        let guide = include_str!("../../edge/docs/guide/benchmark.md");
        let blocks = guide.split("```toml\n").skip(1);
        let adapters: Vec<_> = blocks
            .map(|rest| rest.split("```").next().expect("a first part"))
            .map(|text| AdapterFile::parse(text).expect(text))
            .collect();
        let names: Vec<_> = adapters
            .iter()
            .map(|adapter| adapter.name.as_str())
            .collect();
        assert_eq!(names, ["Svix", "Restate"]);
    }

    #[test]
    fn a_mistake_in_an_adapter_is_named() {
        let misspelt = ADAPTER.replace("accepted", "acepted");
        let error = AdapterFile::parse(&misspelt).expect_err("unknown");
        assert!(error.to_string().contains("acepted"), "{error}");
        let pointer = ADAPTER.replace("\"/number\"", "\"number\"");
        let error = AdapterFile::parse(&pointer).expect_err("no pointer");
        assert!(error.to_string().contains("JSON pointer"), "{error}");
        let adapter = AdapterFile::parse(&ADAPTER.replace("Idempotency-Key", "\"a b\""));
        let error = adapter
            .expect("TOML")
            .to_target("b")
            .expect_err("no header");
        assert!(error.to_string().contains("a b"), "{error}");
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_adapter_is_read_or_refused(text in damaged_text(&[ADAPTER])) {
            if let Ok(adapter) = AdapterFile::parse(&text) {
                let _ = adapter.to_target("b");
                let _ = adapter.to_reading("b");
            }
        }
    }
}

//! OpenAPI description of all endpoints, with the security schemes and the schema of errors.

use serde_json::{Value, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApiBuilder, Paths, Server,
};

use super::super::api;
use super::components::ComponentSchemas;
use super::deliveries::{delivery_schema, describe_deliveries};

const ABOUT: &str = "\
Hookyard receives signed webhooks, applies the events of each entity (a ticket, a lead, a \
conversation …) strictly in order, and delivers them to subscribers.\n\n\
Every error has the members `detail`, for people, and `code`, for programs; a validation error \
lists each wrong field in `errors`. A path answers 405 to methods that it does not have, and names \
those that it has in `Allow`. Paths work with and without a slash at the end. Rate limits \
are counted per minute, by address for IPv4 and by /64 network for IPv6; the examples show the \
default limits.\n\n\
To try an endpoint that requires a signature, enter the signing *secret* under *Authorize*. This \
page computes the signature in your browser; it never sends the secret.";

/// Addresses of the API: the one that serves the description, and that of a node with the defaults.
const SERVERS: [(&str, &str); 2] = [
    ("/", "The node that serves this description."),
    (
        "http://127.0.0.1:8080",
        "A node on this machine with the default address.",
    ),
];

/// Sections of the API with their descriptions, in the order of the page.
const TAGS: [(&str, &str); 13] = [
    ("Support", "Receives events of support tickets from a CRM."),
    (
        "Leads",
        "Receives events of pre-leads, leads and customers from a CRM.",
    ),
    ("C2S", "Receives events of leads from Contact2Sale."),
    (
        "Configured sources",
        "Receives events of senders that the configuration describes.",
    ),
    (
        "Event bus",
        "Receives events that the CRM publishes, and lists all known events.",
    ),
    (
        "Instagram",
        "Receives and sends messages of Instagram business accounts.",
    ),
    (
        "Subscriptions",
        "Defines which events are delivered to which URL, and shows the deliveries. Admin only.",
    ),
    (
        "Dead letters",
        "Shows deliveries that failed for good, and delivers events again. Admin only.",
    ),
    (
        "Reads",
        "Shows entities, received events and their processing, and the call log. Admin only.",
    ),
    (
        "Erasures",
        "Erases what is stored of an entity, and shows how far that is. Admin only.",
    ),
    ("Store", "Backs the store up. Admin only."),
    (
        "Access",
        "Creates, lists and revokes named tokens, and shows the audit log.",
    ),
    ("Node", "Shows the health of the node. Open to everyone."),
];

/// Header that carries a secret or a signature.
struct KeyHeader {
    scheme: &'static str,
    header: &'static str,
    about: &'static str,
}

const KEY_HEADERS: [KeyHeader; 6] = [
    KeyHeader {
        scheme: "support_api_key",
        header: "X-CRM-API-Key",
        about: "An API key of `[sources.support]`.",
    },
    KeyHeader {
        scheme: "support_signature",
        header: "X-CRM-Signature",
        about: "Hex HMAC-SHA256 of the body followed by the timestamp in `X-CRM-Timestamp`. \
                On this page: enter the secret.",
    },
    KeyHeader {
        scheme: "c2s_token",
        header: "X-Webhook-Token",
        about: "A token of `[sources.c2s]`.",
    },
    KeyHeader {
        scheme: "leads_signature",
        header: "X-Webhook-Signature",
        about: "Hex HMAC-SHA256 of the body, if `[sources.leads]` has secrets. \
                On this page: enter the secret.",
    },
    KeyHeader {
        scheme: "configured_signature",
        header: "X-Hub-Signature-256",
        about: "`sha256=` and the hex HMAC-SHA256 of the body, in the presets github and meta. \
                On this page: enter the secret.",
    },
    KeyHeader {
        scheme: "instagram_signature",
        header: "X-Hub-Signature-256",
        about: "`sha256=` and the hex HMAC-SHA256 of the body, under the secret of the app. \
                On this page: enter the secret.",
    },
];

/// Builds the OpenAPI description of every endpoint, enabled or not, and of deliveries.
#[must_use]
pub fn build_openapi() -> Value {
    let (mut paths, mut schemas) = (Paths::new(), ComponentSchemas::default());
    for endpoint in api::endpoints(&[]) {
        let path = endpoint.documented_path();
        for operation in endpoint.operations {
            let Some(description) = operation.description else {
                continue;
            };
            let method = operation.methods.documented();
            let description = match operation.access {
                Some(access) => description().needs(access),
                None => description(),
            };
            let described = description.into_operation(&mut schemas);
            paths.add_path_operation(path.clone(), vec![method], described.build());
        }
    }

    let tags = TAGS.map(|(name, about)| {
        TagBuilder::new()
            .name(name)
            .description(Some(about))
            .build()
    });
    let license = LicenseBuilder::new()
        .name(env!("CARGO_PKG_LICENSE"))
        .identifier(Some(env!("CARGO_PKG_LICENSE")));
    let info = InfoBuilder::new()
        .title("Hookyard")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()));
    let components = KEY_HEADERS.into_iter().fold(
        ComponentsBuilder::new()
            .security_scheme(
                "admin_token",
                bearer_scheme(
                    "The token `admin.token` of the configuration, or a named token \
                     (`hyt_…`) whose role may do the operation: see `x-roles` of each.",
                ),
            )
            .security_scheme(
                "publisher_token",
                bearer_scheme(
                    "A token of `[sources.crm]`, or a named token with the role publish.",
                ),
            ),
        |components, key| components.security_scheme(key.scheme, header_scheme(&key)),
    );
    schemas.insert("Delivery", delivery_schema());
    let description = OpenApiBuilder::new()
        .info(info.build())
        .servers(Some(SERVERS.map(|(url, about)| {
            let mut server = Server::new(url);
            server.description = Some(about.to_owned());
            server
        })))
        .tags(Some(tags))
        .components(Some(components.build()))
        .paths(paths)
        .build();

    // The types of utoipa have no place for `webhooks`, and schemas lose what they do not know.
    let mut description = json!(description);
    description["components"]["schemas"] = schemas.into_json();
    description["webhooks"] = json!({"delivery": {"post": describe_deliveries()}});
    description
}

fn bearer_scheme(about: &str) -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(about))
            .build(),
    )
}

fn header_scheme(key: &KeyHeader) -> SecurityScheme {
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
        key.header, key.about,
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_an_example_its_tag_and_an_id_of_its_own() {
        let spec = build_openapi();
        assert_eq!(spec["openapi"], "3.1.0");
        let tags: Vec<_> = TAGS.iter().map(|(name, _)| json!([name])).collect();
        let mut ids = BTreeSet::new();
        for (path, item) in spec["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                assert!(tags.contains(&operation["tags"]), "{method} {path}");
                assert!(
                    ids.insert(operation["operationId"].as_str().expect("an id").to_owned()),
                    "{method} {path}"
                );
                let answered = operation["responses"].as_object().expect("answers");
                assert!(
                    answered.keys().any(|status| status.starts_with('2')),
                    "{method} {path}"
                );
            }
        }
    }

    /// Calls without a body are reads, removals and actions on the resource in the path. A body that
    /// may be left out is marked as optional.
    #[test]
    fn what_takes_a_body_says_so_and_how_a_wrong_one_is_refused() {
        let mut optional = Vec::new();
        for (name, operation) in operations() {
            let body = &operation["requestBody"];
            assert_eq!(
                body.is_object(),
                operation["responses"]["413"].is_object(),
                "{name}"
            );
            let mut parts = name.rsplit('/');
            let (_verb, named) = (parts.next(), parts.next().unwrap_or_default());
            let needs_none = ["get ", "delete "]
                .iter()
                .any(|method| name.starts_with(method));
            let acts = name.starts_with("post ")
                && (named.starts_with('{') || ["clock", "v1"].contains(&named));
            assert!(body.is_object() || needs_none || acts, "{name}");
            if body.is_object() && body["required"] != true {
                optional.push(name);
            }
        }
        assert_eq!(
            optional,
            [
                "post /api/v1/dead-letters/retry",
                "post /api/v1/webhooks/{id}/rotate-secret"
            ]
        );
    }

    #[test]
    fn every_scheme_that_is_asked_for_is_described() {
        let spec = build_openapi();
        let schemes = spec["components"]["securitySchemes"]
            .as_object()
            .expect("schemes");
        let operations = spec["paths"]
            .as_object()
            .into_iter()
            .flat_map(|paths| paths.values());
        let asked = operations
            .filter_map(Value::as_object)
            .flat_map(|item| item.values());
        let asked = asked
            .filter_map(|operation| operation["security"].as_array())
            .flatten();
        for requirement in asked.filter_map(Value::as_object) {
            assert!(
                requirement.keys().all(|name| schemes.contains_key(name)),
                "{requirement:?}"
            );
        }
    }

    #[test]
    fn operations_are_named_as_functions() {
        for (name, operation) in operations() {
            let id = operation["operationId"].as_str().expect("an id");
            let is_name = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(
                is_name && id.starts_with(|first: char| first.is_ascii_lowercase()),
                "{name}: {id}"
            );
        }
    }

    #[test]
    fn each_reference_leads_to_a_schema_and_each_schema_is_used() {
        let spec = build_openapi();
        let schemas = spec["components"]["schemas"].as_object().expect("schemas");
        let text = spec.to_string();
        let prefix = "\"$ref\":\"#/components/schemas/";
        let used: BTreeSet<_> = text
            .split(prefix)
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let known: BTreeSet<_> = schemas.keys().map(String::as_str).collect();
        assert_eq!(used, known);
    }

    /// Clients had to treat each member that may be null as one that may be absent.
    #[test]
    fn a_member_of_an_answer_that_may_be_null_is_always_there() {
        let spec = build_openapi();
        let job = &spec["components"]["schemas"]["Job"];
        assert_eq!(
            job["properties"]["reason"]["type"],
            json!(["string", "null"])
        );
        let event = &spec["components"]["schemas"]["Event"];
        let [job, event] = [job, event].map(|schema| schema["required"].as_array().expect("some"));
        assert!(job.contains(&json!("reason")) && event.contains(&json!("processed_at")));
        assert!(
            !event.contains(&json!("traceparent")),
            "absent, but never null"
        );
    }

    fn operations() -> Vec<(String, Value)> {
        let spec = build_openapi();
        let paths = spec["paths"].as_object().expect("paths").clone();
        let operations = paths.into_iter().flat_map(|(path, item)| {
            let item = item.as_object().expect("operations").clone();
            item.into_iter()
                .map(move |(method, operation)| (format!("{method} {path}"), operation))
        });
        operations.collect()
    }

    fn codes(operation: &Value, status: &str) -> BTreeSet<String> {
        let examples =
            operation["responses"][status].pointer("/content/application~1json/examples");
        let examples = examples
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|examples| examples.values());
        examples
            .filter_map(|example| example["value"]["code"].as_str())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_429_and_503_says_when_to_try_again() {
        for (name, operation) in operations() {
            for status in ["429", "503"] {
                let answer = &operation["responses"][status];
                assert!(
                    answer.is_null() || answer["headers"]["Retry-After"].is_object(),
                    "{name} {status}"
                );
            }
        }
    }

    #[test]
    fn what_takes_events_in_or_looks_into_the_store_says_what_may_keep_it_from_that() {
        let all = ["entity_quarantined", "overloaded", "unavailable"].map(str::to_owned);
        for (name, operation) in operations() {
            let is_for_anyone =
                operation["tags"][0] == "Node" || name.ends_with("/events/available");
            let is_handshake = operation["responses"]["200"]["content"]["text/plain"].is_object();
            // Senders and publishers post events; of the admin's own endpoints only `reprocess` and an
            // erasure submit an event.
            let is_the_admins = operation["security"] == json!([{"admin_token": []}]);
            let takes_in = name.starts_with("post ")
                && (!is_the_admins || name.ends_with("/reprocess"))
                || name == "delete /api/v1/entities/{kind}/{id}";
            let codes = codes(&operation, "503");
            match takes_in {
                true => assert_eq!(codes, BTreeSet::from(all.clone()), "{name}"),
                false if is_for_anyone || is_handshake => assert!(codes.is_empty(), "{name}"),
                false => assert_eq!(codes, BTreeSet::from(["unavailable".to_owned()]), "{name}"),
            }
        }
    }

    #[test]
    fn what_takes_pages_says_how_a_wrong_one_is_refused() {
        for (name, operation) in operations() {
            let parameters = operation["parameters"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            if parameters
                .iter()
                .any(|parameter| parameter["name"] == "page")
            {
                assert!(
                    codes(&operation, "400").contains("validation_failed"),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn the_bus_takes_one_event_or_a_list_from_the_admin_or_a_publisher() {
        let (_, operation) = operations()
            .into_iter()
            .find(|(name, _)| name == "post /api/v1/events")
            .expect("there");
        assert_eq!(
            operation["security"],
            json!([{"admin_token": []}, {"publisher_token": []}])
        );
        let content = &operation["requestBody"]["content"]["application/json"];
        let types: Vec<_> = content["schema"]["oneOf"]
            .as_array()
            .expect("two")
            .iter()
            .map(|one| &one["type"])
            .collect();
        assert_eq!(types, ["object", "array"]);
        let is_list = |content: &Value| {
            let mut examples = content["examples"].as_object().expect("examples").values();
            examples.any(|example| {
                example["value"].is_array() || example["value"]["received"].is_number()
            })
        };
        assert!(
            is_list(content)
                && is_list(&operation["responses"]["202"]["content"]["application/json"])
        );
    }

    #[test]
    fn what_a_sender_cannot_see_in_an_example_is_said() {
        let operations_with = |text: &str| {
            let operations = operations()
                .into_iter()
                .filter(|(_, operation)| operation.to_string().contains(text));
            operations.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(
            operations_with("microseconds"),
            ["post /api/v1/webhooks/c2s"]
        );
        let late = "keeps its newer status";
        assert!(
            operations_with(late)
                .iter()
                .all(|name| name.ends_with("/status/update"))
                && operations_with(late).len() == 2
        );
        let by_address = operations_with("/64 network");
        for path in [
            "/in/{name}",
            "/api/v1/webhooks/c2s",
            "/api/v1/webhooks/incoming",
        ] {
            assert!(by_address.contains(&format!("post {path}")), "{path}");
        }
    }
}

//! Builder of the OpenAPI description of one endpoint: requests, answers and refusals, each with an
//! example, from which the schemas are made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    ContentBuilder, HttpMethod, Ref, RefOr, Required, Response, ResponseBuilder,
};

use super::super::answer::JSON_LINES;
use crate::token::{AccessOperation, TokenRole};

/// Name of the schema of every error.
pub(in crate::edge) const ERROR: &str = "Error";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const BYTES: &str = "application/octet-stream";

/// Header of every answer 429 and 503.
const RETRY_AFTER: &str = "Retry-After";
const RETRY_AFTER_ABOUT: &str = "Seconds until a retry makes sense.";

/// Default of `server.auth_failures_per_minute`, as the examples show it.
const FAILURES_A_MINUTE: u32 = 100;
const CALLS_WITH_WRONG_CREDENTIALS: &str = "Calls with wrong credentials from one address";

/// Access rule of an endpoint, as security schemes of the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum EndpointAccess {
    /// Access for anyone, without credentials.
    Open,
    /// Access with the bearer token of the admin.
    Admin,
    /// Access with the bearer token of the admin or of a publisher.
    Publisher,
    /// Access with all of these security schemes together.
    Signed(&'static [&'static str]),
}

/// Description of an endpoint, built step by step.
pub(in crate::edge) struct EndpointDoc {
    tag: &'static str,
    summary: String,
    description: String,
    access: EndpointAccess,
    /// Operation that a token must permit.
    operation: Option<AccessOperation>,
    parameters: Vec<Parameter>,
    requests: Vec<(String, Value)>,
    is_body_optional: bool,
    required: &'static [&'static str],
    free: &'static [&'static str],
    media_type: &'static str,
    answers: BTreeMap<u16, Vec<AnswerExample>>,
}

struct AnswerExample {
    name: String,
    description: String,
    example: Option<Value>,
    media_type: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

impl EndpointDoc {
    /// Starts a description in the section `tag`; the table of the API adds method and path.
    pub(in crate::edge) fn new(tag: &'static str, summary: impl Into<String>) -> Self {
        Self {
            tag,
            summary: summary.into(),
            description: String::new(),
            access: EndpointAccess::Open,
            operation: None,
            parameters: Vec::new(),
            requests: Vec::new(),
            is_body_optional: false,
            required: &[],
            free: &[],
            media_type: JSON,
            answers: BTreeMap::new(),
        }
    }

    /// Adds a text beyond the summary, in Markdown.
    pub(in crate::edge) fn about(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Sets the access rule, and adds the refusals that follow from it.
    pub(in crate::edge) fn access(mut self, access: EndpointAccess) -> Self {
        self.access = access;
        match access {
            EndpointAccess::Admin | EndpointAccess::Publisher => self
                .refuses(401, "unauthorized", "a valid bearer token is required")
                .refuses(
                    401,
                    "token_expired",
                    "the token billing expired at 2026-03-01T09:30:00.000Z",
                )
                .limits_failures(),
            EndpointAccess::Open => self,
            EndpointAccess::Signed(_) => self.limits_failures(),
        }
    }

    /// Names the roles that may do `operation`, and adds the refusal of others.
    pub(in crate::edge) fn needs(mut self, operation: AccessOperation) -> Self {
        self.operation = Some(operation);
        let (name, roles) = (operation.as_str(), operation.role_names());
        if !self.description.is_empty() {
            self.description.push_str("\n\n");
        }
        self.description
            .push_str(&format!("Needs a token with the role {roles} (`{name}`)."));
        let role = match operation.roles() {
            [TokenRole::Publish, ..] => "read",
            _ => "publish",
        };
        let detail = format!(
            "{name} needs a token with the role {roles}; the token billing has the role {role}"
        );
        self.refuses(403, "insufficient_role", &detail)
    }

    /// Adds a variable part of the path.
    pub(in crate::edge) fn part(
        self,
        name: &str,
        description: &str,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(
            ParameterIn::Path,
            name,
            Required::True,
            description,
            example.into(),
        )
    }

    /// Adds an optional parameter of the query.
    pub(in crate::edge) fn query(
        self,
        name: &str,
        description: &str,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(
            ParameterIn::Query,
            name,
            Required::False,
            description,
            example.into(),
        )
    }

    /// Adds an optional header that carries no credentials.
    pub(in crate::edge) fn header(
        self,
        name: &str,
        description: &str,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(
            ParameterIn::Header,
            name,
            Required::False,
            description,
            example.into(),
        )
    }

    /// Adds the parameters of every list, `page` and `page_size`.
    pub(in crate::edge) fn paged(self) -> Self {
        self.query("page", "Number of the page, from 1.", 1)
            .query("page_size", "Items on a page, at most 100.", 20)
            .refuses_field(
                "page_size",
                "page_size must be a whole number from 1 to 100",
            )
    }

    /// Adds an example of a request body under a name.
    pub(in crate::edge) fn takes(mut self, name: impl Into<String>, example: Value) -> Self {
        self.requests.push((name.into(), example));
        self
    }

    /// Allows a request without a body.
    pub(in crate::edge) fn or_nothing(mut self) -> Self {
        self.is_body_optional = true;
        self
    }

    /// Sets the members that every request body must have.
    pub(in crate::edge) fn requires(mut self, members: &'static [&'static str]) -> Self {
        self.required = members;
        self
    }

    /// Sets the members of answers that may hold any JSON value.
    pub(in crate::edge) fn free(mut self, members: &'static [&'static str]) -> Self {
        self.free = members;
        self
    }

    /// Adds an answer with a JSON body.
    pub(in crate::edge) fn answers(self, status: u16, description: &str, example: Value) -> Self {
        self.answer(status, description, description, Some(example), &[])
    }

    /// Adds an answer with a JSON body and headers, each with its description.
    pub(in crate::edge) fn answers_with(
        self,
        status: u16,
        description: &str,
        example: Value,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.answer(status, description, description, Some(example), headers)
    }

    /// Adds an answer with a plain text body.
    pub(in crate::edge) fn answers_text(
        self,
        status: u16,
        description: &str,
        example: &str,
    ) -> Self {
        self.answers_in(TEXT, status, description, example)
    }

    /// Adds an answer with a body of text in the format `media_type`.
    pub(in crate::edge) fn answers_in(
        mut self,
        media_type: &'static str,
        status: u16,
        description: &str,
        example: &str,
    ) -> Self {
        let (name, description) = (description.to_owned(), description.to_owned());
        let answer = AnswerExample {
            name,
            description,
            example: Some(example.into()),
            media_type,
            headers: &[],
        };
        self.answers.entry(status).or_default().push(answer);
        self
    }

    /// Adds an answer with a body of any bytes.
    pub(in crate::edge) fn answers_bytes(mut self, status: u16, description: &str) -> Self {
        let (name, description) = (description.to_owned(), description.to_owned());
        let answer = AnswerExample {
            name,
            description,
            example: Some("bytes".into()),
            media_type: BYTES,
            headers: &[],
        };
        self.answers.entry(status).or_default().push(answer);
        self
    }

    /// Adds an answer with a body of JSON lines.
    pub(in crate::edge) fn answers_lines(
        mut self,
        status: u16,
        description: &str,
        example: &str,
    ) -> Self {
        let (name, description) = (description.to_owned(), description.to_owned());
        let answer = AnswerExample {
            name,
            description,
            example: Some(example.into()),
            media_type: JSON_LINES,
            headers: &[],
        };
        self.answers.entry(status).or_default().push(answer);
        self
    }

    /// Adds an answer without a body.
    pub(in crate::edge) fn answers_nothing(self, status: u16, description: &str) -> Self {
        self.answer(status, description, description, None, &[])
    }

    /// Adds a refusal with its code and an example of its `detail`.
    pub(in crate::edge) fn refuses(self, status: u16, code: &str, detail: &str) -> Self {
        let example = json!({"detail": detail, "code": code});
        self.answer(
            status,
            &format!("{code}: {detail}"),
            detail,
            Some(example),
            &[],
        )
    }

    /// Adds the refusal of wrong fields, with `field` as the example.
    pub(in crate::edge) fn refuses_field(self, field: &str, detail: &str) -> Self {
        let errors = json!([{"field": field, "detail": detail}]);
        let example = json!({"detail": detail, "code": "validation_failed", "errors": errors});
        let name = format!("validation_failed: {detail}");
        self.answer(
            400,
            &name,
            "A field is wrong or missing; `errors` names every such field.",
            Some(example),
            &[],
        )
    }

    /// Adds the refusal of more than `most` calls per minute; `calls` describes the calls.
    pub(in crate::edge) fn limits(self, most: u32, calls: &str) -> Self {
        let detail = format!("rate limit of {most} requests per minute exceeded");
        let example = json!({"detail": detail, "code": "rate_limited"});
        self.answer(
            429,
            &format!("rate_limited: {calls}"),
            &format!("{calls}: {detail}"),
            Some(example),
            &[],
        )
    }

    /// Adds the refusal of too many calls with wrong credentials.
    pub(in crate::edge) fn limits_failures(self) -> Self {
        self.limits(FAILURES_A_MINUTE, CALLS_WITH_WRONG_CREDENTIALS)
    }

    /// Adds the refusals of every endpoint that reads a JSON body.
    pub(in crate::edge) fn refuses_bodies(self) -> Self {
        self.refuses(
            400,
            "invalid_json",
            "body is not valid JSON at line 1 column 5",
        )
        .refuses(413, "body_too_large", "body is larger than 1000000 bytes")
        .refuses(
            415,
            "unsupported_media_type",
            "Content-Type must be application/json",
        )
    }

    /// Adds the refusals of every endpoint that accepts events: overload, quarantine, no open
    /// store.
    pub(in crate::edge) fn refuses_when_busy(self) -> Self {
        self.refuses(503, "overloaded", "the node is overloaded, retry later")
            .refuses(
                503,
                "entity_quarantined",
                "the entity is quarantined after repeated crashes, retry later",
            )
            .refuses_when_not_ready()
    }

    /// Adds the refusal of every endpoint that reads the store.
    pub(in crate::edge) fn refuses_when_not_ready(self) -> Self {
        self.refuses(
            503,
            "unavailable",
            "the node is not ready, retry with the same idempotency key",
        )
    }

    fn answer(
        mut self,
        status: u16,
        name: &str,
        description: &str,
        example: Option<Value>,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        let (name, description) = (name.to_owned(), description.to_owned());
        let answer = AnswerExample {
            name,
            description,
            example,
            media_type: JSON,
            headers,
        };
        self.answers.entry(status).or_default().push(answer);
        self
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        name: &str,
        required: Required,
        description: &str,
        example: Value,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(description))
            .schema(Some(
                SchemaRules {
                    required: None,
                    free: &[],
                }
                .schema_of(&example),
            ))
            .example(Some(example));
        self.parameters.push(parameter.build());
        self
    }

    /// Builds the operation for `method` and `path`.
    pub(super) fn into_operation(self, method: &HttpMethod, path: &str) -> OperationBuilder {
        let mut operation = OperationBuilder::new()
            .tag(self.tag)
            .summary(Some(self.summary))
            .operation_id(Some(operation_id(method, path)))
            .parameters((!self.parameters.is_empty()).then_some(self.parameters));
        if !self.description.is_empty() {
            operation = operation.description(Some(self.description));
        }
        operation = match self.access {
            EndpointAccess::Open => operation,
            EndpointAccess::Admin => operation.security(requirement(&["admin_token"])),
            EndpointAccess::Publisher => operation
                .security(requirement(&["admin_token"]))
                .security(requirement(&["publisher_token"])),
            EndpointAccess::Signed(schemes) => operation.security(requirement(schemes)),
        };
        if let Some(access) = self.operation {
            let roles: Vec<_> = access.roles().iter().map(|role| role.as_str()).collect();
            let extensions = ExtensionsBuilder::new()
                .add("x-operation", access.as_str())
                .add("x-roles", roles);
            operation = operation.extensions(Some(extensions.build()));
        }
        if !self.requests.is_empty() {
            let rules = SchemaRules {
                required: Some(self.required),
                free: &[],
            };
            let schema = rules.schema_of_all(self.requests.iter().map(|(_, example)| example));
            let content = ContentBuilder::new()
                .schema(Some(schema))
                .examples_from_iter(examples(self.requests));
            let required = if self.is_body_optional {
                Required::False
            } else {
                Required::True
            };
            let body = RequestBodyBuilder::new()
                .content(self.media_type, content.build())
                .required(Some(required));
            operation = operation.request_body(Some(body.build()));
        }
        for (status, answers) in self.answers {
            operation =
                operation.response(status.to_string(), response(status, answers, self.free));
        }
        operation
    }
}

fn requirement(schemes: &[&str]) -> SecurityRequirement {
    let none: [&str; 0] = [];
    schemes
        .iter()
        .fold(SecurityRequirement::default(), |requirement, scheme| {
            requirement.add(*scheme, none)
        })
}

fn response(status: u16, answers: Vec<AnswerExample>, free: &[&str]) -> Response {
    let mut descriptions: Vec<_> = answers
        .iter()
        .map(|answer| answer.description.as_str())
        .collect();
    descriptions.dedup();
    let mut response = ResponseBuilder::new().description(descriptions.join("; "));
    let retry_after = matches!(status, 429 | 503).then_some(&(RETRY_AFTER, RETRY_AFTER_ABOUT));
    for (name, about) in answers
        .iter()
        .flat_map(|answer| answer.headers)
        .chain(retry_after)
    {
        let header = HeaderBuilder::new()
            .schema(string())
            .description(Some(*about));
        response = response.header(*name, header.build());
    }
    let media_type = answers.first().map_or(JSON, |answer| answer.media_type);
    let named: Vec<_> = answers
        .into_iter()
        .filter_map(|answer| Some((answer.name, answer.example?)))
        .collect();
    if named.is_empty() {
        return response.build();
    }
    let schema = if named
        .iter()
        .all(|(_, example)| example.get("code").is_some_and(|_| status >= 400))
    {
        RefOr::Ref(Ref::from_schema_name(ERROR))
    } else {
        SchemaRules {
            required: None,
            free,
        }
        .schema_of_all(named.iter().map(|(_, example)| example))
    };
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples(named));
    response.content(media_type, content.build()).build()
}

fn examples(named: Vec<(String, Value)>) -> impl Iterator<Item = (String, Example)> {
    named
        .into_iter()
        .map(|(name, value)| (name, ExampleBuilder::new().value(Some(value)).build()))
}

/// Makes a stable operation id, such as `post_api_v1_accounts`.
fn operation_id(method: &HttpMethod, path: &str) -> String {
    let method = match method {
        HttpMethod::Get => "get",
        HttpMethod::Put => "put",
        HttpMethod::Delete => "delete",
        _ => "post",
    };
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    std::iter::once(method)
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

fn string() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .build()
        .into()
}

/// Rules for schemas made of examples.
#[derive(Clone, Copy)]
struct SchemaRules<'a> {
    /// Required members; `None` means the members that all examples have.
    required: Option<&'a [&'a str]>,
    /// Members that may hold any JSON value.
    free: &'a [&'a str],
}

impl SchemaRules<'_> {
    /// Makes the schema that all `examples` fit.
    fn schema_of_all<'v>(self, examples: impl Iterator<Item = &'v Value>) -> RefOr<Schema> {
        let examples: Vec<&Value> = examples.collect();
        let objects: Vec<_> = examples
            .iter()
            .filter_map(|example| example.as_object())
            .collect();
        let (lists, others): (Vec<&Value>, Vec<&Value>) = examples
            .iter()
            .copied()
            .partition(|example| example.is_array());
        if !lists.is_empty() && !others.is_empty() && others.len() == objects.len() {
            let [object, list] =
                [others, lists].map(|examples| self.schema_of_all(examples.into_iter()));
            return RefOr::T(OneOfBuilder::new().item(object).item(list).build().into());
        }
        if objects.is_empty() || objects.len() < examples.len() {
            let is_one_type = examples
                .windows(2)
                .all(|pair| kind(pair[0]) == kind(pair[1]));
            return examples
                .first()
                .filter(|_| is_one_type)
                .map_or_else(any_value, |example| self.schema_of(example));
        }
        // The required members are those of the body or of each item of a list, not of nested
        // objects.
        let within = Self {
            required: self.required.map(|_| &[][..]),
            ..self
        };
        let names: BTreeSet<&String> = objects.iter().flat_map(|object| object.keys()).collect();
        let schema = names
            .into_iter()
            .fold(ObjectBuilder::new(), |schema, name| {
                let values: Vec<&Value> = objects
                    .iter()
                    .filter_map(|object| object.get(name))
                    .collect();
                let in_all = values.len() == objects.len();
                let is_required = self
                    .required
                    .map_or(in_all, |required| required.contains(&name.as_str()));
                let is_free = self.free.contains(&name.as_str());
                let member = if is_free {
                    any_value()
                } else {
                    within.schema_of_all(values.into_iter())
                };
                let schema = schema.property(name.clone(), member);
                if is_required {
                    schema.required(name.clone())
                } else {
                    schema
                }
            });
        RefOr::T(schema.build().into())
    }

    /// Makes the schema of values like `example`.
    fn schema_of(self, example: &Value) -> RefOr<Schema> {
        match (example, kind(example)) {
            (Value::Array(items), _) => RefOr::T(
                ArrayBuilder::new()
                    .items(self.schema_of_all(items.iter()))
                    .build()
                    .into(),
            ),
            (Value::Object(_), _) => self.schema_of_all(std::iter::once(example)),
            (_, Some(kind)) => RefOr::T(ObjectBuilder::new().schema_type(kind).build().into()),
            (_, None) => any_value(),
        }
    }
}

/// Makes the schema of any value: an example that is null does not show the type.
fn any_value() -> RefOr<Schema> {
    RefOr::T(
        ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .build()
            .into(),
    )
}

fn kind(value: &Value) -> Option<Type> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some(Type::Boolean),
        Value::Number(number) if number.is_f64() => Some(Type::Number),
        Value::Number(_) => Some(Type::Integer),
        Value::String(_) => Some(Type::String),
        Value::Array(_) => Some(Type::Array),
        Value::Object(_) => Some(Type::Object),
    }
}

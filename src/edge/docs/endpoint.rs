//! Builder of the OpenAPI description of one endpoint: requests, answers and refusals, each with an
//! example. The schemas of answers are those of the types that are serialized.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};

use super::super::answer::JSON_LINES;
use super::super::error::ErrorBody;
use super::super::list::ListPage;
use super::super::query::{PAGE_MAX, PAGE_SIZE_MAX};
use super::components::ComponentSchemas;
use super::example_schema::SchemaRules;
use super::schemas;
use crate::event::ID_MAX_BYTES;
use crate::token::{AccessOperation, TokenRole};

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
    /// Stable name of the operation, which generated clients give to their function.
    id: String,
    summary: String,
    description: String,
    access: EndpointAccess,
    /// Operation that a token must permit.
    operation: Option<AccessOperation>,
    parameters: Vec<Parameter>,
    requests: Vec<(String, Value)>,
    /// Schema of the request body; made of its examples if there is none.
    request_schema: Option<RefOr<Schema>>,
    is_body_optional: bool,
    required: &'static [&'static str],
    answers: BTreeMap<u16, Vec<AnswerExample>>,
    components: ComponentSchemas,
}

struct AnswerExample {
    name: String,
    description: String,
    example: Option<Value>,
    media_type: &'static str,
    /// Schema of the body; made of the examples if there is none.
    schema: Option<RefOr<Schema>>,
    headers: &'static [(&'static str, &'static str)],
}

impl AnswerExample {
    fn new(description: &str, media_type: &'static str, example: Option<Value>) -> Self {
        Self {
            name: description.to_owned(),
            description: description.to_owned(),
            example,
            media_type,
            schema: None,
            headers: &[],
        }
    }
}

impl EndpointDoc {
    /// Starts a description of the operation `id` in the section `tag`; the table of the API adds
    /// method and path.
    pub(in crate::edge) fn new(
        tag: &'static str,
        id: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        Self {
            tag,
            id: id.into(),
            summary: summary.into(),
            description: String::new(),
            access: EndpointAccess::Open,
            operation: None,
            parameters: Vec::new(),
            requests: Vec::new(),
            request_schema: None,
            is_body_optional: false,
            required: &[],
            answers: BTreeMap::new(),
            components: ComponentSchemas::default(),
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
                .refuses_field("pagesize", "pagesize is not a known parameter")
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
        schema: impl Into<RefOr<Schema>>,
        example: impl Into<Value>,
    ) -> Self {
        let place = (ParameterIn::Path, Required::True);
        self.parameter(place, name, description, schema.into(), example.into())
    }

    /// Adds an optional parameter of the query.
    pub(in crate::edge) fn query(
        self,
        name: &str,
        description: &str,
        schema: impl Into<RefOr<Schema>>,
        example: impl Into<Value>,
    ) -> Self {
        let place = (ParameterIn::Query, Required::False);
        self.parameter(place, name, description, schema.into(), example.into())
    }

    /// Adds an optional header that carries no credentials.
    pub(in crate::edge) fn header(
        self,
        name: &str,
        description: &str,
        schema: impl Into<RefOr<Schema>>,
        example: impl Into<Value>,
    ) -> Self {
        let place = (ParameterIn::Header, Required::False);
        self.parameter(place, name, description, schema.into(), example.into())
    }

    /// Adds the parameters `since` and `until` of a range of times.
    pub(in crate::edge) fn between(self, times: &str) -> Self {
        let about = |bound: &str| format!("{times} {bound} (RFC 3339).");
        self.query(
            "since",
            &about("at this time or later"),
            schemas::time(),
            "2020-01-01T00:00:00Z",
        )
        .query(
            "until",
            &about("before this time"),
            schemas::time(),
            "2099-01-01T00:00:00Z",
        )
        .refuses_field("since", "since must be an RFC 3339 time")
    }

    /// Adds the parameters of every list, `page` and `page_size`.
    pub(in crate::edge) fn paged(self) -> Self {
        self.query(
            "page",
            "Number of the page, from 1.",
            schemas::integer(1, PAGE_MAX),
            1,
        )
        .query(
            "page_size",
            "Items on a page.",
            schemas::integer(1, PAGE_SIZE_MAX),
            20,
        )
        .refuses_field(
            "page_size",
            "page_size must be a whole number from 1 to 100",
        )
    }

    /// Adds an idempotency key of the caller's choice.
    pub(in crate::edge) fn idempotency_key(self, description: &str, example: &str) -> Self {
        self.header(
            "Idempotency-Key",
            description,
            schemas::text(1, ID_MAX_BYTES),
            example,
        )
        .refuses_field(
            "Idempotency-Key",
            "Idempotency-Key must have 1 to 255 printable characters",
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

    /// Sets the members that a request body must have whose schema is made of its examples.
    pub(in crate::edge) fn requires(mut self, members: &'static [&'static str]) -> Self {
        self.required = members;
        self
    }

    /// Sets the schema of the request body, under the name that clients give to its type.
    pub(in crate::edge) fn takes_type(mut self, name: &str, schema: Value) -> Self {
        self.components.insert(name, schema);
        self.request_schema = Some(Ref::from_schema_name(name).into());
        self
    }

    /// Adds an answer with a `T` as its JSON body.
    pub(in crate::edge) fn answers<T: ToSchema>(
        self,
        status: u16,
        description: &str,
        example: Value,
    ) -> Self {
        self.answers_with::<T>(status, description, example, &[])
    }

    /// Adds an answer with a `T` as its JSON body and headers, each with its description.
    pub(in crate::edge) fn answers_with<T: ToSchema>(
        mut self,
        status: u16,
        description: &str,
        example: Value,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        let schema = self.components.describe::<T>(&T::name());
        self.add_answer(
            status,
            AnswerExample {
                schema: Some(schema),
                headers,
                ..AnswerExample::new(description, JSON, Some(example))
            },
        )
    }

    /// Adds the answer of a list: one page of `T`, with these examples as its items.
    pub(in crate::edge) fn answers_page<T: ToSchema>(mut self, items: &[Value]) -> Self {
        let total = items.len();
        let page = json!({"items": items, "total": total, "page": 1, "page_size": 20, "pages": 1});
        // The types in a generic type are described, but not its parameter.
        self.components.describe::<T>(&T::name());
        let schema = self
            .components
            .describe::<ListPage<T>>(&format!("{}Page", T::name()));
        self.add_answer(
            200,
            AnswerExample {
                schema: Some(schema),
                ..AnswerExample::new("One page of the list.", JSON, Some(page))
            },
        )
    }

    /// Adds an answer with a JSON body whose schema is made of the examples.
    pub(in crate::edge) fn answers_like(
        self,
        status: u16,
        description: &str,
        example: Value,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.add_answer(
            status,
            AnswerExample {
                headers,
                ..AnswerExample::new(description, JSON, Some(example))
            },
        )
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
        self,
        media_type: &'static str,
        status: u16,
        description: &str,
        example: &str,
    ) -> Self {
        let answer = AnswerExample::new(description, media_type, Some(example.into()));
        self.add_answer(status, answer)
    }

    /// Adds an answer with a body of any bytes.
    pub(in crate::edge) fn answers_bytes(self, status: u16, description: &str) -> Self {
        self.answers_in(BYTES, status, description, "bytes")
    }

    /// Adds an answer with a body of JSON lines.
    pub(in crate::edge) fn answers_lines(
        self,
        status: u16,
        description: &str,
        example: &str,
    ) -> Self {
        self.answers_in(JSON_LINES, status, description, example)
    }

    /// Adds an answer without a body.
    pub(in crate::edge) fn answers_nothing(self, status: u16, description: &str) -> Self {
        self.add_answer(status, AnswerExample::new(description, JSON, None))
    }

    /// Adds a refusal with its code and an example of its `detail`.
    pub(in crate::edge) fn refuses(self, status: u16, code: &str, detail: &str) -> Self {
        let example = json!({"detail": detail, "code": code});
        self.refuse(status, &format!("{code}: {detail}"), detail, example)
    }

    /// Adds the refusal of wrong fields, with `field` as the example.
    pub(in crate::edge) fn refuses_field(self, field: &str, detail: &str) -> Self {
        let errors = json!([{"field": field, "detail": detail}]);
        let example = json!({"detail": detail, "code": "validation_failed", "errors": errors});
        let name = format!("validation_failed: {detail}");
        let about = "A field is wrong or missing; `errors` names every such field.";
        self.refuse(400, &name, about, example)
    }

    /// Adds the refusal of more than `most` calls per minute; `calls` describes the calls.
    pub(in crate::edge) fn limits(self, most: u32, calls: &str) -> Self {
        let detail = format!("rate limit of {most} requests per minute exceeded");
        let example = json!({"detail": detail, "code": "rate_limited"});
        let name = format!("rate_limited: {calls}");
        self.refuse(429, &name, &format!("{calls}: {detail}"), example)
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
        .refuses(
            415,
            "unsupported_media_type",
            "Content-Type must be application/json",
        )
        .refuses_slow_bodies()
    }

    /// Adds the refusals of every endpoint that reads a body.
    pub(in crate::edge) fn refuses_slow_bodies(self) -> Self {
        self.refuses(408, "request_timeout", "body did not arrive in time")
            .refuses(413, "body_too_large", "body is larger than 1000000 bytes")
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

    fn refuse(mut self, status: u16, name: &str, description: &str, example: Value) -> Self {
        let schema = self
            .components
            .describe::<ErrorBody<'_>>(&ErrorBody::name());
        self.add_answer(
            status,
            AnswerExample {
                name: name.to_owned(),
                schema: Some(schema),
                ..AnswerExample::new(description, JSON, Some(example))
            },
        )
    }

    fn add_answer(mut self, status: u16, answer: AnswerExample) -> Self {
        self.answers.entry(status).or_default().push(answer);
        self
    }

    fn parameter(
        mut self,
        (place, required): (ParameterIn, Required),
        name: &str,
        description: &str,
        schema: RefOr<Schema>,
        example: Value,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(description))
            .schema(Some(schema))
            .example(Some(example));
        self.parameters.push(parameter.build());
        self
    }

    /// Builds the operation, and adds the schemas that it refers to to `components`.
    pub(super) fn into_operation(self, components: &mut ComponentSchemas) -> OperationBuilder {
        components.extend(self.components);
        let mut operation = OperationBuilder::new()
            .tag(self.tag)
            .summary(Some(self.summary))
            .operation_id(Some(self.id))
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
            };
            let examples_of = || self.requests.iter().map(|(_, example)| example);
            let schema = self
                .request_schema
                .unwrap_or_else(|| rules.schema_of_all(examples_of()));
            let content = ContentBuilder::new()
                .schema(Some(schema))
                .examples_from_iter(examples(self.requests));
            let required = if self.is_body_optional {
                Required::False
            } else {
                Required::True
            };
            let body = RequestBodyBuilder::new()
                .content(JSON, content.build())
                .required(Some(required));
            operation = operation.request_body(Some(body.build()));
        }
        for (status, answers) in self.answers {
            operation = operation.response(status.to_string(), response(status, answers));
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

fn response(status: u16, answers: Vec<AnswerExample>) -> Response {
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
            .schema(schemas::string())
            .description(Some(*about));
        response = response.header(*name, header.build());
    }
    let media_type = answers.first().map_or(JSON, |answer| answer.media_type);
    if answers.iter().all(|answer| answer.example.is_none()) {
        return response.build();
    }
    let schema = schema_of_answers(&answers);
    let named = answers
        .into_iter()
        .filter_map(|answer| Some((answer.name, answer.example?)));
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples(named));
    response.content(media_type, content.build()).build()
}

/// Makes the schema of all `answers` with one status: that of their type, or of any of their types.
fn schema_of_answers(answers: &[AnswerExample]) -> RefOr<Schema> {
    let mut types: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.schema.clone())
        .collect();
    types.dedup();
    match types.len() {
        0 => {
            let examples = answers.iter().filter_map(|answer| answer.example.as_ref());
            SchemaRules { required: None }.schema_of_all(examples)
        }
        1 => types.remove(0),
        _ => {
            let any = types
                .into_iter()
                .fold(AnyOfBuilder::new(), AnyOfBuilder::item);
            RefOr::T(any.build().into())
        }
    }
}

fn examples(
    named: impl IntoIterator<Item = (String, Value)>,
) -> impl Iterator<Item = (String, Example)> {
    named
        .into_iter()
        .map(|(name, value)| (name, ExampleBuilder::new().value(Some(value)).build()))
}

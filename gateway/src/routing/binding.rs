//! Builds the router from the `google.api.http` options in the descriptors. There is no other table of routes.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use http::{Method, uri::PathAndQuery};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    prost_types::{MethodOptions, method_options::IdempotencyLevel},
};

use crate::{
    backend::Backend,
    codec::{message_writer::MessageWriter, parameter::FieldPath, types::Types},
    route_metrics::RouteMetrics,
    routing::{
        router::{MethodPattern, Router},
        template::{Template, Variable},
    },
};

/// Maximum nesting depth of a field in a path template. No message of the contract is nested deeper.
const MAX_TEMPLATE_DEPTH: usize = 32;

/// One binding of an RPC.
#[derive(Debug)]
pub struct Route {
    /// The path of the RPC: `/package.Service/Method`.
    pub rpc: PathAndQuery,
    /// The backend that serves the RPC.
    pub backend: Backend,
    /// The type of the request message.
    pub input: MessageDescriptor,
    /// The type of the response message.
    pub output: MessageDescriptor,
    /// The fields that the path sets.
    pub variables: Vec<PathVariable>,
    /// The part of the request message that the body contains.
    pub body: BodyRule,
    /// Whether the body may be a form.
    pub forms: Forms,
    /// The field of the response message that is the body of the HTTP response; `None` for the whole message.
    pub response_body: Option<FieldDescriptor>,
    /// Writes the body of the HTTP response.
    pub writer: MessageWriter,
    /// The number of the field of the response message that contains its entity tag.
    pub etag: Option<u32>,
    /// The `update_mask` field, if the route is a PATCH whose mask can be derived from the body.
    pub mask: Option<FieldDescriptor>,
    /// Whether the RPC has no side effects.
    pub is_read: bool,
    /// Whether the RPC returns a stream.
    pub is_server_streaming: bool,
    /// The fields with which a stream is resumed: the field of the request, and the number of the field that contains
    /// its next value in each message of the stream.
    pub resume: Option<(FieldDescriptor, u32)>,
    /// The field of the requests that contains a part of the body, if the RPC receives a file.
    pub upload: Option<FieldDescriptor>,
    /// The fields of the parts of a file, if the RPC returns one.
    pub file: Option<FileFields>,
    /// The metrics of the binding.
    pub metrics: Arc<RouteMetrics>,
}

/// Whether the body of a request may be a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forms {
    /// It must be JSON.
    Refused,
    /// It may be either, as in OAuth (RFC 7662, section 2.1). Only for RPCs without side effects: browsers send forms to other
    /// origins without a CORS preflight.
    Accepted,
    /// It must be a form, because the RPC is an endpoint of OAuth 2.0. Such endpoints may have side effects: they do not use
    /// cookies, so other origins cannot do harm.
    OAuth,
}

/// The numbers of the fields in the messages of a stream that is a file.
#[derive(Clone, Copy, Debug)]
pub struct FileFields {
    /// The next bytes of the file.
    pub content: u32,
    /// The media type, in the first message.
    pub content_type: u32,
    /// The name of the file, in the first message.
    pub file_name: u32,
}

/// The name of the string field with which a stream is resumed, in the request and in the messages of the stream.
const RESUME_FIELD: &str = "sync_token";

/// A variable of the path and the field that it sets.
#[derive(Debug)]
pub struct PathVariable {
    /// The position in the path.
    pub variable: Variable,
    /// The field.
    pub field: FieldPath,
}

/// The part of the request message that the body of an HTTP request contains.
#[derive(Debug)]
pub enum BodyRule {
    /// There is no body.
    None,
    /// The whole request message.
    Whole,
    /// This field of the request message.
    Field(FieldDescriptor),
}

/// Builds the router for every RPC in `pool` that has a binding. Client-streaming RPCs are skipped, since HTTP/JSON
/// cannot represent them, except those that receive a file.
///
/// # Errors
/// If a binding is invalid, two bindings have the same method and path, or no backend serves the package of an RPC.
pub fn compile(pool: &DescriptorPool, backends: &[Backend]) -> anyhow::Result<Router<Route>> {
    let mut router = Router::default();
    let types = Types::new(pool);
    for service in pool.services() {
        for method in service.methods() {
            let name = method.full_name();
            for rule in rules(&method).with_context(|| format!("the http option of {name}"))? {
                if !is_representable(&method, &rule) {
                    continue;
                }
                let backend = backends.iter().find(|backend| backend.serves(service.full_name()));
                let backend = backend.with_context(|| format!("no backend serves {name}"))?;
                bind(&mut router, &types, &method, backend, &rule)
                    .with_context(|| format!("the http option of {name}"))?;
            }
        }
    }
    Ok(router)
}

/// Returns the `google.api.HttpRule` of an RPC and its additional bindings.
pub(crate) fn rules(method: &MethodDescriptor) -> anyhow::Result<Vec<DynamicMessage>> {
    let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else {
        return Ok(Vec::new());
    };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let rule = options.get_extension(&extension).as_message().context("is not a message")?.clone();
    let mut rules = additional_bindings(&rule)?;
    for additional_rule in &rules {
        ensure!(additional_bindings(additional_rule)?.is_empty(), "an additional binding has additional bindings");
    }
    rules.insert(0, rule);
    Ok(rules)
}

fn additional_bindings(rule: &DynamicMessage) -> anyhow::Result<Vec<DynamicMessage>> {
    let field = rule.get_field_by_name("additional_bindings").context("has no additional_bindings")?;
    Ok(field.as_list().unwrap_or_default().iter().filter_map(|rule| rule.as_message().cloned()).collect())
}

fn bind(
    router: &mut Router<Route>,
    types: &Arc<Types>,
    method: &MethodDescriptor,
    backend: &Backend,
    rule: &DynamicMessage,
) -> anyhow::Result<()> {
    let (http_method, path) = pattern(rule)?;
    let template: Template = path.parse().with_context(|| format!("the path {path}"))?;
    let (input, output) = (method.input(), method.output());
    let (body, response_body) = (body(rule, &input)?, response_body(rule, &output)?);
    let mask = input.get_field_by_name("update_mask").filter(|field| {
        let is_mask =
            field.kind().as_message().is_some_and(|message| message.full_name() == "google.protobuf.FieldMask");
        is_mask && http_method == MethodPattern::Only(Method::PATCH) && matches!(body, BodyRule::Field(_))
    });
    let resume = string_field(&input, RESUME_FIELD)
        .zip(string_field(&output, RESUME_FIELD))
        .filter(|_| method.is_server_streaming())
        .map(|(request, response)| (request, response.number()));
    let writer = MessageWriter::new(types, &output, response_body.as_ref()).context("the response type is unknown")?;
    let file = file_fields(method, response_body.as_ref());
    let upload = upload_field(method, &body).cloned();
    let route = Route {
        rpc: format!("/{}/{}", method.parent_service().full_name(), method.name()).parse()?,
        backend: backend.clone(),
        variables: variables(&template, &input)?,
        etag: etag_field(&output).map(|field| field.number()),
        input,
        output,
        forms: forms(method, &body),
        body,
        response_body,
        writer,
        mask,
        is_read: has_no_side_effects(method),
        is_server_streaming: method.is_server_streaming(),
        resume,
        upload,
        file,
        metrics: RouteMetrics::new(http_method.name(), &path),
    };
    router.bind(http_method, &template, route).with_context(|| format!("the path {path}"))
}

/// Returns the body rule of an `HttpRule`.
pub(crate) fn body(rule: &DynamicMessage, input: &MessageDescriptor) -> anyhow::Result<BodyRule> {
    Ok(match string_value(rule, "body").as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::Whole,
        name => {
            BodyRule::Field(input.get_field_by_name(name).with_context(|| format!("no field {name} for the body"))?)
        }
    })
}

/// Returns the field that is the body of the HTTP response according to an `HttpRule`.
pub(crate) fn response_body(
    rule: &DynamicMessage,
    output: &MessageDescriptor,
) -> anyhow::Result<Option<FieldDescriptor>> {
    Ok(match string_value(rule, "response_body").as_str() {
        "" => None,
        name => Some(output.get_field_by_name(name).with_context(|| format!("no field {name} for response_body"))?),
    })
}

/// Reports whether HTTP can represent an RPC by this rule.
pub(crate) fn is_representable(method: &MethodDescriptor, rule: &DynamicMessage) -> bool {
    let is_upload = || body(rule, &method.input()).is_ok_and(|body| upload_field(method, &body).is_some());
    !method.is_client_streaming() || is_upload()
}

/// Returns the field with the parts of a file, if the RPC receives one: a stream of requests whose body is bytes.
pub(crate) fn upload_field<'b>(method: &MethodDescriptor, body: &'b BodyRule) -> Option<&'b FieldDescriptor> {
    let is_upload = method.is_client_streaming() && !method.is_server_streaming();
    match body {
        BodyRule::Field(field) if is_upload && field.kind() == Kind::Bytes => Some(field),
        _ => None,
    }
}

/// Returns the fields of the parts of a file, if the RPC returns one: a stream whose response body is bytes.
pub(crate) fn file_fields(method: &MethodDescriptor, response_body: Option<&FieldDescriptor>) -> Option<FileFields> {
    let content = response_body.filter(|field| method.is_server_streaming() && field.kind() == Kind::Bytes)?.number();
    let field = |name| string_field(&method.output(), name).map(|field| field.number());
    Some(FileFields { content, content_type: field("content_type")?, file_name: field("file_name")? })
}

/// Returns whether the body of an RPC may be a form.
pub(crate) fn forms(method: &MethodDescriptor, body: &BodyRule) -> Forms {
    if is_oauth(method) {
        Forms::OAuth
    } else if matches!(body, BodyRule::Whole) && has_no_side_effects(method) {
        Forms::Accepted
    } else {
        Forms::Refused
    }
}

/// Reports whether an RPC has no side effects, according to its `idempotency_level`.
#[must_use]
pub fn has_no_side_effects(method: &MethodDescriptor) -> bool {
    let level = method.method_descriptor_proto().options.as_ref().map(MethodOptions::idempotency_level);
    level == Some(IdempotencyLevel::NoSideEffects)
}

/// The service whose RPCs are endpoints of OAuth 2.0.
const OAUTH_SERVICE: &str = "taskey.auth.v1.OAuthService";

/// Reports whether an RPC is an endpoint of OAuth 2.0.
pub(crate) fn is_oauth(method: &MethodDescriptor) -> bool {
    method.parent_service().full_name() == OAUTH_SERVICE
}

/// Returns the field of a message that contains its entity tag.
pub(crate) fn etag_field(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    string_field(message, "etag")
}

fn string_field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).filter(|field| field.kind() == Kind::String && !field.is_list())
}

/// Returns the method and the path template of an `HttpRule`.
pub(crate) fn pattern(rule: &DynamicMessage) -> anyhow::Result<(MethodPattern, String)> {
    let methods = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    for (name, method) in methods {
        if rule.has_field_by_name(name) {
            return Ok((MethodPattern::Only(method), string_value(rule, name)));
        }
    }
    if !rule.has_field_by_name("custom") {
        bail!("has no method");
    }
    let field = rule.get_field_by_name("custom");
    let custom = field.as_ref().and_then(|custom| custom.as_message()).context("custom is not a message")?;
    let method = match string_value(custom, "kind").as_str() {
        "*" => MethodPattern::Any,
        kind => MethodPattern::Only(Method::from_bytes(kind.as_bytes()).with_context(|| format!("method {kind}"))?),
    };
    Ok((method, string_value(custom, "path")))
}

fn string_value(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.as_ref().and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}

/// Resolves the variables of a path template to fields of the request message.
pub(crate) fn variables(template: &Template, input: &MessageDescriptor) -> anyhow::Result<Vec<PathVariable>> {
    let mut variables: Vec<PathVariable> = Vec::new();
    for variable in &template.variables {
        let name = &variable.field;
        let field = FieldPath::find(input, name, MAX_TEMPLATE_DEPTH);
        let field = field.map_err(|error| anyhow::anyhow!("the variable {name} {error}"))?;
        ensure!(!field.last().is_list(), "the variable {name} is repeated");
        ensure!(variables.iter().all(|other| other.field.name() != field.name()), "the variable {name} is duplicated");
        variables.push(PathVariable { variable: variable.clone(), field });
    }
    Ok(variables)
}

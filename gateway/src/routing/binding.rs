//! From `google.api.http` in the descriptors to a compiled router. There is no table of routes anywhere else.

use anyhow::{Context, bail, ensure};
use http::{Method, uri::PathAndQuery};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    prost_types::{MethodOptions, method_options::IdempotencyLevel},
};

use crate::{
    backend::Backend,
    codec::parameter::FieldPath,
    routing::{
        router::{MethodPattern, Router},
        template::{Template, Variable},
    },
};

/// No message of ours is nested deeper than a path template may reach.
const MAX_TEMPLATE_DEPTH: usize = 32;

/// One binding of an RPC.
#[derive(Debug)]
pub struct Route {
    /// The path of the RPC: `/package.Service/Method`.
    pub rpc: PathAndQuery,
    /// Who serves it.
    pub backend: Backend,
    /// The type of the request message.
    pub input: MessageDescriptor,
    /// The type of the response message.
    pub output: MessageDescriptor,
    /// What the path gives.
    pub variables: Vec<PathVariable>,
    /// What the body gives.
    pub body: BodyRule,
    /// Whether the body may be a form, as OAuth has it (RFC 7662, section 2.1). Only where nothing is changed: a
    /// browser sends forms to other sites without asking them.
    pub takes_form: bool,
    /// The field of the response that is the body of the answer; none: the whole response is.
    pub response_body: Option<FieldDescriptor>,
    /// The field that takes the mask of a PATCH.
    pub mask: Option<FieldDescriptor>,
    /// Whether it answers with a stream.
    pub streams: bool,
    /// Where a stream is taken up: the field of the request, and that of each message that gives the next value.
    pub resume: Option<(FieldDescriptor, FieldDescriptor)>,
}

/// A text of this name, in the request and in the messages of a stream, says where it is taken up.
const RESUME: &str = "sync_token";

/// A variable of the path and the field that it gives.
#[derive(Debug)]
pub struct PathVariable {
    /// Where in the path it is.
    pub variable: Variable,
    /// The field.
    pub field: FieldPath,
}

/// What the body of an HTTP request gives.
#[derive(Debug)]
pub enum BodyRule {
    /// There is none.
    None,
    /// The whole request message.
    Whole,
    /// This field of it.
    Field(FieldDescriptor),
}

/// Builds the router for every RPC in `pool` that has a binding. A client cannot stream over HTTP/JSON.
///
/// # Errors
/// If a binding is not right, two of them are for the same method and path, or no backend serves its package.
pub fn compile(pool: &DescriptorPool, backends: &[Backend]) -> anyhow::Result<Router<Route>> {
    let mut router = Router::default();
    for service in pool.services() {
        for method in service.methods() {
            if method.is_client_streaming() {
                continue;
            }
            let name = method.full_name();
            for rule in rules(&method).with_context(|| format!("the http option of {name}"))? {
                let backend = backends.iter().find(|backend| backend.serves(service.full_name()));
                let backend = backend.with_context(|| format!("no backend serves {name}"))?;
                bind(&mut router, &method, backend, &rule).with_context(|| format!("the http option of {name}"))?;
            }
        }
    }
    Ok(router)
}

/// The rules of an RPC: its own and its additional ones. Each is a `google.api.HttpRule`.
pub(crate) fn rules(method: &MethodDescriptor) -> anyhow::Result<Vec<DynamicMessage>> {
    let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else {
        return Ok(Vec::new());
    };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let rule = options.get_extension(&extension).as_message().context("is no message")?.clone();
    let mut rules = additional(&rule)?;
    for additional_rule in &rules {
        ensure!(additional(additional_rule)?.is_empty(), "an additional binding has additional bindings");
    }
    rules.insert(0, rule);
    Ok(rules)
}

fn additional(rule: &DynamicMessage) -> anyhow::Result<Vec<DynamicMessage>> {
    let field = rule.get_field_by_name("additional_bindings").context("has no additional_bindings")?;
    Ok(field.as_list().unwrap_or_default().iter().filter_map(|rule| rule.as_message().cloned()).collect())
}

fn bind(
    router: &mut Router<Route>,
    method: &MethodDescriptor,
    backend: &Backend,
    rule: &DynamicMessage,
) -> anyhow::Result<()> {
    let (http_method, path) = pattern(rule)?;
    let template: Template = path.parse().with_context(|| format!("the path {path}"))?;
    let (input, output) = (method.input(), method.output());
    let (body, response_body) = (body(rule, &input)?, response_body(rule, &output)?);
    let mask = input.get_field_by_name("update_mask").filter(|field| {
        let is_mask = field.kind().as_message().is_some_and(|of| of.full_name() == "google.protobuf.FieldMask");
        is_mask && http_method == MethodPattern::Only(Method::PATCH) && matches!(body, BodyRule::Field(_))
    });
    let resume = text_field(&input, RESUME).zip(text_field(&output, RESUME)).filter(|_| method.is_server_streaming());
    let route = Route {
        rpc: format!("/{}/{}", method.parent_service().full_name(), method.name()).parse()?,
        backend: backend.clone(),
        variables: variables(&template, &input)?,
        input,
        output,
        takes_form: takes_form(method, &body),
        body,
        response_body,
        mask,
        streams: method.is_server_streaming(),
        resume,
    };
    router.bind(http_method, &template, route).with_context(|| format!("the path {path}"))
}

/// What the body gives, as a rule says.
pub(crate) fn body(rule: &DynamicMessage, input: &MessageDescriptor) -> anyhow::Result<BodyRule> {
    Ok(match text(rule, "body").as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::Whole,
        name => {
            BodyRule::Field(input.get_field_by_name(name).with_context(|| format!("no field {name} for the body"))?)
        }
    })
}

/// The field that is the body of the answer, as a rule says.
pub(crate) fn response_body(
    rule: &DynamicMessage,
    output: &MessageDescriptor,
) -> anyhow::Result<Option<FieldDescriptor>> {
    Ok(match text(rule, "response_body").as_str() {
        "" => None,
        name => Some(output.get_field_by_name(name).with_context(|| format!("no field {name} for response_body"))?),
    })
}

/// See [`Route::takes_form`].
pub(crate) fn takes_form(method: &MethodDescriptor, body: &BodyRule) -> bool {
    let level = method.method_descriptor_proto().options.as_ref().map(MethodOptions::idempotency_level);
    matches!(body, BodyRule::Whole) && level == Some(IdempotencyLevel::NoSideEffects)
}

fn text_field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).filter(|field| field.kind() == Kind::String && !field.is_list())
}

/// The method and the path template of a rule.
pub(crate) fn pattern(rule: &DynamicMessage) -> anyhow::Result<(MethodPattern, String)> {
    let named = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    for (name, method) in named {
        if rule.has_field_by_name(name) {
            return Ok((MethodPattern::Only(method), text(rule, name)));
        }
    }
    if !rule.has_field_by_name("custom") {
        bail!("has no method");
    }
    let field = rule.get_field_by_name("custom");
    let custom = field.as_ref().and_then(|custom| custom.as_message()).context("custom is no message")?;
    let method = match text(custom, "kind").as_str() {
        "*" => MethodPattern::Any,
        kind => MethodPattern::Only(Method::from_bytes(kind.as_bytes()).with_context(|| format!("method {kind}"))?),
    };
    Ok((method, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.as_ref().and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}

/// The variables of a path template and their fields.
pub(crate) fn variables(template: &Template, input: &MessageDescriptor) -> anyhow::Result<Vec<PathVariable>> {
    let mut variables: Vec<PathVariable> = Vec::new();
    for variable in &template.variables {
        let name = &variable.field;
        let field = FieldPath::find(input, name, MAX_TEMPLATE_DEPTH);
        let field = field.map_err(|why| anyhow::anyhow!("the variable {name} {why}"))?;
        ensure!(!field.last().is_list(), "the variable {name} is repeated");
        ensure!(variables.iter().all(|other| other.field.name() != field.name()), "the variable {name} stands twice");
        variables.push(PathVariable { variable: variable.clone(), field });
    }
    Ok(variables)
}

//! The bindings of RPCs as OpenAPI describes them.
//!
//! OpenAPI path templates have no variables of several segments, so each wildcard gets its own name. `/a/{x}` and
//! `/a/{y}` are the same path in OpenAPI, so the names of the first binding are used for all.

use std::collections::HashMap;

use http::Method;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MethodDescriptor};
use taskey_proto::errors::v1::ErrorReason;

use super::contract::{self, DocumentedError};
use crate::{
    routing::{
        binding::{self, BodyRule, PathVariable},
        router::MethodPattern,
        template::{Segment, Template},
    },
    semantics,
    session::cookie_mode,
};

/// The HTTP methods that the document describes, with their keys in a Path Item Object.
const VERBS: [(Method, &str); 5] = [
    (Method::GET, "get"),
    (Method::PUT, "put"),
    (Method::POST, "post"),
    (Method::DELETE, "delete"),
    (Method::PATCH, "patch"),
];

/// The properties of a binding that its description needs.
#[derive(Debug)]
pub struct Binding {
    /// The RPC.
    pub method: MethodDescriptor,
    /// The index of the binding among those of the RPC.
    pub index: usize,
    /// The HTTP method in lower case.
    pub verb: &'static str,
    /// The OpenAPI path template.
    pub path: String,
    /// The parameters of the path.
    pub path_parameters: Vec<PathParameter>,
    /// The proto names of the fields that are bound to the path.
    pub path_fields: Vec<String>,
    /// The fields that are in the request body.
    pub body: BodyRule,
    /// The field that is the response body, or `None` if it is the whole message.
    pub response_body: Option<FieldDescriptor>,
}

/// Whether callers of an RPC authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The RPC ignores access tokens.
    None,
    /// The RPC can be called without an access token, but uses one if it is sent.
    Optional,
    /// The RPC requires an access token.
    Required,
}

impl Binding {
    /// Creates a binding from a `google.api.HttpRule`, or returns `None` if its HTTP method is not described.
    ///
    /// # Errors
    /// If the rule is invalid.
    pub fn from_rule(
        method: &MethodDescriptor,
        rule: &DynamicMessage,
        index: usize,
        paths: &mut Paths,
    ) -> anyhow::Result<Option<Self>> {
        let (pattern, template) = binding::pattern(rule)?;
        let verb = VERBS.into_iter().find(|(verb, _)| pattern == MethodPattern::Only(verb.clone()));
        let Some((_, verb)) = verb else { return Ok(None) };
        let template: Template = template.parse()?;
        let variables = binding::variables(&template, &method.input())?;
        let (path, path_parameters) = paths.add(&template, &variables);
        Ok(Some(Self {
            method: method.clone(),
            index,
            verb,
            path,
            path_parameters,
            path_fields: variables.iter().map(|variable| variable.field.name()).collect(),
            body: binding::body(rule, &method.input())?,
            response_body: binding::response_body(rule, &method.output())?,
        }))
    }

    /// Reports whether `If-Match` can be used: the request, or an existing resource in its body, has an etag.
    #[must_use]
    pub fn accepts_if_match(&self) -> bool {
        let is_in_body = match &self.body {
            BodyRule::Field(field) if !field.is_list() => match field.kind() {
                Kind::Message(message) => binding::etag_field(&message).is_some() && !creates_resource(self.verb),
                _ => false,
            },
            _ => false,
        };
        is_in_body || binding::etag_field(&self.method.input()).is_some()
    }

    /// Reports whether a client can ask for a response without a body.
    #[must_use]
    pub fn can_omit_response_body(&self) -> bool {
        let method = VERBS.into_iter().find_map(|(method, verb)| (verb == self.verb).then_some(method));
        let output = self.method.output();
        method.is_some_and(|method| semantics::may_be_minimal(&method, &output, self.response_body.as_ref()))
    }

    /// Reports whether the response is a file.
    #[must_use]
    pub fn returns_file(&self) -> bool {
        binding::file_fields(&self.method, self.response_body.as_ref()).is_some()
    }

    /// Reports whether this is an RPC that can return its tokens in cookies: a login or a refresh.
    #[must_use]
    pub fn returns_tokens(&self) -> bool {
        let path = format!("/{}/{}", self.method.parent_service().full_name(), self.method.name());
        cookie_mode::LOGINS.contains(&path.as_str()) || path == cookie_mode::REFRESH
    }

    /// Returns whether callers authenticate.
    #[must_use]
    pub fn authentication(&self, errors: &[DocumentedError]) -> Authentication {
        if !contract::is_public(&self.method) {
            Authentication::Required
        } else if errors.iter().any(|error| error.reason == ErrorReason::TokenMissing) {
            Authentication::Optional
        } else {
            Authentication::None
        }
    }
}

/// Reports whether a request with a resource in its body creates it. A new resource has no etag to match.
fn creates_resource(verb: &str) -> bool {
    verb == "post"
}

/// The paths that are already described.
#[derive(Debug, Default)]
pub struct Paths {
    /// The names of the wildcards, by the path with blank names.
    names: HashMap<String, Vec<String>>,
}

/// A parameter of a path.
#[derive(Debug)]
pub struct PathParameter {
    /// The name in the path template.
    pub name: String,
    /// The field of the parameter, or `None` if the parameter is only part of a field or is bound to none.
    pub field: Option<FieldDescriptor>,
}

impl Paths {
    /// Returns the OpenAPI path template and its parameters from left to right.
    pub fn add(&mut self, template: &Template, variables: &[PathVariable]) -> (String, Vec<PathParameter>) {
        let wildcards = wildcards(template, variables);
        let (fields, names): (Vec<_>, Vec<_>) = wildcards.into_iter().unzip();
        let blanks = vec![String::new(); names.len()];
        let names = self.names.entry(format_path(template, &blanks)).or_insert_with(|| shorten(&names)).clone();
        let path = format_path(template, &names);
        (path, names.into_iter().zip(fields).map(|(name, field)| PathParameter { name, field }).collect())
    }
}

/// Shortens each name to its last part if that is unique: `task.id` becomes `id`.
fn shorten(names: &[String]) -> Vec<String> {
    let last_part = |name: &String| name.rsplit('.').next().unwrap_or_default().to_owned();
    let is_unique = |name: &String| names.iter().filter(|other| last_part(other) == last_part(name)).count() == 1;
    names.iter().map(|name| if is_unique(name) { last_part(name) } else { name.clone() }).collect()
}

/// Returns the field and the full name of each wildcard.
fn wildcards(template: &Template, variables: &[PathVariable]) -> Vec<(Option<FieldDescriptor>, String)> {
    let is_wildcard = |segment: &Segment| !matches!(segment, Segment::Literal(_));
    let wildcards = template.segments.iter().enumerate().filter(|(_, segment)| is_wildcard(segment));
    wildcards
        .map(|(index, _)| {
            let enclosing = variables.iter().find(|PathVariable { variable, .. }| {
                variable.start <= index && variable.end.is_none_or(|end| index < end)
            });
            let Some(PathVariable { variable, field }) = enclosing else {
                return (None, format!("segment{}", index + 1));
            };
            let end = variable.end.unwrap_or(template.segments.len());
            if end - variable.start == 1 {
                return (Some(field.last().clone()), field.json_name());
            }
            let preceding =
                template.segments[variable.start..index].iter().filter(|segment| is_wildcard(segment)).count();
            (None, format!("{}{}", field.json_name(), preceding + 1))
        })
        .collect()
}

fn format_path(template: &Template, names: &[String]) -> String {
    let mut names = names.iter();
    let mut path = String::new();
    for segment in &template.segments {
        path.push('/');
        match segment {
            Segment::Literal(text) => path.push_str(text),
            Segment::Any | Segment::Rest => {
                path.push('{');
                path.push_str(names.next().map_or("", String::as_str));
                path.push('}');
            }
        }
    }
    if !template.verb.is_empty() {
        path.push(':');
        path.push_str(&template.verb);
    }
    path
}

//! What OpenAPI needs to know about a binding of an RPC.

use http::Method;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MethodDescriptor};
use taskey_proto::errors::v1::ErrorReason;

use super::{
    errors::DocumentedError,
    options,
    path::{PathParameter, Paths},
};
use crate::{
    routing::{
        binding::{self, BodyRule},
        router::MethodPattern,
        template::Template,
    },
    semantics::{etag, preference},
    session::cookie_mode,
};

/// The methods that OpenAPI 3.1 knows.
const VERBS: [(Method, &str); 5] = [
    (Method::GET, "get"),
    (Method::PUT, "put"),
    (Method::POST, "post"),
    (Method::DELETE, "delete"),
    (Method::PATCH, "patch"),
];

/// A binding of an RPC, as far as it concerns its description.
#[derive(Debug)]
pub struct Binding {
    /// The RPC.
    pub method: MethodDescriptor,
    /// Which of its bindings it is.
    pub index: usize,
    /// The HTTP method in lower case.
    pub verb: &'static str,
    /// The path as OpenAPI writes it.
    pub path: String,
    /// The parameters of the path.
    pub parameters: Vec<PathParameter>,
    /// The fields that the path gives, in the spelling of the proto.
    pub in_path: Vec<String>,
    /// What the body gives.
    pub body: BodyRule,
    /// The field that is answered, if it is not all of them.
    pub response_body: Option<FieldDescriptor>,
}

/// Who may call an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// Anyone, but a token means something.
    Optional,
    /// Who has a token.
    Token,
}

impl Binding {
    /// Reads a rule; none if its method is not one that OpenAPI 3.1 knows.
    ///
    /// # Errors
    /// If the rule is not right.
    pub fn read(
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
        let (path, parameters) = paths.place(&template, &variables);
        Ok(Some(Self {
            method: method.clone(),
            index,
            verb,
            path,
            parameters,
            in_path: variables.iter().map(|variable| variable.field.name()).collect(),
            body: binding::body(rule, &method.input())?,
            response_body: binding::response_body(rule, &method.output())?,
        }))
    }

    /// Whether `If-Match` means something: the request, or the resource in its body, has an etag.
    #[must_use]
    pub fn takes_if_match(&self) -> bool {
        let in_body = match &self.body {
            BodyRule::Field(field) if !field.is_list() => match field.kind() {
                Kind::Message(of) => etag::tag_field(&of).is_some() && !is_made(self.verb),
                _ => false,
            },
            _ => false,
        };
        in_body || etag::tag_field(&self.method.input()).is_some()
    }

    /// Whether a client may go without the body of the answer.
    #[must_use]
    pub fn may_be_minimal(&self) -> bool {
        let method = VERBS.into_iter().find_map(|(method, verb)| (verb == self.verb).then_some(method));
        let output = self.method.output();
        method.is_some_and(|method| preference::may_be_minimal(&method, &output, self.response_body.as_ref()))
    }

    /// Whether the tokens that it answers may be kept in cookies.
    #[must_use]
    pub fn is_login(&self) -> bool {
        cookie_mode::LOGIN.strip_prefix('/').and_then(|login| login.split_once('/'))
            == Some((self.method.parent_service().full_name(), self.method.name()))
    }

    /// Returns who may call it.
    #[must_use]
    pub fn access(&self, errors: &[DocumentedError]) -> Access {
        if !options::is_public(&self.method) {
            Access::Token
        } else if errors.iter().any(|error| error.reason == ErrorReason::TokenMissing) {
            Access::Optional
        } else {
            Access::Open
        }
    }
}

/// What is made by a request has no version yet.
fn is_made(verb: &str) -> bool {
    verb == "post"
}

//! Calls to any RPC, over gRPC and over HTTP, with arbitrary texts.

use std::borrow::Cow;

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value, prost::Message};

/// An RPC with its HTTP binding.
pub struct Rpc {
    /// `/package.Service/Method`.
    pub path: String,
    input: MessageDescriptor,
    verb: String,
    template: String,
    body: String,
}

/// An HTTP request.
pub struct Http {
    pub verb: String,
    pub path: String,
    pub body: Vec<u8>,
}

impl Rpc {
    /// Returns all RPCs of the contract with one response.
    pub fn all() -> Vec<Self> {
        let methods = crate::end_to_end::every_rpc::methods();
        methods.iter().filter(|method| !method.is_server_streaming()).map(Self::new).collect()
    }

    fn new(method: &MethodDescriptor) -> Self {
        let http =
            method.parent_pool().get_extension_by_name("google.api.http").expect("the contract has HTTP bindings");
        let options = method.options();
        let rule = options.get_extension(&http);
        let rule = rule.as_message().expect("a rule");
        let text = |name| rule.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned));
        let verbs = ["get", "post", "put", "patch", "delete"].into_iter();
        let (verb, template) = verbs
            .filter_map(|verb| text(verb).map(|path| (verb, path)))
            .find(|(_, path)| !path.is_empty())
            .expect("a verb");
        Self {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            input: method.input(),
            verb: verb.to_uppercase(),
            template,
            body: text("body").unwrap_or_default(),
        }
    }

    /// Reports whether the request contains the caller's current password.
    pub fn takes_password(&self) -> bool {
        self.input.get_field_by_name("current_password").is_some()
    }

    /// Returns the encoded request with these texts in its fields, by field name.
    pub fn message(&self, texts: &dyn Fn(&str) -> Option<String>) -> Vec<u8> {
        fill(&self.input, texts).encode_to_vec()
    }

    /// Returns the same request over HTTP.
    pub fn http(&self, texts: &dyn Fn(&str) -> Option<String>) -> Http {
        let mut message = fill(&self.input, texts);
        let mut path = String::new();
        let mut rest = self.template.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (variable, after) = after.split_once('}').expect("the variable is closed");
            let name = variable.rsplit('.').next().expect("a name");
            path += before;
            path += &percent_encode(&texts(name).unwrap_or_else(|| "x".to_owned()));
            if !variable.contains('.') {
                message.clear_field_by_name(variable);
            }
            rest = after;
        }
        path += rest;
        let field = message.get_field_by_name(&self.body).map(Cow::into_owned);
        let body = match (self.body.as_str(), field) {
            ("*", _) => serde_json::to_vec(&message).expect("JSON"),
            (_, Some(Value::Message(field))) => serde_json::to_vec(&field).expect("JSON"),
            (_, file) => {
                path += &query(&message);
                file.as_ref().and_then(Value::as_bytes).map(|file| file.to_vec()).unwrap_or_default()
            }
        };
        Http { verb: self.verb.clone(), path, body }
    }
}

/// Returns the query with the texts and enum values of a message.
fn query(message: &DynamicMessage) -> String {
    let parameters: Vec<_> = message
        .fields()
        .filter_map(|(field, value)| {
            let value = match value {
                Value::String(text) => percent_encode(text),
                Value::EnumNumber(number) => number.to_string(),
                _ => return None,
            };
            Some(format!("{}={value}", field.json_name()))
        })
        .collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

fn fill(descriptor: &MessageDescriptor, texts: &dyn Fn(&str) -> Option<String>) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let value = match field.kind() {
            Kind::String => texts(field.name()).map(Value::String),
            Kind::Bytes => texts(field.name()).map(|text| Value::Bytes(text.into())),
            Kind::Enum(_) => texts(field.name()).and_then(|number| number.parse().ok()).map(Value::EnumNumber),
            Kind::Message(inner) if inner.full_name() == "google.protobuf.Timestamp" => {
                // Secrets are in fields of other types only.
                texts(field.name()).and_then(|seconds| seconds.parse().ok()).map(|seconds| {
                    let mut time = DynamicMessage::new(inner);
                    time.set_field_by_name("seconds", Value::I64(seconds));
                    Value::Message(time)
                })
            }
            Kind::Message(inner) if inner.full_name().starts_with("taskey.") => {
                Some(Value::Message(fill(&inner, texts)))
            }
            _ => None,
        };
        match value {
            Some(value) if field.is_list() => message.set_field(&field, Value::List(vec![value])),
            Some(value) => message.set_field(&field, value),
            None => {}
        }
    }
    message
}

/// Percent-encodes a text.
pub fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

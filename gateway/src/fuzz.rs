//! Properties that must hold for every input. The fuzz targets in `fuzz/` search for inputs that violate them; the
//! tests check the inputs in the corpora.

use std::sync::Arc;

use clap::Parser;
use http::{Method, Uri};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::Value;
use service_kit::{ops::config::LimitArgs, status::ApiError, tls::Dialer};
use tonic::{Code, Status};

use crate::{
    backend::Backend,
    codec::{json::Json, message, message_writer::MessageWriter, reference::MessageJson, types::Types},
    connection::ConnectionArgs,
    http::request::{Format, Input, JsonLimits, to_message},
    quota::Quota,
    routing::{
        binding::{self, Forms, Route},
        router::{MethodPattern, Router},
        template::{Segment, Template},
    },
};

const LIMITS: JsonLimits = JsonLimits { max_bytes: 256 * 1024, max_depth: 32 };

/// Maximum depth for parsing serialized JSON, which may be nested deeper than a request: each message may add a list.
const MAX_OUTPUT_DEPTH: usize = 100;

/// Maximum size of an error. Errors are sent in headers, and clients limit the size of those.
const MAX_ERROR_BYTES: usize = 4096;

/// The flags of the connections to the backends, which are never opened.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    limits: LimitArgs,
}

/// The bindings of the contract and of additional files.
#[derive(Debug)]
pub struct Transcoder {
    pool: DescriptorPool,
    types: Arc<Types>,
    router: Router<Route>,
}

impl Transcoder {
    /// Creates a transcoder for the contract and an encoded `FileDescriptorSet`, which includes its imports.
    #[must_use]
    pub fn new(files: &[u8]) -> Self {
        let mut pool = DescriptorPool::decode(files).expect("the descriptors are valid");
        pool.decode_file_descriptor_set(taskey_proto::FILE_DESCRIPTOR_SET).expect("the contract is valid");
        let args = ConnectionArgs { dialer: Dialer::plaintext(), limits: Flags::parse_from(["fuzz"]).limits };
        let backends = ["taskey", "test"].map(|package| {
            Backend::new(package, package, [Uri::from_static("http://[::1]:1")], &args, &Quota::of_bytes())
        });
        let router = binding::compile(&pool, &backends).expect("the bindings are valid");
        Self { types: Types::new(&pool), pool, router }
    }

    /// Interprets bytes as a request: method, space, path and query, line feed, body. If the request is valid, its
    /// message must be unchanged after encoding and decoding, and after serializing to JSON and parsing.
    pub fn request(&self, data: &[u8]) {
        let mut parts = data.splitn(2, |byte| *byte == b'\n');
        let (line, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Some((method, target)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else {
            return;
        };
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Ok(matched) = self.router.find(&method, path) else { return };
        // A body that is not a JSON object is a form if the route accepts forms.
        let format = if matched.target.forms == Forms::Accepted && !body.starts_with(b"{") {
            Format::Form
        } else {
            Format::Json
        };
        match to_message(matched.target, Input { segments: &matched.segments, query, body, format }, LIMITS) {
            Ok((message, _)) => {
                let encoded = message.encode_to_vec();
                let decoded = DynamicMessage::decode(message.descriptor(), &encoded[..])
                    .expect("an encoded message can be decoded");
                assert_same(&decoded, &message);
                if let Some(json) = to_json(&message).filter(|_| !is_lossy(&message)) {
                    let parsed = parse_json(&message.descriptor(), &json);
                    assert_same(&parsed.unwrap_or_else(|error| panic!("{error}: {json}")), &message);
                }
            }
            Err(error) => check_error(error),
        }
    }

    /// Interprets bytes as a response of a backend: the name of a message, line feed, the message. Its JSON must be that
    /// of the decoded message. If it can be parsed, serializing it again must return the same JSON.
    pub fn response(&self, data: &[u8]) {
        let mut parts = data.splitn(2, |byte| *byte == b'\n');
        let (name, encoded) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let descriptor = std::str::from_utf8(name).ok().and_then(|name| self.pool.get_message_by_name(name));
        let Some(descriptor) = &descriptor else { return };
        let writer = MessageWriter::new(&self.types, descriptor, None).expect("all types are prepared");
        let json = writer.to_json(encoded).ok().map(|json| String::from_utf8(json).expect("JSON is UTF-8"));
        let message = DynamicMessage::decode(descriptor.clone(), encoded).ok();
        let expected = message.as_ref().and_then(to_json);
        if let Some(message) = &message {
            assert_eq!(writer.to_json(&message.encode_to_vec()).is_ok(), expected.is_some());
        }
        // Malformed messages may be decoded: prost-reflect accepts maps of any wire type.
        let Some(json) = json else { return };
        assert_eq!(Some(&json), expected.as_ref());
        // JSON that is nested too deeply can be serialized but not parsed.
        let Ok(parsed) = parse_json(descriptor, &json) else { return };
        let again = to_json(&parsed).expect("an equal message has been serialized before");
        assert_eq!(parse_value(&again), parse_value(&json));
    }
}

/// Interprets two lines as a path template and a path. A template must match a path that is generated from it. If a
/// path matches, each variable must have a value.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(template) = template.parse::<Template>() else { return };
    let mut router = Router::default();
    router.bind(MethodPattern::Any, &template, ()).expect("nothing else is bound");
    let generated = matching_path(&template);
    for path in [&generated, path] {
        let Ok(matched) = router.find(&Method::GET, path) else {
            assert_ne!(path, &generated, "the template does not match its generated path");
            continue;
        };
        for variable in &template.variables {
            let value = variable.value(&matched.segments).expect("a matched path is percent-encoded UTF-8");
            let may_be_empty = variable.end.is_none();
            assert!(may_be_empty || !value.is_empty(), "{} is empty", variable.field);
        }
    }
}

/// Returns a path that the template must match.
fn matching_path(template: &Template) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let segments = template.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => encode(text),
        Segment::Any => "x".to_owned(),
        Segment::Rest => "x/y".to_owned(),
    });
    let path = segments.collect::<Vec<_>>().join("/");
    if template.verb.is_empty() { format!("/{path}") } else { format!("/{path}:{}", encode(&template.verb)) }
}

fn check_error(error: ApiError) {
    let status = Status::from(error);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().len() + status.details().len() <= MAX_ERROR_BYTES, "{}", status.message().len());
}

/// Serializes a message to JSON. Returns `None` if that is impossible: a path of a field mask may have no
/// lowerCamelCase form, and JSON has no NaN.
fn to_json(message: &DynamicMessage) -> Option<String> {
    serde_json::to_string(&MessageJson(message)).ok()
}

/// Reports whether serializing a message to JSON may lose information. The lowerCamelCase form of a field mask path
/// is not unique, and an `Any` may contain a field mask.
fn is_lossy(message: &DynamicMessage) -> bool {
    match message.descriptor().full_name() {
        "google.protobuf.Any" => true,
        "google.protobuf.FieldMask" => {
            let paths = message.get_field_by_number(1);
            let paths = paths.as_ref().and_then(|paths| paths.as_list()).unwrap_or_default();
            let parts = paths.iter().filter_map(|path| path.as_str()).flat_map(|path| path.split(['.', '_']));
            parts
                .into_iter()
                .any(|part| !part.starts_with(|first: char| first.is_ascii_lowercase()) || part.contains(','))
        }
        _ => message.fields().any(|(_, value)| contains_lossy_message(value)),
    }
}

fn contains_lossy_message(value: &prost_reflect::Value) -> bool {
    use prost_reflect::Value;
    match value {
        Value::Message(message) => is_lossy(message),
        Value::List(values) => values.iter().any(contains_lossy_message),
        Value::Map(values) => values.values().any(contains_lossy_message),
        _ => false,
    }
}

fn parse_json(descriptor: &MessageDescriptor, json: &str) -> Result<DynamicMessage, String> {
    let json: Json = serde_json::from_str(json).map_err(|error| error.to_string())?;
    message::from_json(descriptor, &json, MAX_OUTPUT_DEPTH)
        .map_err(|violation| format!("{}: {}", violation.path, violation.description))
}

/// Asserts that two messages are equal. Messages with NaN, which does not equal itself, are compared as JSON.
#[track_caller]
fn assert_same(left: &DynamicMessage, right: &DynamicMessage) {
    if left != right {
        let [left, right] = [left, right].map(|message| to_json(message).as_deref().map(parse_value));
        assert_eq!(left, right);
    }
}

fn parse_value(json: &str) -> Value {
    serde_json::from_str(json).expect("the text is JSON")
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::LazyLock};

    use service_kit::testing::run_corpus;

    use super::*;

    static TRANSCODER: LazyLock<Transcoder> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../proto")]);
        let mut compiler = compiler.expect("the folders exist");
        compiler.include_imports(true).open_file("test/v1/echo.proto").expect("the file is valid");
        Transcoder::new(&compiler.encode_file_descriptor_set())
    });

    #[test]
    fn requests_of_the_corpus_pass() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/request"), |data| TRANSCODER.request(data));
    }

    #[test]
    fn responses_of_the_corpus_pass() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/response"), |data| TRANSCODER.response(data));
    }

    #[test]
    fn templates_of_the_corpus_pass() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/template"), template);
    }
}

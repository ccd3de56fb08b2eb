//! What must hold for any input. The targets in `fuzz/` look for one of which it does not hold; the
//! tests try what lies in their corpora.

use std::time::Duration;

use http::Method;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::Value;
use service_kit::status::ApiError;
use tonic::{Code, Status, transport::Endpoint};

use crate::{
    backend::{self, Backend, Streams},
    codec::{json::Json, message, write::MessageJson},
    http::request::{Format, Input, JsonLimits, to_message},
    routing::{
        binding::{self, Route},
        router::{MethodPattern, Router},
        template::{Segment, Template},
    },
};

const LIMITS: JsonLimits = JsonLimits { max_bytes: 64 * 1024, max_depth: 32 };

/// What is written may be nested deeper than what is read: a list of the message's own comes on top of each message.
const DEEP: usize = 100;

/// What a server sends of an error goes into headers, of which clients take no more than this.
const MAX_REFUSAL_BYTES: usize = 4096;

/// The bindings of the contract, and of further files.
#[derive(Debug)]
pub struct Transcoder {
    pool: DescriptorPool,
    router: Router<Route>,
}

impl Transcoder {
    /// Takes an encoded `FileDescriptorSet` beside the contract, with all that it imports.
    #[must_use]
    pub fn new(files: &[u8]) -> Self {
        let mut pool = DescriptorPool::decode(files).expect("descriptors");
        pool.decode_file_descriptor_set(taskey_proto::FILE_DESCRIPTOR_SET).expect("the contract");
        // A lazy connection wants a runtime, although it is never made.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _entered = runtime.enter();
        let connect = || backend::connect(&Endpoint::from_static("http://127.0.0.1:1"), Duration::MAX, Duration::MAX);
        let backends = ["taskey", "test"].map(|package| Backend {
            name: package,
            package,
            channel: connect(),
            streams: Streams::new(connect),
            forwarding: None,
            max_response_bytes: 0,
        });
        let router = binding::compile(&pool, &backends).expect("the bindings are right");
        Self { pool, router }
    }

    /// Takes any bytes for a request: method, a space, path and query, a line feed, body. If it makes a message, a
    /// backend reads the same message; what the gateway then writes it reads again.
    pub fn request(&self, data: &[u8]) {
        let mut parts = data.splitn(2, |byte| *byte == b'\n');
        let (line, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Some((method, target)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else {
            return;
        };
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Ok(found) = self.router.find(&method, path) else { return };
        // A body that is no JSON is taken for a form where one is taken.
        let format = if found.target.takes_form && !body.starts_with(b"{") { Format::Form } else { Format::Json };
        match to_message(found.target, Input { segments: &found.segments, query, body, format }, LIMITS) {
            Ok(message) => {
                let encoded = message.encode_to_vec();
                let read = DynamicMessage::decode(message.descriptor(), &encoded[..]).expect("it can be decoded");
                same(&read, &message);
                if let Some(json) = written(&message).filter(|_| !is_lossy(&message)) {
                    let again = read_json(&message.descriptor(), &json);
                    same(&again.unwrap_or_else(|error| panic!("{error}: {json}")), &message);
                }
            }
            Err(error) => judge_error(error),
        }
    }

    /// Takes any bytes for what a backend answers: the name of a message, a line feed, the message. What the gateway
    /// writes of it is JSON, and if it reads that again, it says the same.
    pub fn answer(&self, data: &[u8]) {
        let mut parts = data.splitn(2, |byte| *byte == b'\n');
        let (name, encoded) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let named = std::str::from_utf8(name).ok().and_then(|name| self.pool.get_message_by_name(name));
        let Some(of) = &named else { return };
        let Ok(message) = DynamicMessage::decode(of.clone(), encoded) else { return };
        let Some(json) = written(&message) else { return };
        // It reads less than it writes: not what is nested too deep.
        let Ok(read) = read_json(of, &json) else { return };
        let again = written(&read).expect("it has been written before");
        assert_eq!(value(&again), value(&json));
    }
}

/// Takes any two lines for a path template and a path. A template matches the path that is made of it, and whatever it
/// matches has a value for each of its variables.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(template) = template.parse::<Template>() else { return };
    let mut router = Router::default();
    router.bind(MethodPattern::Any, &template, ()).expect("nothing else is bound");
    let own = path_of(&template);
    for path in [&own, path] {
        let Ok(found) = router.find(&Method::GET, path) else {
            assert_ne!(path, &own, "it does not match its own path");
            continue;
        };
        for variable in &template.variables {
            // A path that is found is well encoded.
            let value = variable.value(&found.segments).expect("a value");
            let may_be_empty = variable.end.is_none();
            assert!(may_be_empty || !value.is_empty(), "{} is empty", variable.field);
        }
    }
}

/// A path that a template must match.
fn path_of(template: &Template) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let segments = template.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => encode(text),
        Segment::Any => "x".to_owned(),
        Segment::Rest => "x/y".to_owned(),
    });
    let path = segments.collect::<Vec<_>>().join("/");
    if template.verb.is_empty() { format!("/{path}") } else { format!("/{path}:{}", encode(&template.verb)) }
}

fn judge_error(error: ApiError) {
    let status = Status::from(error);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().len() + status.details().len() <= MAX_REFUSAL_BYTES, "{}", status.message().len());
}

/// The JSON of a message, unless it has none: a path of a field mask may have no other spelling, and JSON has no
/// numbers that are none.
fn written(message: &DynamicMessage) -> Option<String> {
    serde_json::to_string(&MessageJson(message)).ok()
}

/// Whether the JSON of a message may say less than the message: a field mask is written in lowerCamelCase, in which not
/// every path can be told from every other one; and any message may hold a field mask.
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
        _ => message.fields().any(|(_, value)| holds_lossy(value)),
    }
}

fn holds_lossy(value: &prost_reflect::Value) -> bool {
    use prost_reflect::Value;
    match value {
        Value::Message(message) => is_lossy(message),
        Value::List(values) => values.iter().any(holds_lossy),
        Value::Map(values) => values.values().any(holds_lossy),
        _ => false,
    }
}

fn read_json(of: &MessageDescriptor, json: &str) -> Result<DynamicMessage, String> {
    let json: Json = serde_json::from_str(json).map_err(|error| error.to_string())?;
    message::from_json(of, &json, DEEP).map_err(|violation| format!("{}: {}", violation.path, violation.description))
}

/// Asserts that two messages are the same. As JSON they are also if they hold a number that is none, which does not
/// equal itself.
#[track_caller]
fn same(one: &DynamicMessage, other: &DynamicMessage) {
    if one != other {
        let [one, other] = [one, other].map(|message| written(message).as_deref().map(value));
        assert_eq!(one, other);
    }
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::LazyLock};

    use service_kit::testing::feed;

    use super::*;

    static TRANSCODER: LazyLock<Transcoder> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../proto")]);
        let mut compiler = compiler.expect("folders");
        compiler.include_imports(true).open_file("test/v1/echo.proto").expect("a good file");
        Transcoder::new(&compiler.encode_file_descriptor_set())
    });

    #[test]
    fn the_corpus_of_requests_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/request"), |data| TRANSCODER.request(data));
    }

    #[test]
    fn the_corpus_of_answers_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/answer"), |data| TRANSCODER.answer(data));
    }

    #[test]
    fn the_corpus_of_templates_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/template"), template);
    }
}

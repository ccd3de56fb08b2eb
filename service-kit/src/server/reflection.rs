//! The reflection service, in the versions v1 and v1alpha. That of tonic-reflection ends the stream with NOT_FOUND at an
//! unknown name, although `reflection.proto` requires an `error_response` and an open stream. It also knows no
//! extensions, and repeats requests of up to 4 MiB.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use tonic::{Code, Request, Response, Status, Streaming, service::RoutesBuilder};
use tonic_reflection::pb::{
    v1::{
        self, ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
        ServerReflectionRequest, ServerReflectionResponse, ServiceResponse, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse, server_reflection_server::ServerReflectionServer,
    },
    v1alpha,
};

use super::descriptors::{BUILT_IN_SERVICES, FILE_DESCRIPTOR_SETS};

/// Maximum size of a request, which contains the name of a file or symbol. The response repeats it.
const MAX_REQUEST_BYTES: usize = 4 * 1024;

/// Adds both versions of the reflection service, which describe `services`: current clients use v1, older ones v1alpha.
///
/// # Errors
/// If the descriptors are invalid.
pub fn add_reflection<S: AsRef<str>>(routes: &mut RoutesBuilder, services: &[S]) -> anyhow::Result<()> {
    let services = services.iter().map(AsRef::as_ref).chain(BUILT_IN_SERVICES).map(str::to_owned).collect();
    let mut index = Index { services, ..Index::default() };
    for set in FILE_DESCRIPTOR_SETS {
        index.add_set(set)?;
    }
    let reflection = Reflection(Arc::new(index));
    let alpha = v1alpha::server_reflection_server::ServerReflectionServer::new(reflection.clone());
    routes.add_service(ServerReflectionServer::new(reflection).max_decoding_message_size(MAX_REQUEST_BYTES));
    routes.add_service(alpha.max_decoding_message_size(MAX_REQUEST_BYTES));
    Ok(())
}

/// A `FileDescriptorSet` whose files are not decoded, because prost drops the extension options when it decodes them.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// The descriptor files by what clients ask for.
#[derive(Default)]
struct Index {
    services: Vec<String>,
    by_name: BTreeMap<String, Arc<[u8]>>,
    by_symbol: BTreeMap<String, Arc<[u8]>>,
    /// By the full name of the extended message and the number of the extension.
    by_extension: BTreeMap<(String, i32), Arc<[u8]>>,
}

impl Index {
    fn add_set(&mut self, set: &[u8]) -> anyhow::Result<()> {
        for bytes in EncodedFiles::decode(set)?.files {
            let file = FileDescriptorProto::decode(&bytes[..])?;
            // Several sets contain the files that they all import.
            if !self.by_name.contains_key(file.name()) {
                self.add_file(&file, &bytes.into());
            }
        }
        Ok(())
    }

    fn add_file(&mut self, file: &FileDescriptorProto, bytes: &Arc<[u8]>) {
        self.by_name.insert(file.name().to_owned(), Arc::clone(bytes));
        let package = file.package();
        for service in &file.service {
            let name = self.add_symbol(package, service.name(), bytes);
            service.method.iter().for_each(|method| _ = self.add_symbol(&name, method.name(), bytes));
        }
        file.message_type.iter().for_each(|message| self.add_message(package, message, bytes));
        file.enum_type.iter().for_each(|kind| self.add_enum(package, kind, bytes));
        file.extension.iter().for_each(|extension| self.add_extension(package, extension, bytes));
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto, bytes: &Arc<[u8]>) {
        let name = self.add_symbol(scope, message.name(), bytes);
        message.field.iter().for_each(|field| _ = self.add_symbol(&name, field.name(), bytes));
        message.oneof_decl.iter().for_each(|oneof| _ = self.add_symbol(&name, oneof.name(), bytes));
        message.nested_type.iter().for_each(|nested| self.add_message(&name, nested, bytes));
        message.enum_type.iter().for_each(|kind| self.add_enum(&name, kind, bytes));
        message.extension.iter().for_each(|extension| self.add_extension(&name, extension, bytes));
    }

    /// The values of an enum are in the scope of the enum, not within it.
    fn add_enum(&mut self, scope: &str, kind: &EnumDescriptorProto, bytes: &Arc<[u8]>) {
        self.add_symbol(scope, kind.name(), bytes);
        kind.value.iter().for_each(|value| _ = self.add_symbol(scope, value.name(), bytes));
    }

    fn add_extension(&mut self, scope: &str, extension: &FieldDescriptorProto, bytes: &Arc<[u8]>) {
        self.add_symbol(scope, extension.name(), bytes);
        let extended = extension.extendee().trim_start_matches('.').to_owned();
        self.by_extension.insert((extended, extension.number()), Arc::clone(bytes));
    }

    /// Returns the full name.
    fn add_symbol(&mut self, scope: &str, name: &str, bytes: &Arc<[u8]>) -> String {
        let name = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        self.by_symbol.insert(name.clone(), Arc::clone(bytes));
        name
    }

    fn respond(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(self.find(request.message_request.as_ref())),
            original_request: Some(request),
        }
    }

    fn find(&self, request: Option<&MessageRequest>) -> MessageResponse {
        match request {
            Some(MessageRequest::FileByFilename(name)) => file_response(self.by_name.get(name)),
            Some(MessageRequest::FileContainingSymbol(symbol)) => file_response(self.by_symbol.get(symbol)),
            Some(MessageRequest::FileContainingExtension(extension)) => {
                let key = (extension.containing_type.clone(), extension.extension_number);
                file_response(self.by_extension.get(&key))
            }
            Some(MessageRequest::AllExtensionNumbersOfType(extended)) => self.find_extensions(extended),
            Some(MessageRequest::ListServices(_)) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: name.clone() }).collect();
                MessageResponse::ListServicesResponse(ListServiceResponse { service })
            }
            None => error_response(Code::InvalidArgument, "the request is empty"),
        }
    }

    fn find_extensions(&self, extended: &str) -> MessageResponse {
        if !self.by_symbol.contains_key(extended) {
            return not_found();
        }
        let of_message = (extended.to_owned(), i32::MIN)..=(extended.to_owned(), i32::MAX);
        MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
            base_type_name: extended.to_owned(),
            extension_number: self.by_extension.range(of_message).map(|((_, number), _)| *number).collect(),
        })
    }
}

fn file_response(file: Option<&Arc<[u8]>>) -> MessageResponse {
    file.map_or_else(not_found, |file| {
        MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: vec![file.to_vec()] })
    })
}

fn not_found() -> MessageResponse {
    error_response(Code::NotFound, "this server has no such file, symbol or extension")
}

fn error_response(code: Code, message: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse { error_code: code.into(), error_message: message.to_owned() })
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct Reflection(Arc<Index>);

#[tonic::async_trait]
impl v1::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Responses<ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        requests: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.0);
        let responses = requests.into_inner().map(move |request| Ok(index.respond(request?)));
        Ok(Response::new(Box::pin(responses)))
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Responses<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        requests: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.0);
        let responses = requests.into_inner().map(move |request| Ok(convert(&index.respond(convert(&request?)))));
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Converts a message between v1 and v1alpha, which have the same fields.
fn convert<A: Message, B: Message + Default>(message: &A) -> B {
    B::decode(&message.encode_to_vec()[..]).expect("the versions have the same encoding")
}

//! gRPC reflection, so that grpcurl needs no proto files.

use std::process::Command;

use futures::{StreamExt, stream};
use service_kit::testing::{TestDatabase, report_skipped};
use tonic::{Code, transport::Channel};
use tonic_reflection::pb::{
    v1::{
        ExtensionRequest, ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha,
};

use super::processes::Taskey;

const AUTH: [&str; 11] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "taskey.auth.v1.AccountService",
    "taskey.auth.v1.AdminService",
    "taskey.auth.v1.AuthService",
    "taskey.auth.v1.DeviceAuthorizationService",
    "taskey.auth.v1.FactorService",
    "taskey.auth.v1.OAuthService",
    "taskey.auth.v1.PersonalAccessTokenService",
    "taskey.auth.v1.TokenService",
];

/// The programs that answer reflection requests.
const LISTENERS: [&str; 3] = ["auth", "task", "gateway"];

/// Sends all requests in one stream, and returns all responses.
async fn ask(channel: Channel, requests: impl IntoIterator<Item = MessageRequest>) -> Vec<MessageResponse> {
    let request = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests: Vec<_> = requests.into_iter().map(request).collect();
    let responses = ServerReflectionClient::new(channel).server_reflection_info(stream::iter(requests)).await;
    let responses = responses.expect("accepted").into_inner();
    responses.map(|response| response.expect("no error").message_response.expect("a response")).collect().await
}

/// Does the same as `ask`, by v1alpha. Returns the codes of the errors, and 0 for other responses.
async fn ask_v1alpha(channel: Channel, symbols: &[&str]) -> Vec<i32> {
    use v1alpha::{
        server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    };
    let request = |symbol: &&str| v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol((*symbol).to_owned())),
    };
    let requests: Vec<_> = symbols.iter().map(request).collect();
    let responses = ServerReflectionClient::new(channel).server_reflection_info(stream::iter(requests)).await;
    let responses = responses.expect("accepted").into_inner();
    let code = |response: MessageResponse| match response {
        MessageResponse::ErrorResponse(error) => error.error_code,
        _ => 0,
    };
    responses.map(|response| code(response.expect("no error").message_response.expect("a response"))).collect().await
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;
    let responses = ask(taskey.channel("auth"), [MessageRequest::ListServices(String::new())]).await;
    let [MessageResponse::ListServicesResponse(list)] = &responses[..] else { panic!("{responses:?}") };
    let mut names: Vec<_> = list.service.iter().map(|service| &service.name[..]).collect();
    names.sort_unstable();
    assert_eq!(names, AUTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_stream_continues_after_an_unknown_symbol() {
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;
    for name in LISTENERS {
        let requests = [
            symbol("no.such.Symbol"),
            MessageRequest::FileByFilename("no/such.proto".to_owned()),
            MessageRequest::AllExtensionNumbersOfType("no.such.Message".to_owned()),
            symbol("grpc.health.v1.Health.Check"),
        ];
        let responses = ask(taskey.channel(name), requests).await;
        let [unknown @ .., MessageResponse::FileDescriptorResponse(known)] = &responses[..] else {
            panic!("{name}: {responses:?}")
        };
        assert_eq!((unknown.len(), known.file_descriptor_proto.len()), (3, 1), "{name}");
        for response in unknown {
            let MessageResponse::ErrorResponse(error) = response else { panic!("{name}: {response:?}") };
            assert_eq!(error.error_code, Code::NotFound as i32, "{name}");
        }
        let codes = ask_v1alpha(taskey.channel(name), &["no.such.Symbol", "grpc.health.v1.Health"]).await;
        assert_eq!(codes, [Code::NotFound as i32, 0], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_enum_values_and_extensions() {
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;
    let (containing_type, extension_number) = ("google.protobuf.MethodOptions".to_owned(), 50101);
    let requests = [
        symbol("taskey.errors.v1.ERROR_REASON_INTERNAL"),
        MessageRequest::FileContainingExtension(ExtensionRequest {
            containing_type: containing_type.clone(),
            extension_number,
        }),
        MessageRequest::AllExtensionNumbersOfType(containing_type),
    ];
    let responses = ask(taskey.channel("auth"), requests).await;
    let [
        MessageResponse::FileDescriptorResponse(_),
        MessageResponse::FileDescriptorResponse(_),
        MessageResponse::AllExtensionNumbersResponse(extensions),
    ] = &responses[..]
    else {
        panic!("{responses:?}")
    };
    // `scope` and `errors` of our own, and `google.api.http`.
    assert_eq!(extensions.extension_number, [50101, 50102, 72_295_728]);
}

/// Returns whether grpcurl succeeded, and its output.
fn grpcurl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("grpcurl").arg("-plaintext").args(arguments).output().expect("grpcurl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_describes_all_services_and_decodes_error_details() {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        return report_skipped("a test with grpcurl", "grpcurl is not installed; `make test` installs it");
    }
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;
    for (name, services) in [("auth", &AUTH[3..]), ("task", &["taskey.task.v1.TaskService"])] {
        let address = taskey.process(name).address(name).to_string();
        let (listed, list) = grpcurl(&[&address, "list"]);
        assert!(listed && services.iter().all(|service| list.contains(service)), "{list}");
        for service in services {
            let (described, description) = grpcurl(&[&address, "describe", service]);
            assert!(described && description.contains("rpc "), "{description}");
        }
        let method = format!("{}/GetMe", services[0]).replace("TaskService/GetMe", "TaskService/ListTasks");
        let (accepted, error) = grpcurl(&[&address, &method]);
        assert!(!accepted && error.contains(r#""reason": "TOKEN_MISSING""#), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_reports_unknown_symbols_and_watches_unknown_services() {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        return report_skipped("a test with grpcurl", "grpcurl is not installed; `make test` installs it");
    }
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;
    for name in LISTENERS {
        let address = taskey.process(name).address(name).to_string();
        let (described, error) = grpcurl(&[&address, "describe", "no.such.Symbol"]);
        assert!(!described && error.contains("Symbol not found: no.such.Symbol"), "{name}: {error}");
        let service = r#"{"service": "no.such.Service"}"#;
        // The watch stays open, so grpcurl ends it.
        let (_, watched) = grpcurl(&["-max-time", "1", "-d", service, &address, "grpc.health.v1.Health/Watch"]);
        assert!(watched.contains(r#""status": "SERVICE_UNKNOWN""#), "{name}: {watched}");
        assert!(watched.contains("DeadlineExceeded"), "{name}: {watched}");
    }
}

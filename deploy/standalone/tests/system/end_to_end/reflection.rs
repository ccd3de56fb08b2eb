//! gRPC reflection, so that grpcurl needs no proto files.

use std::process::Command;

use futures::{StreamExt, stream};
use service_kit::testing::{TestDatabase, report_skipped};
use tonic_reflection::pb::{v1, v1alpha};

use super::processes::Taskey;

const AUTH: [&str; 6] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "taskey.auth.v1.AccountService",
    "taskey.auth.v1.AdminService",
    "taskey.auth.v1.AuthService",
    "taskey.auth.v1.TokenService",
];

#[tokio::test(flavor = "multi_thread")]
async fn both_reflection_versions_list_the_services() {
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};
    use v1alpha::{
        server_reflection_request::MessageRequest as AlphaRequest,
        server_reflection_response::MessageResponse as AlphaResponse,
    };
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(taskey.channel("auth"));
    let responses = client.server_reflection_info(stream::iter([request])).await.expect("accepted").into_inner();
    let response = responses.map(|response| response.expect("no error").message_response).next().await;
    let Some(Some(MessageResponse::ListServicesResponse(list))) = response else { panic!("{response:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, AUTH);

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(AlphaRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(taskey.channel("auth"));
    let responses = client.server_reflection_info(stream::iter([request])).await.expect("accepted").into_inner();
    let response = responses.map(|response| response.expect("no error").message_response).next().await;
    let Some(Some(AlphaResponse::ListServicesResponse(list))) = response else { panic!("{response:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, AUTH.map(|name| name.replace("reflection.v1.", "reflection.v1alpha.")));
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_describes_all_services_and_decodes_error_details() {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        return report_skipped("a test with grpcurl", "grpcurl is not installed; `make test` installs it");
    }
    let taskey = Taskey::start(&TestDatabase::sqlite()).await;
    for (name, services) in [("auth", &AUTH[2..]), ("task", &["taskey.task.v1.TaskService"])] {
        let address = taskey.process(name).address(name).to_string();
        let grpcurl = |arguments: &[&str]| {
            let output =
                Command::new("grpcurl").arg("-plaintext").args(arguments).output().expect("grpcurl is installed");
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(text).expect("UTF-8"))
        };
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

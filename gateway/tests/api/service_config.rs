//! `/service_config.json`: it is served and up to date, and agrees with the contract.

use std::{collections::BTreeSet, env, fs};

use gateway::service_config::ServiceConfig;
use serde_json::{Value, json};

use crate::{
    openapi::{RENEW, contract_pool},
    program::{Program, UNREACHABLE},
};

const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/service_config.json");

fn service_config() -> Value {
    serde_json::to_value(ServiceConfig::from_pool(&contract_pool())).unwrap()
}

/// Returns the config of a method, as a client finds it: the entry of the method, or else that of its service.
fn method_config(service: &str, method: &str) -> Value {
    let config = service_config();
    let find = |name: Value| {
        let mut entries = config["methodConfig"].as_array().unwrap().iter();
        entries.find(|entry| entry["name"].as_array().unwrap().contains(&name)).cloned()
    };
    let of_method = find(json!({"service": service, "method": method}));
    of_method.or_else(|| find(json!({"service": service}))).unwrap()
}

#[test]
fn the_committed_copy_of_the_service_config_is_up_to_date() {
    let text = serde_json::to_string_pretty(&ServiceConfig::from_pool(&contract_pool())).unwrap() + "\n";
    if env::var_os(RENEW).is_some() {
        fs::write(COPY, &text).unwrap();
    }
    let copy = fs::read_to_string(COPY).unwrap_or_default();
    assert!(
        copy == text,
        "proto/service_config.json differs from the contract: run `make openapi` and commit the change"
    );
}

#[tokio::test]
async fn service_config_is_served() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    assert_eq!(program.get("/service_config.json").await.ok(), service_config());
}

#[test]
fn only_rpcs_without_side_effects_are_retried() {
    let retries = json!({
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    });
    let tasks = "taskey.task.v1.TaskService";
    assert_eq!(method_config(tasks, "GetTask")["retryPolicy"], retries);
    assert_eq!(method_config(tasks, "WatchTasks")["retryPolicy"], retries);
    for (service, method) in [(tasks, "CreateTask"), (tasks, "DeleteTask"), ("taskey.auth.v1.AuthService", "Login")] {
        assert!(method_config(service, method)["retryPolicy"].is_null(), "{method}");
    }
}

#[test]
fn every_rpc_has_a_timeout_unless_it_is_a_stream() {
    for service in contract_pool().services() {
        for method in service.methods() {
            let has_timeout = !method_config(service.full_name(), method.name())["timeout"].is_null();
            let is_stream = method.is_client_streaming() || method.is_server_streaming();
            assert_eq!(has_timeout, !is_stream, "{}", method.full_name());
        }
    }
}

/// A client refuses the whole config if a name is duplicated (gRFC A2).
#[test]
fn no_name_is_duplicated() {
    let config = service_config();
    let entries = config["methodConfig"].as_array().unwrap().iter();
    let names: Vec<_> = entries.flat_map(|entry| entry["name"].as_array().unwrap()).map(Value::to_string).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

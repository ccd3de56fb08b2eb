//! `/openapi.json`: paths, parameters and schemas of the contract and of the test protos.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    openapi::{contract_pool, openapi_document, operation},
    support::pool,
};

/// Returns the elements of a list of names, or the names of a list of objects.
fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().or_else(|| item.as_str()).unwrap_or("")).collect()
}

#[test]
fn paths_with_differently_named_variables_are_merged() {
    let document = openapi_document(&contract_pool());
    let verbs: Vec<_> = document["paths"]["/v1/tasks/{id}"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(verbs, ["delete", "get", "patch"]);
}

#[test]
fn create_requires_the_required_fields_and_update_requires_none() {
    let schemas = openapi_document(&contract_pool())["components"]["schemas"].clone();
    let body_schema =
        |path, verb| operation(path, verb)["requestBody"]["content"]["application/json"]["schema"].clone();
    assert_eq!(body_schema("/v1/tasks", "post"), json!({"$ref": "#/components/schemas/TaskInput"}));
    assert_eq!(body_schema("/v1/tasks/{id}", "patch"), json!({"$ref": "#/components/schemas/TaskUpdate"}));
    assert_eq!(schemas["TaskInput"]["required"], json!(["title"]));
    assert_eq!(schemas["TaskUpdate"]["required"], Value::Null);
    assert_eq!(schemas["TaskUpdate"]["properties"]["notes"]["type"], json!(["string", "null"]));
    assert!(names(&schemas["Task"]["required"]).contains("etag"));
    assert!(!names(&schemas["Task"]["required"]).contains("dueTime"));
    let update = &schemas["UpdateTaskRequest"]["properties"]["task"]["$ref"];
    assert_eq!(update, "#/components/schemas/TaskUpdate", "in a batch");
}

#[test]
fn limits_are_in_request_schemas() {
    let schemas = openapi_document(&contract_pool())["components"]["schemas"].clone();
    let title = &schemas["TaskInput"]["properties"]["title"];
    assert_eq!((&title["minLength"], &title["maxLength"]), (&json!(1), &json!(200)));
    let labels = &schemas["TaskInput"]["properties"]["labels"];
    assert_eq!((&labels["maxItems"], &labels["items"]["maxLength"]), (&json!(20), &json!(50)));
    let writes = &schemas["BatchWriteTasksRequest"]["properties"]["writes"];
    assert_eq!((&writes["minItems"], &writes["maxItems"]), (&json!(1), &json!(100)));
    let write = &schemas["BatchWriteTasksRequestWrite"];
    assert_eq!(write["maxProperties"], 1, "a write is a oneof");
    // The minimum length is configurable and applies after Unicode normalisation.
    assert_eq!(schemas["SignUpRequest"]["properties"]["password"]["minLength"], Value::Null);
}

#[test]
fn formats_of_parameters_are_documented() {
    let schema = |path, verb, name: &str| {
        let operation = operation(path, verb);
        let mut parameters = operation["parameters"].as_array().unwrap().iter();
        parameters.find(|parameter| parameter["name"] == name).unwrap()["schema"].clone()
    };
    assert_eq!(schema("/v1/tasks/{id}", "get", "id"), json!({"type": "string", "format": "uuid"}));
    assert_eq!(schema("/v1/tasks", "get", "pageSize"), json!({"type": "integer", "format": "int32", "minimum": 0}));
    assert_eq!(schema("/v1/tasks", "get", "filter"), json!({"type": "string"}));
}

#[test]
fn field_behavior_is_documented() {
    let schemas = openapi_document(&contract_pool())["components"]["schemas"].clone();
    assert_eq!(schemas["Task"]["properties"]["createTime"]["readOnly"], true);
    assert_eq!(schemas["LoginRequest"]["properties"]["password"]["writeOnly"], true);
    assert_eq!(schemas["LoginRequest"]["required"], json!(["email", "password"]));
}

#[test]
fn path_fields_are_not_in_the_body() {
    let schemas = openapi_document(&contract_pool())["components"]["schemas"].clone();
    let complete = operation("/v1/tasks/{id}:complete", "post");
    let body = &complete["requestBody"];
    assert_eq!(body["required"], false);
    assert_eq!(body["content"]["application/json"]["schema"]["$ref"], "#/components/schemas/CompleteTaskBody");
    let properties = schemas["CompleteTaskBody"]["properties"].as_object().unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["etag", "includeSubtasks", "requestId", "validateOnly"]);
}

#[test]
fn every_wildcard_has_a_name() {
    let document = openapi_document(&pool());
    for path in [
        "/v1/texts/{text}",
        "/v1/shelves/{text1}/books/{text2}:read",
        "/v1/children/{child.text}/of/{text}",
        "/v1/wild/{segment3}/{text}",
        "/v1/files/{text}:touch",
    ] {
        assert!(document["paths"][path].is_object(), "{path}: {:?}", document["paths"].as_object().unwrap().keys());
    }
    let second = &document["paths"]["/v1/texts/special"]["get"]["operationId"];
    assert_eq!(second, "EchoService_Path_2");
}

#[test]
fn nested_fields_are_query_parameters() {
    let document = openapi_document(&pool());
    let parameters = &document["paths"]["/v1/things/{text}"]["delete"]["parameters"];
    let names = names(parameters);
    for name in ["thing.number", "thing.longNumber", "thing.someColor", "thing.time", "updateMask", "note"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    for name in ["thing.text", "thing.child.number", "thing.counts", "thing.struct"] {
        assert!(!names.contains(name), "{name}: {names:?}");
    }
}

#[test]
fn each_field_type_has_its_json_schema() {
    let properties = openapi_document(&pool())["components"]["schemas"]["Thing"]["properties"].clone();
    for (name, expected) in [
        ("longNumber", json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})),
        ("data", json!({"type": "string", "contentEncoding": "base64"})),
        ("someColor", json!({"$ref": "#/components/schemas/Color"})),
        ("time", json!({"type": "string", "format": "date-time"})),
        ("counts", json!({"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}})),
        ("children", json!({"type": "array", "items": {"$ref": "#/components/schemas/Thing"}})),
        ("left", json!({"type": "string", "description": "Not together with `right`."})),
    ] {
        assert_eq!(properties[name], expected, "{name}");
    }
}

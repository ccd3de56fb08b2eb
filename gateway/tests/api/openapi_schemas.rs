//! `/openapi.json`: paths, parameters and schemas, in the contract and for every feature that the descriptors of the
//! tests have.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    openapi::{contract, of, operation},
    support::pool,
};

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().or_else(|| one.as_str()).unwrap_or("")).collect()
}

#[test]
fn a_path_is_the_same_whatever_its_variable_is_called() {
    let document = of(&contract());
    let verbs: Vec<_> = document["paths"]["/v1/tasks/{id}"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(verbs, ["delete", "get", "patch"]);
}

#[test]
fn a_create_takes_what_must_be_there_and_an_update_what_shall_change() {
    let schemas = of(&contract())["components"]["schemas"].clone();
    let sent = |path, verb| operation(path, verb)["requestBody"]["content"]["application/json"]["schema"].clone();
    assert_eq!(sent("/v1/tasks", "post"), json!({"$ref": "#/components/schemas/TaskInput"}));
    assert_eq!(sent("/v1/tasks/{id}", "patch"), json!({"$ref": "#/components/schemas/TaskUpdate"}));
    assert_eq!(schemas["TaskInput"]["required"], json!(["title"]));
    assert_eq!(schemas["TaskUpdate"]["required"], Value::Null);
    assert_eq!(schemas["TaskUpdate"]["properties"]["notes"]["type"], json!(["string", "null"]));
    assert!(names(&schemas["Task"]["required"]).contains("etag"));
    assert!(!names(&schemas["Task"]["required"]).contains("dueTime"));
    let update = &schemas["UpdateTaskRequest"]["properties"]["task"]["$ref"];
    assert_eq!(update, "#/components/schemas/TaskUpdate", "in a batch, too");
}

#[test]
fn the_limits_of_the_comments_are_in_what_is_sent() {
    let schemas = of(&contract())["components"]["schemas"].clone();
    let title = &schemas["TaskInput"]["properties"]["title"];
    assert_eq!((&title["minLength"], &title["maxLength"]), (&json!(1), &json!(200)));
    let labels = &schemas["TaskInput"]["properties"]["labels"];
    assert_eq!((&labels["maxItems"], &labels["items"]["maxLength"]), (&json!(20), &json!(50)));
    let writes = &schemas["BatchWriteTasksRequest"]["properties"]["writes"];
    assert_eq!((&writes["minItems"], &writes["maxItems"]), (&json!(1), &json!(100)));
    let write = &schemas["BatchWriteTasksRequestWrite"];
    assert_eq!(write["maxProperties"], 1, "it is a choice");
    // It counts after normalisation, and its floor is a setting.
    assert_eq!(schemas["SignUpRequest"]["properties"]["password"]["minLength"], Value::Null);
}

#[test]
fn what_is_refused_for_its_shape_has_that_shape() {
    let schema = |path, verb, name: &str| {
        let operation = operation(path, verb);
        let mut parameters = operation["parameters"].as_array().unwrap().iter();
        parameters.find(|one| one["name"] == name).unwrap()["schema"].clone()
    };
    assert_eq!(schema("/v1/tasks/{id}", "get", "id"), json!({"type": "string", "format": "uuid"}));
    assert_eq!(schema("/v1/tasks", "get", "pageSize"), json!({"type": "integer", "format": "int32", "minimum": 0}));
    assert_eq!(schema("/v1/tasks", "get", "filter"), json!({"type": "string"}));
}

#[test]
fn behavior_says_who_sets_a_field() {
    let schemas = of(&contract())["components"]["schemas"].clone();
    assert_eq!(schemas["Task"]["properties"]["createTime"]["readOnly"], true);
    assert_eq!(schemas["LoginRequest"]["properties"]["password"]["writeOnly"], true);
    assert_eq!(schemas["LoginRequest"]["required"], json!(["email", "password"]));
}

#[test]
fn the_path_takes_its_fields_out_of_the_body() {
    let schemas = of(&contract())["components"]["schemas"].clone();
    let complete = operation("/v1/tasks/{id}:complete", "post");
    let body = &complete["requestBody"];
    assert_eq!(body["required"], false);
    assert_eq!(body["content"]["application/json"]["schema"]["$ref"], "#/components/schemas/CompleteTaskBody");
    let properties = schemas["CompleteTaskBody"]["properties"].as_object().unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["etag", "requestId", "validateOnly"]);
}

#[test]
fn wildcards_of_any_shape_have_names() {
    let document = of(&pool());
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
fn a_query_gives_fields_of_messages_too() {
    let document = of(&pool());
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
fn each_kind_of_field_has_its_form_in_json() {
    let properties = of(&pool())["components"]["schemas"]["Thing"]["properties"].clone();
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

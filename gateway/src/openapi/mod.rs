//! The contract as OpenAPI 3.1. It is generated from the same descriptors as the routes, so every RPC with a binding is
//! documented.
//!
//! # Layout
//! [`operation`] describes one [`binding`] of an RPC, with [`schema`]s (which use [`value`]), [`response`]s and
//! [`example`]s. [`gateway`] describes the gateway's own endpoints, and [`components`] the objects that operations
//! refer to. [`comment`] and [`contract`] read the comments and the options of the proto files.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use anyhow::{Context, bail};
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use serde::Serialize;
use serde_json::{Value, json};

use crate::routing::binding::{is_representable, rules};

pub mod binding;
pub mod comment;
pub mod components;
pub mod contract;
pub mod example;
pub mod gateway;
pub mod operation;
pub mod response;
pub mod schema;
pub mod value;

use binding::{Binding, Paths};
use operation::describe;
use schema::{Schema, Schemas};

/// An OpenAPI document. The order of the fields is that of the keys in the JSON.
#[derive(Debug, Serialize)]
pub struct Document {
    openapi: &'static str,
    info: Value,
    servers: Value,
    tags: Vec<Value>,
    paths: BTreeMap<String, BTreeMap<String, Value>>,
    components: Components,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Components {
    schemas: BTreeMap<String, Schema>,
    parameters: Value,
    headers: Value,
    security_schemes: Value,
}

impl Document {
    /// Describes every RPC in `pool` that has a binding.
    ///
    /// # Errors
    /// If a binding is invalid, or two schemas or operations have the same name.
    pub fn from_pool(pool: &DescriptorPool) -> anyhow::Result<Self> {
        let mut document = Self {
            openapi: "3.1.1",
            info: components::info(),
            servers: json!([{"url": "/"}]),
            tags: Vec::new(),
            paths: BTreeMap::new(),
            components: Components {
                schemas: BTreeMap::new(),
                parameters: components::parameters(),
                headers: components::headers(),
                security_schemes: components::security_schemes(),
            },
        };
        let (mut schemas, mut paths) = (Schemas::new(pool), Paths::default());
        for service in pool.services() {
            document.add_service(&service, &mut schemas, &mut paths)?;
        }
        document.tags.push(gateway::tag());
        for (path, operation) in gateway::operations() {
            document.add_operation(path.to_owned(), "get", operation)?;
        }
        document.components.schemas = schemas.finish(response::error_schemas(pool))?;
        document.check_operation_ids()?;
        Ok(document)
    }

    /// Sets the URL to which paths are relative. By default, it is the root of the host that serves the document.
    pub fn set_server(&mut self, url: &str) {
        self.servers = json!([{"url": url}]);
    }

    fn add_service(
        &mut self,
        service: &ServiceDescriptor,
        schemas: &mut Schemas,
        paths: &mut Paths,
    ) -> anyhow::Result<()> {
        let mut has_binding = false;
        for method in service.methods() {
            let name = method.full_name();
            for (index, rule) in rules(&method).with_context(|| name.to_owned())?.iter().enumerate() {
                if !is_representable(&method, rule) {
                    continue;
                }
                let binding = Binding::from_rule(&method, rule, index, paths).with_context(|| name.to_owned())?;
                let Some(binding) = binding else { continue };
                has_binding = true;
                let operation = describe(&binding, schemas).with_context(|| name.to_owned())?;
                self.add_operation(binding.path, binding.verb, operation)?;
            }
        }
        if has_binding {
            let comment = comment::leading(&service.parent_file(), service.path());
            self.tags.push(json!({"name": service.name(), "description": comment::without_errors(&comment)}));
        }
        Ok(())
    }

    fn add_operation(&mut self, path: String, verb: &str, operation: Value) -> anyhow::Result<()> {
        let item = self.paths.entry(path).or_default();
        match item.entry(verb.to_owned()) {
            Entry::Vacant(vacant) => vacant.insert(operation),
            Entry::Occupied(_) => bail!("two operations have the same method and path"),
        };
        Ok(())
    }

    fn check_operation_ids(&self) -> anyhow::Result<()> {
        let mut seen = HashMap::new();
        for (path, operation) in
            self.paths.iter().flat_map(|(path, item)| item.values().map(move |operation| (path, operation)))
        {
            if let Some(other_path) = seen.insert(operation["operationId"].as_str(), path) {
                bail!("the operations at {path} and {other_path} have the same operationId");
            }
        }
        Ok(())
    }
}

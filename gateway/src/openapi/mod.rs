//! The contract as OpenAPI 3.1, made of the same descriptors as the routes, so that an RPC is documented by being in the
//! proto.
//!
//! # Layout
//! [`operation`] describes one binding of an RPC, with [`parameter`]s, [`schema`]s (over [`value`]), [`answer`]s (over
//! [`errors`]) and [`example`]s. [`own`] describes what the gateway serves itself, [`shared`] what operations refer to.
//! [`comment`] and [`options`] read the contract.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use anyhow::{Context, bail};
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use serde::Serialize;
use serde_json::{Value, json};

use crate::routing::binding::rules;

pub mod answer;
pub mod binding;
pub mod comment;
pub mod errors;
pub mod example;
pub mod operation;
pub mod options;
pub mod own;
pub mod parameter;
pub mod path;
pub mod schema;
pub mod shared;
pub mod value;

use binding::Binding;
use operation::describe;
use path::Paths;
use schema::{Schema, Schemas};

/// An OpenAPI document. Its keys are in the order in which they are read best.
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
    /// If a binding is not right, or two things would have the same name.
    pub fn of(pool: &DescriptorPool) -> anyhow::Result<Self> {
        let mut document = Self {
            openapi: "3.1.1",
            info: shared::info(),
            servers: json!([{"url": "/"}]),
            tags: Vec::new(),
            paths: BTreeMap::new(),
            components: Components {
                schemas: BTreeMap::new(),
                parameters: shared::parameters(),
                headers: shared::headers(),
                security_schemes: shared::security_schemes(),
            },
        };
        let (mut schemas, mut paths) = (Schemas::new(pool), Paths::default());
        for service in pool.services() {
            document.add_service(&service, &mut schemas, &mut paths)?;
        }
        document.tags.push(own::tag());
        for (path, operation) in own::operations() {
            document.add(path.to_owned(), "get", operation)?;
        }
        document.components.schemas = schemas.finish(answer::schemas(pool))?;
        document.check_ids()?;
        Ok(document)
    }

    fn add_service(
        &mut self,
        service: &ServiceDescriptor,
        schemas: &mut Schemas,
        paths: &mut Paths,
    ) -> anyhow::Result<()> {
        let mut is_bound = false;
        for method in service.methods().filter(|method| !method.is_client_streaming()) {
            let name = method.full_name();
            for (index, rule) in rules(&method).with_context(|| name.to_owned())?.iter().enumerate() {
                let binding = Binding::read(&method, rule, index, paths).with_context(|| name.to_owned())?;
                let Some(binding) = binding else { continue };
                is_bound = true;
                let operation = describe(&binding, schemas).with_context(|| name.to_owned())?;
                self.add(binding.path, binding.verb, operation)?;
            }
        }
        if is_bound {
            let text = comment::of(&service.parent_file(), service.path());
            self.tags.push(json!({"name": service.name(), "description": comment::without_errors(&text)}));
        }
        Ok(())
    }

    fn add(&mut self, path: String, verb: &str, operation: Value) -> anyhow::Result<()> {
        let item = self.paths.entry(path).or_default();
        match item.entry(verb.to_owned()) {
            Entry::Vacant(vacant) => vacant.insert(operation),
            Entry::Occupied(_) => bail!("two operations have the same method and path"),
        };
        Ok(())
    }

    fn check_ids(&self) -> anyhow::Result<()> {
        let mut seen = HashMap::new();
        for (path, operation) in self.paths.iter().flat_map(|(path, item)| item.values().map(move |one| (path, one))) {
            if let Some(other) = seen.insert(operation["operationId"].as_str(), path) {
                bail!("the operations at {path} and {other} have the same name");
            }
        }
        Ok(())
    }
}

//! The scenarios of `clients/conformance/scenarios.json`.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::folder;

/// All scenarios, in the order of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenarios {
    /// Those of the clients.
    pub clients: Vec<Scenario>,
    /// Those of the verifiers.
    pub verifiers: Vec<Scenario>,
}

impl Scenarios {
    pub fn read() -> Self {
        let text = fs::read_to_string(folder().join("conformance/scenarios.json")).expect("the file exists");
        serde_json::from_str(&text).expect("scenarios.json is valid")
    }

    /// Returns the names of all scenarios.
    pub fn names(&self) -> Vec<String> {
        self.clients.iter().chain(&self.verifiers).map(|scenario| scenario.name.clone()).collect()
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What the scenario shows, for the table.
    pub summary: String,
    /// Runs without others, because it measures time or takes much of it.
    #[serde(default)]
    pub alone: bool,
    #[serde(default)]
    pub server: Server,
    pub steps: Vec<Step>,
}

/// The server of a scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub kind: Kind,
    /// Additional flags of `taskey`.
    pub flags: Vec<String>,
    pub tls: Tls,
    pub keys: Keys,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The real server.
    #[default]
    Taskey,
    /// A server that returns what the scenario scripts.
    Fake,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    #[default]
    Off,
    /// The server has a certificate.
    Server,
    /// The server has a certificate, and requires one from its clients.
    Mutual,
}

/// The keys of access tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// A shared secret, for HS256.
    #[default]
    Shared,
    /// A key pair, for EdDSA.
    Pair,
}

/// A step: an operation of the adapter (`op`), an action of the driver (`driver`), or steps that run concurrently
/// (`parallel`).
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// Steps that run concurrently.
    #[serde(default)]
    pub parallel: Vec<Step>,
    /// How many copies of the step run concurrently; `$index` is the number of each, from 0.
    #[serde(default = "one")]
    pub times: usize,
    /// Starts the step in the background under this name. The driver's action `finish` waits for its answer.
    #[serde(rename = "as")]
    pub background: Option<String>,
    /// What the answer must contain; by default, it must not be an error.
    pub expect: Option<Value>,
    /// Repeats the step until the answer contains this.
    pub until: Option<Value>,
    /// With `until`, fails if an answer contains this.
    pub never: Option<Value>,
    /// Variables, with the JSON pointers of their values in the answer.
    #[serde(default)]
    pub save: BTreeMap<String, String>,
    /// The minimum and maximum duration. The maximum also limits the repetitions of `until`.
    #[serde(default)]
    pub at_least_ms: u64,
    pub at_most_ms: Option<u64>,
    /// `op` or `driver`, and the parameters.
    #[serde(flatten)]
    pub action: Map<String, Value>,
}

fn one() -> usize {
    1
}

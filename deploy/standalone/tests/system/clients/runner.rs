//! Runs the steps of a scenario.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, join_all};
use serde_json::{Map, Value, json};
use tokio::{
    sync::RwLock,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{
    adapter::Adapter,
    expect::{Variables, difference, shorten},
    scenario::{Scenario, Step},
    world::World,
};

/// The maximum duration of a step that has none of its own.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// The pause between repetitions of a step.
const PAUSE: Duration = Duration::from_millis(20);

/// The result of a scenario in a language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Passed,
    /// The language does not have what the scenario needs.
    NotAvailable,
    Failed(String),
}

impl Cell {
    /// Returns the text of the table.
    pub fn text(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotAvailable => "n/a",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a scenario has ended early.
#[derive(Debug)]
pub enum Ended {
    /// The language does not have the operation.
    NotAvailable,
    Failed(String),
}

impl From<String> for Ended {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// A step in the background: the id of its request, if it has one, and its answer.
type Background = (Option<u64>, JoinHandle<Value>);

/// A scenario that runs.
pub struct Runner {
    /// Distinguishes the clients of the scenarios, which share an adapter.
    prefix: String,
    pub adapter: Arc<Adapter>,
    pub world: RwLock<World>,
    pub variables: Mutex<Variables>,
    background: Mutex<HashMap<String, Background>>,
    /// The durations from logouts to refusals.
    pub measured: Mutex<Vec<Duration>>,
}

/// Runs a scenario, and returns its result and the durations that it has measured.
pub async fn run(adapter: Arc<Adapter>, scenario: Scenario) -> (Cell, Vec<Duration>) {
    let world = World::start(&scenario.server).await;
    let variables = Mutex::new(Variables(world.variables()));
    let (background, measured) = (Mutex::default(), Mutex::default());
    let prefix = format!("{}-", scenario.name);
    let runner = Arc::new(Runner { prefix, adapter, world: RwLock::new(world), variables, background, measured });
    let cell = match runner.run_all(&scenario.steps).await {
        Ok(()) => Cell::Passed,
        Err(Ended::NotAvailable) => Cell::NotAvailable,
        Err(Ended::Failed(message)) => {
            let log = runner.world.read().await.log();
            Cell::Failed(if log.is_empty() { message } else { format!("{message}\nthe log of taskey:\n{log}") })
        }
    };
    let measured = runner.measured.lock().expect("not poisoned").clone();
    (cell, measured)
}

impl Runner {
    async fn run_all(self: &Arc<Self>, steps: &[Step]) -> Result<(), Ended> {
        for (index, step) in steps.iter().enumerate() {
            self.run_step(step.clone(), None).await.map_err(|ended| match ended {
                Ended::Failed(message) => Ended::Failed(format!("step {}: {}: {message}", index + 1, describe(step))),
                Ended::NotAvailable => Ended::NotAvailable,
            })?;
        }
        Ok(())
    }

    fn run_step(self: &Arc<Self>, step: Step, index: Option<usize>) -> BoxFuture<'static, Result<(), Ended>> {
        let runner = Arc::clone(self);
        async move {
            if !step.parallel.is_empty() {
                let steps = step.parallel.iter().map(|step| runner.run_step(step.clone(), index));
                return join_all(steps).await.into_iter().collect();
            }
            if step.times > 1 {
                let copy = |index| runner.run_step(Step { times: 1, ..step.clone() }, Some(index));
                return join_all((0..step.times).map(copy)).await.into_iter().collect();
            }
            runner.run_one(step, index).await
        }
        .boxed()
    }

    async fn run_one(self: &Arc<Self>, mut step: Step, index: Option<usize>) -> Result<(), Ended> {
        let mut variables = self.variables.lock().expect("not poisoned").clone();
        variables.0.insert("index".to_owned(), json!(index));
        let action = variables.expand_members(&step.action)?;
        for value in [&mut step.expect, &mut step.until, &mut step.never].into_iter().flatten() {
            *value = variables.expand(value)?;
        }
        if let Some(name) = step.background {
            return self.start_in_background(name, action).map_err(Ended::from);
        }
        let (started, limit) = (Instant::now(), step.at_most_ms.map_or(DEFAULT_LIMIT, Duration::from_millis));
        let answer = self.answer(&step, action, started + limit).await?;
        let elapsed = started.elapsed();
        if elapsed < Duration::from_millis(step.at_least_ms) {
            return Err(format!("took {elapsed:?}, less than {} ms", step.at_least_ms).into());
        }
        let mut variables = self.variables.lock().expect("not poisoned");
        for (name, pointer) in &step.save {
            let value = answer.pointer(pointer).cloned();
            let value = value.ok_or_else(|| format!("the answer {} has no {pointer}", shorten(&answer)))?;
            variables.0.insert(name.clone(), value);
        }
        Ok(())
    }

    /// Executes the action once, or until its answer is the expected one.
    async fn answer(
        self: &Arc<Self>,
        step: &Step,
        action: Map<String, Value>,
        deadline: Instant,
    ) -> Result<Value, Ended> {
        let is_event = action.get("op") == Some(&json!("next"));
        let mut events = Events::default();
        let mut last = "there was no earlier one".to_owned();
        let started = Instant::now();
        loop {
            let answer = timeout_at(deadline, self.execute(action.clone())).await;
            let answer = answer.map_err(|_| format!("there is no answer in time; {last}"))??;
            if is_unsupported(&answer) {
                return Err(Ended::NotAvailable);
            }
            let Some(until) = &step.until else {
                let expected = step.expect.clone().unwrap_or_else(|| json!({"error": null}));
                return match difference(&expected, Some(&answer)) {
                    None => Ok(answer),
                    Some(difference) => Err(Ended::Failed(format!("{difference}; the answer is {}", shorten(&answer)))),
                };
            };
            let answer = if is_event { events.add(answer) } else { answer };
            if step.never.as_ref().is_some_and(|never| difference(never, Some(&answer)).is_none()) {
                return Err(Ended::Failed(format!("the answer must not be {}", shorten(&answer))));
            }
            if difference(until, Some(&answer)).is_none() {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(Ended::Failed(format!("the answer is still {}", shorten(&answer))));
            }
            // An adapter that fails immediately must not be asked in a tight loop.
            if !is_event || !answer["error"].is_null() {
                sleep(PAUSE).await;
            }
            last = format!("the last one, after {:.1?}, was {}", started.elapsed(), shorten(&answer));
        }
    }

    async fn execute(self: &Arc<Self>, action: Map<String, Value>) -> Result<Value, Ended> {
        if action.contains_key("driver") {
            return self.drive(&action).await;
        }
        Ok(self.send(action)?.answer().await)
    }

    /// Sends a request to the adapter.
    fn send(&self, mut action: Map<String, Value>) -> Result<super::adapter::Request, String> {
        if !action.contains_key("op") {
            return Err("a step needs `op`, `driver` or `parallel`".to_owned());
        }
        for name in ["client", "watch", "verifier"] {
            if let Some(Value::String(value)) = action.get_mut(name) {
                value.insert_str(0, &self.prefix);
            }
        }
        if let Some(of) = action.remove("of") {
            let background = self.background.lock().expect("not poisoned");
            let (id, _) = background.get(of.as_str().unwrap_or_default()).ok_or("`of` is not in the background")?;
            action.insert("request".to_owned(), json!(id));
        }
        Ok(self.adapter.send(action))
    }

    fn start_in_background(self: &Arc<Self>, name: String, action: Map<String, Value>) -> Result<(), String> {
        let (id, running) = if action.contains_key("driver") {
            let runner = Arc::clone(self);
            let running = async move {
                runner.drive(&action).await.unwrap_or_else(|ended| json!({"error": {"message": format!("{ended:?}")}}))
            };
            (None, tokio::spawn(running))
        } else {
            let request = self.send(action)?;
            (Some(request.id), tokio::spawn(request.answer()))
        };
        self.background.lock().expect("not poisoned").insert(name, (id, running));
        Ok(())
    }

    /// Waits for the answer of a step in the background.
    pub async fn finish(&self, name: &str) -> Result<Value, String> {
        let running = self.background.lock().expect("not poisoned").remove(name);
        let (_, running) = running.ok_or_else(|| format!("{name:?} is not in the background"))?;
        running.await.map_err(|error| error.to_string())
    }
}

/// The events of a watch that a step has received. Clients may combine events, or split them.
#[derive(Default)]
struct Events {
    changes: Vec<Value>,
    list_changes: Vec<Value>,
    reset: bool,
}

impl Events {
    /// Returns the event with all changes so far, and with `reset` if an event had it.
    fn add(&mut self, mut answer: Value) -> Value {
        if let Some(event) = answer.get_mut("ok") {
            for (name, joined) in [("changes", &mut self.changes), ("list_changes", &mut self.list_changes)] {
                joined.extend(event[name].as_array().into_iter().flatten().cloned());
                event[name] = json!(joined);
            }
            self.reset |= event["reset"] == true;
            event["reset"] = json!(self.reset);
        }
        answer
    }
}

fn is_unsupported(answer: &Value) -> bool {
    answer["error"]["code"] == "UNSUPPORTED"
}

fn describe(step: &Step) -> String {
    match (&step.action.get("op"), &step.action.get("driver")) {
        (Some(op), _) => shorten(&json!([op, step.action.get("method").or(step.action.get("watch"))])),
        (_, Some(driver)) => format!("driver {driver}"),
        _ => "parallel".to_owned(),
    }
}

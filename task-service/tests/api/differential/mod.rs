//! Runs random sequences of calls on SQLite, on PostgreSQL and on an in-memory model. All three must return the same
//! results, have the same tasks after each call and list them in the same order.

use std::{env, time::Duration};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use service_kit::testing::TestDatabase;
use tokio::{runtime::Handle, task::block_in_place};

use crate::support::Service;

mod call;
mod engine;
mod expected;
mod listing;
mod model;
mod moves;
mod resolve;
mod series;
mod wire;

use call::{Call, Wait, calls};
use engine::{Engine, Outcome};
use expected::{ModelEngine, without_unmodeled_fields};
use model::{MAX_LISTS, MAX_TASKS};

const SEQUENCES: u32 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_match_the_model() {
    let sequences = env::var("TASKEY_TEST_ROUNDS").map_or(SEQUENCES, |rounds| rounds.parse().expect("a number"));
    let (max_tasks, max_lists) = (MAX_TASKS.to_string(), MAX_LISTS.to_string());
    // The machine may be slow, and this test does not measure latency.
    let generous_limits =
        ["--revocation-max-staleness", "15m", "--database-timeout", "30s", "--request-timeout", "30s"];
    let flags = [&generous_limits[..], &["--max-tasks", &max_tasks, "--max-lists", &max_lists]].concat();
    let database = TestDatabase::sqlite();
    let mut services = vec![Service::start_with(&database, &flags).await];
    let postgres = TestDatabase::postgres().await;
    if let Some(database) = &postgres {
        services.push(services[0].start_replica(database, &flags).await);
    }
    let config = Config { cases: sequences, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let outcome = block_in_place(|| {
        TestRunner::new(config)
            .run(&calls(), |calls| Handle::current().block_on(Box::pin(run_sequence(&services, calls))))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, calls)) => panic!("{reason}\nin {calls:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    for service in services {
        service.stop().await;
    }
}

/// Runs one sequence of calls as a new user.
async fn run_sequence(services: &[Service], calls: Vec<Call>) -> Result<(), TestCaseError> {
    let fail = |reason: String| Err(TestCaseError::fail(reason));
    let user = services[0].user();
    let mut engines: Vec<_> = services.iter().map(|service| Engine::new(service, &user)).collect();
    let mut model = ModelEngine::new(user.id);
    for (index, call) in calls.into_iter().enumerate() {
        // No two calls have the same time.
        services[0].manual_clock.advance(match call {
            Call::Wait(Wait::Hours) => Duration::from_secs(7 * 3600),
            Call::Wait(Wait::Month) => Duration::from_secs(31 * 24 * 3600),
            _ => Duration::from_millis(1),
        });
        let call = model.resolve(call);
        let mut outcomes = Vec::new();
        for engine in &mut engines {
            outcomes.push(engine.execute(&call).await);
        }
        let page_size = i32::try_from(index % 5 + 1).expect("small");
        let (mut tasks, mut lists) = (Vec::new(), Vec::new());
        for engine in &mut engines {
            tasks.push(engine.tasks(services[0].clock.now(), page_size).await);
            lists.push(engine.lists());
        }
        if outcomes.iter().any(|outcome| *outcome != outcomes[0])
            || tasks.iter().any(|all| *all != tasks[0])
            || lists.iter().any(|all| *all != lists[0])
        {
            return fail(format!("the engines differ after {call:?}:\n{outcomes:#?}\n{tasks:#?}\n{lists:#?}"));
        }
        let expected = model.execute(&call, services[0].clock.now(), &tasks[0]);
        let outcome = without_unmodeled_fields(&outcomes[0]);
        let all = without_unmodeled_fields(&Outcome::Tasks(tasks[0].clone()));
        if outcome != expected {
            return fail(format!("after {call:?} the model returns {expected:#?}\nand the engines {outcome:#?}"));
        }
        if all != Outcome::Tasks(model.tasks()) {
            return fail(format!("after {call:?} the model has {:#?}\nand the engines {all:#?}", model.tasks()));
        }
        let lists = without_unmodeled_fields(&Outcome::Lists(lists.swap_remove(0)));
        if lists != Outcome::Lists(model.lists()) {
            return fail(format!("after {call:?} the model has {:#?}\nand the engines {lists:#?}", model.lists()));
        }
        if let Some(siblings) = model.misordered_siblings(&tasks[0]) {
            return fail(format!("after {call:?} the siblings should be {siblings}:\n{tasks:#?}"));
        }
    }
    Ok(())
}

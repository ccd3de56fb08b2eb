//! Stories of arbitrary calls, made on SQLite, on PostgreSQL and in a model that has no database: all answer alike, have
//! the same tasks after each call, and show them in the same order.

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
mod wire;

use call::{Call, Wait, calls};
use engine::{Answer, Engine};
use expected::{Expected, plain};
use model::{MAX_LISTS, MAX_TASKS};

const STORIES: u32 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_answer_as_the_model_does() {
    let stories = env::var("TASKEY_TEST_ROUNDS").map_or(STORIES, |rounds| rounds.parse().expect("a number"));
    let (max_tasks, max_lists) = (MAX_TASKS.to_string(), MAX_LISTS.to_string());
    // The machine may be slow; nothing is said of it here.
    let patience = ["--revocation-max-staleness", "15m", "--database-timeout", "30s", "--request-timeout", "30s"];
    let flags = [&patience[..], &["--max-tasks", &max_tasks, "--max-lists", &max_lists]].concat();
    let database = TestDatabase::sqlite();
    let mut services = vec![Service::start_with(&database, &flags).await];
    let postgres = TestDatabase::postgres().await;
    if let Some(database) = &postgres {
        services.push(services[0].beside(database, &flags).await);
    }
    let config = Config { cases: stories, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let outcome = block_in_place(|| {
        TestRunner::new(config).run(&calls(), |calls| Handle::current().block_on(Box::pin(story(&services, calls))))
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

/// One story, of a user of its own.
async fn story(services: &[Service], calls: Vec<Call>) -> Result<(), TestCaseError> {
    let fail = |reason: String| Err(TestCaseError::fail(reason));
    let user = services[0].user();
    let mut engines: Vec<_> = services.iter().map(|service| Engine::new(service, &user)).collect();
    let mut expected = Expected::new(user.id);
    for (index, call) in calls.into_iter().enumerate() {
        // No two acts are at the same instant.
        services[0].hands.advance(match call {
            Call::Wait(Wait::Hours) => Duration::from_secs(7 * 3600),
            Call::Wait(Wait::Month) => Duration::from_secs(31 * 24 * 3600),
            _ => Duration::from_millis(1),
        });
        let call = expected.resolve(call);
        let mut answers = Vec::new();
        for engine in &mut engines {
            answers.push(engine.make(&call).await);
        }
        let page_size = i32::try_from(index % 5 + 1).expect("small");
        let mut tasks = Vec::new();
        for engine in &mut engines {
            tasks.push(engine.tasks(services[0].clock.now(), page_size).await);
        }
        if answers.iter().any(|answer| *answer != answers[0]) || tasks.iter().any(|all| *all != tasks[0]) {
            return fail(format!("the engines differ after {call:?}:\n{answers:#?}\n{tasks:#?}"));
        }
        let answer = expected.answer(&call, services[0].clock.now(), &tasks[0]);
        let (told, all) = (plain(&answers[0]), plain(&Answer::Tasks(tasks[0].clone())));
        if told != answer {
            return fail(format!("after {call:?} the model answers {answer:#?}\nand the engines {told:#?}"));
        }
        if all != Answer::Tasks(expected.tasks()) {
            return fail(format!("after {call:?} the model has {:#?}\nand the engines {all:#?}", expected.tasks()));
        }
        if let Some(fault) = expected.disorder(&tasks[0]) {
            return fail(format!("after {call:?} the siblings should be {fault}:\n{tasks:#?}"));
        }
    }
    Ok(())
}

//! Runs random cases, each of which compares the service with a model.

use std::fmt::Debug;

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place};

/// Maximum number of attempts to find a shorter case that fails.
const MAX_SHRINK_ITERS: u32 = 400;

/// Runs `cases` cases with random operations, and panics with the operations of a case that fails.
pub fn assert_all_succeed<S, F>(cases: u32, operations: &S, run: impl Fn(S::Value) -> F)
where
    S: Strategy<Value: Debug>,
    F: Future<Output = Result<(), TestCaseError>>,
{
    let config = Config { cases, failure_persistence: None, max_shrink_iters: MAX_SHRINK_ITERS, ..Config::default() };
    let outcome = block_in_place(|| {
        TestRunner::new(config).run(operations, |operations| Handle::current().block_on(run(operations)))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, operations)) => panic!("{reason}\nafter {operations:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// Returns the state of a model after concurrent calls, in an order that explains their results. `None` if no order does.
/// `apply` reports whether a call can have its result, and applies it.
pub fn explain<M: Clone, S: Copy>(model: &M, calls: &[S], apply: &impl Fn(&mut M, S) -> bool) -> Option<M> {
    if calls.is_empty() {
        return Some(model.clone());
    }
    (0..calls.len()).find_map(|index| {
        let mut next = model.clone();
        let rest: Vec<_> = [&calls[..index], &calls[index + 1..]].concat();
        apply(&mut next, calls[index]).then(|| explain(&next, &rest, apply)).flatten()
    })
}

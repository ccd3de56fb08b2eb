//! The async runtime of a program.

use std::{
    env,
    future::Future,
    io::{self, Write},
    process::ExitCode,
    thread,
};

use tokio::runtime::Builder;

/// The variable by which an operator sets the number of worker threads of tokio.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";

/// Runs a program to its end. With a single core, all tasks run on this thread: without wake-ups of other threads, a core
/// serves a quarter more reads. With more cores, or if `TOKIO_WORKER_THREADS` is set, they run on worker threads.
#[must_use]
pub fn run(program: impl Future<Output = ExitCode>) -> ExitCode {
    let is_single = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = match env::var_os(WORKER_THREADS) {
        None if is_single => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => {
            _ = writeln!(io::stderr(), "error: cannot start the async runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

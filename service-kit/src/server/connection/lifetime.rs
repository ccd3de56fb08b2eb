//! The end of a connection: at the shutdown of the server, or at its maximum age. Long connections would otherwise keep
//! their clients at the replicas that existed when they were opened.

use std::{
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{ops::config::LimitArgs, random, server::connection_state::ConnectionState};

/// How long streams may take to end after the grace period. Then the connection is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// When the connections of a server end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    max_age: Duration,
    grace: Duration,
}

impl Lifetime {
    pub(super) fn new(limits: &LimitArgs) -> Self {
        Self { max_age: limits.max_connection_age, grace: limits.max_connection_age_grace }
    }

    /// Runs a connection to its end. `shut_down` makes it accept no further calls; over HTTP/2, the client receives
    /// GOAWAY. Returns `None` if calls were still in progress after the grace period and were aborted.
    pub(super) async fn run<C: Future>(
        self,
        connection: C,
        shut_down: impl Fn(Pin<&mut C>),
        is_http1: bool,
        state: ConnectionState,
        shutdown: CancellationToken,
    ) -> Option<C::Output> {
        let mut connection = pin!(connection);
        // Differs, so that connections which were opened together do not end together.
        let max_age = random::vary(self.max_age, 0.1);
        let is_shutdown = tokio::select! {
            biased;
            ended = &mut connection => return Some(ended),
            () = shutdown.cancelled() => true,
            () = sleep(max_age) => false,
        };
        if !is_shutdown {
            state.set_too_old();
            if !is_http1 {
                shut_down(connection.as_mut());
            }
            tokio::select! {
                biased;
                ended = &mut connection => return Some(ended),
                () = shutdown.cancelled() => {}
                () = sleep(self.grace) => state.end_streams(),
            }
        }
        shut_down(connection.as_mut());
        if shutdown.is_cancelled() {
            // Connections that take too long are closed at the drain timeout of the server.
            return Some(connection.await);
        }
        timeout(CLOSE_LIMIT, connection).await.ok()
    }
}

//! Checks the feed of revocations, for the command `doctor`.

use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tonic::transport;

use super::{follow::Follower, peer::Peer};
use crate::{auth::claims, ops::doctor::Finding};

/// How long connecting and receiving all revocations may take.
const LIMIT: Duration = Duration::from_secs(10);

impl Follower {
    /// Receives the snapshot of each peer, and disconnects.
    pub async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for peer in &self.peers {
            findings.push(self.check_peer(peer).await);
        }
        findings
    }

    async fn check_peer(&self, peer: &Peer) -> Finding {
        let snapshot = timeout(LIMIT, self.read_snapshot(peer)).await.context("no snapshot in time");
        // With a wrong clock, the peer may also refuse the token.
        if !*self.view.clock_in_sync().borrow() {
            let limit = claims::LEEWAY.as_secs();
            let message = format!("the clock of {peer} differs from that of this machine by more than {limit} s");
            return Finding::failed("feed", message, "timedatectl set-ntp true, on both machines");
        }
        match snapshot.and_then(|snapshot| snapshot) {
            Ok(sessions) => Finding::ok("feed", format!("{peer} sends revocations; revoked sessions: {sessions}")),
            Err(error) => {
                let is_unreachable = error.downcast_ref::<transport::Error>().is_some();
                let fix = if is_unreachable {
                    format!("start auth-service at {peer}, or correct --auth-url or the --upstream files")
                } else {
                    "auth-service tokens issue-service NAME --scope tokens.verify, for --service-token-file".to_owned()
                };
                Finding::from_error("feed", &error.context(peer.to_string()), fix)
            }
        }
    }
}

//! What happened during a soak: calls, errors, attacks and disturbances.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::faults::{
    ledger::lock,
    report::{percentile, report_value},
};

/// How long errors may follow a disturbance: connections are established again, and feeds start again.
const SETTLE_TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });

/// How long an attack that has ended may still have an effect.
const AFTERMATH: Duration = Duration::from_secs(5);

/// A write that was acknowledged so long before the failover may not have reached the replica, and a response that
/// arrived so long after it may have been sent before.
const REPLICATION_LAG: Duration = Duration::from_secs(2);

/// At most this number of failures is kept with their details.
const MAX_DETAILS: usize = 20;

/// An error that an honest caller received.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Code and reason.
    pub reason: String,
    pub message: String,
    /// Whether a retry may succeed.
    pub is_transient: bool,
}

/// The responses of one kind of call, without an attack and with at least one.
#[derive(Default)]
struct Durations([Vec<Duration>; 2]);

/// How often an attack ran, and what it did.
#[derive(Default)]
struct AttackCount {
    runs: usize,
    actions: usize,
}

/// An attack that lasts, or ended less than [`AFTERMATH`] ago.
struct RecentAttack {
    name: &'static str,
    ended_at: Option<Instant>,
}

#[derive(Default)]
struct Disturbances {
    active: usize,
    last_end: Option<Instant>,
}

#[derive(Default)]
pub struct Journal {
    durations: Mutex<BTreeMap<String, Durations>>,
    /// Errors during disturbances, after which the call was retried, by kind and reason.
    retries: Mutex<BTreeMap<String, usize>>,
    /// Errors at other times, by kind, reason and attacks.
    failures: Mutex<BTreeMap<String, usize>>,
    details: Mutex<Vec<String>>,
    recent_attacks: Mutex<Vec<RecentAttack>>,
    attacks: Mutex<BTreeMap<&'static str, AttackCount>>,
    disturbances: Mutex<Disturbances>,
    /// The time in which acknowledged writes were lost by the failover.
    lost: Mutex<Option<(Instant, Option<Instant>)>>,
    revocations: Mutex<Vec<Duration>>,
}

impl Journal {
    pub fn record_call(&self, kind: &str, took: Duration) {
        let is_attacked = lock(&self.recent_attacks).iter().any(|attack| attack.ended_at.is_none());
        let mut durations = lock(&self.durations);
        durations.entry(kind.to_owned()).or_default().0[usize::from(is_attacked)].push(took);
    }

    /// Records an error after which the call is retried. It is a failure unless a disturbance explains it.
    pub fn record_retry(&self, kind: &str, problem: &Problem) {
        if self.is_disturbed() {
            *lock(&self.retries).entry(format!("{kind}: {}", problem.reason)).or_default() += 1;
        } else {
            self.record_failure(kind, &problem.reason, &problem.message);
        }
    }

    /// Records something that must not happen, with the attacks at this time.
    pub fn record_failure(&self, kind: &str, reason: &str, message: &str) {
        let attacks = self.describe_attacks();
        *lock(&self.failures).entry(format!("{kind}: {reason} during {attacks}")).or_default() += 1;
        let mut details = lock(&self.details);
        if details.len() < MAX_DETAILS {
            details.push(format!("{kind}: {reason} during {attacks}: {message}"));
        }
    }

    /// Names the attacks that last or have just ended.
    fn describe_attacks(&self) -> String {
        let mut attacks = lock(&self.recent_attacks);
        attacks.retain(|attack| attack.ended_at.is_none_or(|end| end.elapsed() < AFTERMATH));
        let describe = |attack: &RecentAttack| match attack.ended_at {
            None => attack.name.to_owned(),
            Some(_) => format!("({}, ended)", attack.name),
        };
        let names: Vec<_> = attacks.iter().map(describe).collect();
        if names.is_empty() { "no attack".to_owned() } else { names.join(" + ") }
    }

    pub fn record_revocation(&self, lag: Duration) {
        lock(&self.revocations).push(lag);
    }

    pub fn begin_attack(&self, name: &'static str) {
        lock(&self.recent_attacks).push(RecentAttack { name, ended_at: None });
    }

    pub fn end_attack(&self, name: &'static str, actions: usize) {
        let mut recent = lock(&self.recent_attacks);
        let ended = recent.iter_mut().find(|attack| attack.name == name && attack.ended_at.is_none());
        if let Some(ended) = ended {
            ended.ended_at = Some(Instant::now());
        }
        recent.retain(|attack| attack.ended_at.is_none_or(|end| end.elapsed() < AFTERMATH));
        drop(recent);
        let mut attacks = lock(&self.attacks);
        let count = attacks.entry(name).or_default();
        count.runs += 1;
        count.actions += actions;
    }

    pub fn begin_disturbance(&self) {
        lock(&self.disturbances).active += 1;
    }

    pub fn end_disturbance(&self) {
        let mut disturbances = lock(&self.disturbances);
        disturbances.active -= 1;
        disturbances.last_end = Some(Instant::now());
    }

    /// Reports whether a disturbance lasts, or ended recently.
    pub fn is_disturbed(&self) -> bool {
        let disturbances = lock(&self.disturbances);
        disturbances.active > 0 || disturbances.last_end.is_some_and(|end| end.elapsed() < SETTLE_TIME)
    }

    /// From now on, the failover loses acknowledged writes.
    pub fn begin_loss(&self) {
        *lock(&self.lost) = Some((Instant::now(), None));
    }

    pub fn end_loss(&self) {
        if let Some((_, end)) = &mut *lock(&self.lost) {
            *end = Some(Instant::now());
        }
    }

    /// Reports whether a write that was acknowledged at this time may have been lost.
    pub fn may_be_lost(&self, acknowledged_at: Instant) -> bool {
        let lost = *lock(&self.lost);
        lost.is_some_and(|(begin, end)| {
            acknowledged_at + REPLICATION_LAG >= begin && end.is_none_or(|end| acknowledged_at <= end + REPLICATION_LAG)
        })
    }

    /// Prints all measurements. Returns the failures.
    pub fn report(&self) -> Vec<String> {
        for (kind, Durations([quiet, attacked])) in &*lock(&self.durations) {
            report_value(kind, format_args!("{}, during attacks {}", summary(quiet), summary(attacked)));
        }
        for (error, count) in &*lock(&self.retries) {
            report_value("retried during a disturbance", format_args!("{count} x {error}"));
        }
        for (name, count) in &*lock(&self.attacks) {
            report_value("attack", format_args!("{name}: {} runs, {} actions", count.runs, count.actions));
        }
        report_value("from the response to Logout to the last accepted call", summary(&lock(&self.revocations)));
        for (failure, count) in &*lock(&self.failures) {
            report_value("FAILED", format_args!("{count} x {failure}"));
        }
        lock(&self.details).clone()
    }
}

fn summary(values: &[Duration]) -> String {
    if values.is_empty() {
        return "0 calls".to_owned();
    }
    let at = |percent| percentile(percent, values.to_vec());
    format!("{} calls, p50 {:.1?}, p99 {:.1?}, max {:.1?}", values.len(), at(50), at(99), at(100))
}

//! What a verifier knows, and for how long it trusts it.

use std::time::Duration;

use metrics_util::debugging::DebuggingRecorder;
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        revocation::{Freshness, MAX_SESSIONS, RETENTION, RevocationView, Verdict},
    },
    clock::Clock,
};
use tokio::{
    task::yield_now,
    time::{advance, sleep},
};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const ENDED: Uuid = Uuid::from_u128(1);
const LIVE: Uuid = Uuid::from_u128(2);

fn view(max_staleness: Duration) -> RevocationView {
    RevocationView::new(max_staleness, Clock::system())
}

/// A token of a session, issued at this moment.
fn claims(session_id: Uuid) -> AccessClaims {
    let (clock, id) = (Clock::system(), Uuid::nil());
    let now = clock.now();
    AccessClaims { id, user_id: id, session_id, roles: Vec::new(), issued_at: now, expires_at: now + 300 * SECOND }
}

fn check(view: &RevocationView, session_id: Uuid) -> Verdict {
    view.check(&claims(session_id))
}

fn serves(view: &RevocationView) -> bool {
    check(view, LIVE) != Verdict::Unknown
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_the_first_snapshot() {
    let view = view(30 * SECOND);
    assert_eq!(view.freshness(), Freshness::Cold);
    assert!(!serves(&view));
    view.add([ENDED]);
    assert_eq!(view.freshness(), Freshness::Cold, "news are no snapshot");
    assert!(!serves(&view));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_the_live_from_the_ended() {
    let view = view(30 * SECOND);
    view.replace([ENDED], None);
    view.add([]);
    assert_eq!((check(&view, ENDED), check(&view, LIVE)), (Verdict::Revoked, Verdict::Live));
    advance(7 * SECOND).await;
    view.replace([], None);
    assert_eq!(check(&view, ENDED), Verdict::Live);
    view.add([ENDED]);
    assert_eq!(check(&view, ENDED), Verdict::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_alone_makes_nothing_fresh() {
    let view = view(Duration::ZERO);
    view.replace([ENDED], None);
    assert_eq!(view.freshness(), Freshness::Cold);
    view.add([]);
    assert_eq!(view.freshness(), Freshness::Fresh);
    advance(4 * SECOND).await;
    view.replace([ENDED], None);
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Lost, false), "its peer may have gone blind");
}

#[tokio::test(start_paused = true)]
async fn what_was_just_heard_outlives_the_snapshot_of_a_peer_that_has_not_heard_it_yet() {
    let view = view(30 * SECOND);
    view.replace([], None);
    view.add([ENDED]);
    advance(6 * SECOND).await;
    view.replace([], None);
    view.add([]);
    assert_eq!(check(&view, ENDED), Verdict::Revoked);
    advance(SECOND).await;
    view.replace([], None);
    assert_eq!(check(&view, ENDED), Verdict::Live);
}

#[tokio::test(start_paused = true)]
async fn without_heartbeats_a_view_turns_stale_and_then_lost() {
    let view = view(30 * SECOND);
    view.replace([], None);
    view.add([]);
    advance(3 * SECOND).await;
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Fresh, true));
    advance(SECOND).await;
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Stale, true));
    advance(26 * SECOND).await;
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Stale, true));
    advance(SECOND).await;
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Lost, false));
    view.add([]);
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Fresh, true));
}

#[tokio::test(start_paused = true)]
async fn a_strict_view_serves_no_longer_than_it_is_fresh() {
    let view = view(Duration::ZERO);
    view.replace([], None);
    view.add([]);
    advance(3 * SECOND).await;
    assert!(serves(&view));
    advance(SECOND).await;
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Lost, false));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_session_is_remembered_as_long_as_any_token_of_it_may_live() {
    let view = view(30 * SECOND);
    view.replace([], None);
    view.add([ENDED]);
    advance(RETENTION.saturating_sub(SECOND)).await;
    view.add([]);
    assert_eq!(view.snapshot().0, [ENDED]);
    advance(62 * SECOND).await;
    view.add([]);
    assert!(view.snapshot().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_change_of_freshness_is_reported_once() {
    let view = view(10 * SECOND);
    let mut seen = Vec::new();
    let changes = async {
        advance(SECOND).await;
        view.replace([], None);
        view.add([]);
        tokio::time::sleep(2 * SECOND).await;
        view.add([]);
        tokio::time::sleep(20 * SECOND).await;
        view.add([]);
        tokio::time::sleep(SECOND).await;
    };
    tokio::select! {
        () = view.watch_freshness(|freshness| seen.push(freshness)) => {}
        () = changes => {}
    }
    let expected = [Freshness::Cold, Freshness::Fresh, Freshness::Stale, Freshness::Lost, Freshness::Fresh];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn too_many_revoked_sessions_make_older_tokens_outdated_and_forget_none() {
    let view = view(30 * SECOND);
    view.replace([], None);
    view.add([ENDED]);
    let (of_ended, of_live) = (claims(ENDED), claims(LIVE));
    view.add((0..MAX_SESSIONS).map(|number| Uuid::from_u128(1_000 + number as u128)));
    assert_eq!(view.check(&of_ended), Verdict::Outdated, "it is no longer named");
    assert_eq!(view.check(&of_live), Verdict::Outdated, "nobody can say any more");
    let now = Clock::system().now();
    let refreshed = AccessClaims { issued_at: now + claims::LEEWAY + SECOND, ..of_live };
    assert_eq!(view.check(&refreshed), Verdict::Live, "whose session lives has a newer token");
    view.add([LIVE]);
    assert_eq!(view.check(&refreshed), Verdict::Revoked);
    // Who starts over with a snapshot learns of the instant, too.
    let (sessions, issued_before) = view.snapshot();
    let other = self::view(30 * SECOND);
    other.replace(sessions, issued_before);
    other.add([]);
    assert_eq!(other.check(&of_ended), Verdict::Outdated);
}

#[tokio::test(start_paused = true)]
async fn states_and_what_was_checked_in_them_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let view = view(30 * SECOND);
    let entered = |_| {};
    let states = async {
        // Cold until now, and fresh.
        yield_now().await;
        assert!(!serves(&view));
        view.replace([ENDED], None);
        view.add([]);
        yield_now().await;
        assert!(serves(&view));
        // Stale, and lost.
        sleep(10 * SECOND).await;
        assert!(serves(&view) && serves(&view));
        sleep(30 * SECOND).await;
        assert!(!serves(&view));
    };
    tokio::select! {
        () = view.watch_freshness(entered) => {}
        () = states => {}
    }
    let mut counted: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let label = key.key().labels().map(|label| label.value().to_owned()).collect::<String>();
            let name = key.key().name().trim_start_matches("taskey_").to_owned();
            (name, label, format!("{value:?}"))
        })
        .collect();
    counted.sort();
    let expected = [
        ("revocation_state_entered_total", "cold", "Counter(1)"),
        ("revocation_state_entered_total", "fresh", "Counter(1)"),
        ("revocation_state_entered_total", "lost", "Counter(1)"),
        ("revocation_state_entered_total", "stale", "Counter(1)"),
        ("revoked_sessions", "", "Gauge(1.0)"),
        ("tokens_checked_without_fresh_revocations_total", "cold", "Counter(1)"),
        ("tokens_checked_without_fresh_revocations_total", "lost", "Counter(1)"),
        ("tokens_checked_without_fresh_revocations_total", "stale", "Counter(2)"),
    ];
    assert_eq!(counted, expected.map(|(name, label, value)| (name.to_owned(), label.to_owned(), value.to_owned())));
}

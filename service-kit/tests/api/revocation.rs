//! The revoked sessions that a verifier knows, and how long it relies on them.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use service_kit::{
    auth::{
        actor::Actor,
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
const REVOKED: Uuid = Uuid::from_u128(1);
const LIVE: Uuid = Uuid::from_u128(2);

fn view(max_staleness: Duration) -> RevocationView {
    RevocationView::new(max_staleness, Clock::system())
}

/// Returns the claims of a token that is issued now.
fn claims(session_id: Uuid) -> AccessClaims {
    let (clock, id) = (Clock::system(), Uuid::nil());
    let now = clock.now();
    AccessClaims {
        id,
        user_id: id,
        session_id,
        roles: Vec::new(),
        scopes: None,
        authentication: None,
        issued_at: now,
        expires_at: now + 300 * SECOND,
        actors: Vec::new(),
    }
}

fn check(view: &RevocationView, session_id: Uuid) -> Verdict {
    view.check(&claims(session_id))
}

fn accepts_tokens(view: &RevocationView) -> bool {
    check(view, LIVE) != Verdict::Unknown
}

#[tokio::test(start_paused = true)]
async fn view_is_cold_before_the_first_snapshot() {
    let view = view(30 * SECOND);
    assert_eq!(view.freshness(), Freshness::Cold);
    assert!(!accepts_tokens(&view));
    view.add([REVOKED]);
    assert_eq!(view.freshness(), Freshness::Cold, "an update is not a snapshot");
    assert!(!accepts_tokens(&view));
}

#[tokio::test(start_paused = true)]
async fn snapshot_separates_live_and_revoked_sessions() {
    let view = view(30 * SECOND);
    view.add_snapshot([REVOKED], None);
    view.add([]);
    assert_eq!((check(&view, REVOKED), check(&view, LIVE)), (Verdict::Revoked, Verdict::Active));
}

#[tokio::test(start_paused = true)]
async fn token_is_revoked_with_the_session_of_any_service_that_acts_for_the_user() {
    let view = view(30 * SECOND);
    view.add_snapshot([REVOKED], None);
    view.add([]);
    let actor = |session_id| Actor { id: Uuid::nil(), session_id };
    let verdict = |sessions: &[Option<Uuid>]| {
        let actors = sessions.iter().map(|session| actor(*session)).collect();
        view.check(&AccessClaims { actors, ..claims(LIVE) })
    };
    for sessions in [&[Some(REVOKED)][..], &[Some(LIVE), Some(REVOKED)], &[None, None, Some(REVOKED)]] {
        assert_eq!(verdict(sessions), Verdict::Revoked, "{sessions:?}");
    }
    assert_eq!(verdict(&[Some(LIVE), None, Some(LIVE)]), Verdict::Active);
}

#[tokio::test(start_paused = true)]
async fn snapshot_without_heartbeat_is_not_fresh() {
    let view = view(Duration::ZERO);
    view.add_snapshot([REVOKED], None);
    assert_eq!(view.freshness(), Freshness::Cold);
    view.add([]);
    assert_eq!(view.freshness(), Freshness::Fresh);
    advance(4 * SECOND).await;
    view.add_snapshot([REVOKED], None);
    assert_eq!(
        (view.freshness(), accepts_tokens(&view)),
        (Freshness::Lost, false),
        "the peer may not receive updates itself"
    );
}

#[tokio::test(start_paused = true)]
async fn revoked_session_survives_a_snapshot_that_does_not_contain_it_until_its_tokens_have_expired() {
    let view = view(30 * SECOND);
    view.add_snapshot([], None);
    view.add([REVOKED]);
    advance(RETENTION.saturating_sub(SECOND)).await;
    view.add_snapshot([], None);
    view.add([]);
    assert_eq!(check(&view, REVOKED), Verdict::Revoked, "the database of the peer may have lost it");
    advance(62 * SECOND).await;
    view.add([]);
    assert_eq!(check(&view, REVOKED), Verdict::Active);
}

#[tokio::test(start_paused = true)]
async fn view_without_heartbeats_turns_stale_and_then_lost() {
    let view = view(30 * SECOND);
    view.add_snapshot([], None);
    view.add([]);
    advance(3 * SECOND).await;
    assert_eq!((view.freshness(), accepts_tokens(&view)), (Freshness::Fresh, true));
    advance(SECOND).await;
    assert_eq!((view.freshness(), accepts_tokens(&view)), (Freshness::Stale, true));
    advance(26 * SECOND).await;
    assert_eq!((view.freshness(), accepts_tokens(&view)), (Freshness::Stale, true));
    advance(SECOND).await;
    assert_eq!((view.freshness(), accepts_tokens(&view)), (Freshness::Lost, false));
    view.add([]);
    assert_eq!((view.freshness(), accepts_tokens(&view)), (Freshness::Fresh, true));
}

#[tokio::test(start_paused = true)]
async fn strict_view_accepts_tokens_only_while_it_is_fresh() {
    let view = view(Duration::ZERO);
    view.add_snapshot([], None);
    view.add([]);
    advance(3 * SECOND).await;
    assert!(accepts_tokens(&view));
    advance(SECOND).await;
    assert_eq!((view.freshness(), accepts_tokens(&view)), (Freshness::Lost, false));
}

#[tokio::test(start_paused = true)]
async fn revoked_session_is_stored_until_its_last_token_has_expired() {
    let view = view(30 * SECOND);
    view.add_snapshot([], None);
    view.add([REVOKED]);
    advance(RETENTION.saturating_sub(SECOND)).await;
    view.add([]);
    assert_eq!(view.snapshot().0, [REVOKED]);
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
        view.add_snapshot([], None);
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
async fn too_many_revoked_sessions_make_older_tokens_outdated() {
    let view = view(30 * SECOND);
    view.add_snapshot([], None);
    view.add([REVOKED]);
    let (revoked_claims, live_claims) = (claims(REVOKED), claims(LIVE));
    view.add((0..MAX_SESSIONS).map(|number| Uuid::from_u128(1_000 + number as u128)));
    assert_eq!(view.check(&revoked_claims), Verdict::Outdated, "the session is no longer listed");
    assert_eq!(view.check(&live_claims), Verdict::Outdated, "the session may have been revoked");
    let now = Clock::system().now();
    let refreshed = AccessClaims { issued_at: now + claims::LEEWAY + SECOND, ..live_claims };
    assert_eq!(view.check(&refreshed), Verdict::Active, "a live session has a newer token");
    view.add([LIVE]);
    assert_eq!(view.check(&refreshed), Verdict::Revoked);
    // A snapshot contains `issued_before` as well.
    let (sessions, issued_before) = view.snapshot();
    let other = self::view(30 * SECOND);
    other.add_snapshot(sessions, issued_before);
    other.add([]);
    assert_eq!(other.check(&revoked_claims), Verdict::Outdated);
}

#[tokio::test(start_paused = true)]
async fn states_and_checks_without_fresh_revocations_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorder_guard = metrics::set_default_local_recorder(&recorder);
    let view = view(30 * SECOND);
    let ignore = |_| {};
    let states = async {
        // Cold until now, then fresh.
        yield_now().await;
        assert!(!accepts_tokens(&view));
        view.add_snapshot([REVOKED], None);
        view.add([]);
        yield_now().await;
        assert!(accepts_tokens(&view));
        // Stale, then lost.
        sleep(10 * SECOND).await;
        assert!(accepts_tokens(&view) && accepts_tokens(&view));
        sleep(30 * SECOND).await;
        assert!(!accepts_tokens(&view));
    };
    tokio::select! {
        () = view.watch_freshness(ignore) => {}
        () = states => {}
    }
    let rendered = recorder.handle().render();
    let mut counted: Vec<_> = rendered.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    counted.sort_unstable();
    let expected = [
        r#"taskey_revocation_state_entered_total{state="cold"} 1"#,
        r#"taskey_revocation_state_entered_total{state="fresh"} 1"#,
        r#"taskey_revocation_state_entered_total{state="lost"} 1"#,
        r#"taskey_revocation_state_entered_total{state="stale"} 1"#,
        "taskey_revoked_sessions 1",
        r#"taskey_tokens_checked_without_fresh_revocations_total{state="cold"} 1"#,
        r#"taskey_tokens_checked_without_fresh_revocations_total{state="lost"} 1"#,
        r#"taskey_tokens_checked_without_fresh_revocations_total{state="stale"} 2"#,
    ];
    assert_eq!(counted, expected);
}

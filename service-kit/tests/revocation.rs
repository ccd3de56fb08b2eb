//! What a verifier knows, and for how long it trusts it.

use std::time::Duration;

use service_kit::revocation::{Freshness, REMEMBERED, RevocationView, Verdict};
use tokio::time::advance;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const ENDED: Uuid = Uuid::from_u128(1);
const LIVE: Uuid = Uuid::from_u128(2);

fn serves(view: &RevocationView) -> bool {
    !matches!(view.check(LIVE), Verdict::Unknown { .. })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_the_first_snapshot() {
    let view = RevocationView::new(30 * SECOND);
    assert_eq!(view.freshness(), Freshness::Cold);
    assert!(!serves(&view));
    view.add([ENDED]);
    assert_eq!(view.freshness(), Freshness::Cold, "news are no snapshot");
    assert!(!serves(&view));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_the_live_from_the_ended() {
    let view = RevocationView::new(30 * SECOND);
    view.replace([ENDED]);
    view.add([]);
    assert_eq!((view.check(ENDED), view.check(LIVE)), (Verdict::Revoked, Verdict::Live));
    advance(7 * SECOND).await;
    view.replace([]);
    assert_eq!(view.check(ENDED), Verdict::Live);
    view.add([ENDED]);
    assert_eq!(view.check(ENDED), Verdict::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_alone_makes_nothing_fresh() {
    let view = RevocationView::new(Duration::ZERO);
    view.replace([ENDED]);
    assert_eq!(view.freshness(), Freshness::Cold);
    view.add([]);
    assert_eq!(view.freshness(), Freshness::Fresh);
    advance(4 * SECOND).await;
    view.replace([ENDED]);
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Lost, false), "its peer may have gone blind");
}

#[tokio::test(start_paused = true)]
async fn what_was_just_heard_outlives_the_snapshot_of_a_peer_that_has_not_heard_it_yet() {
    let view = RevocationView::new(30 * SECOND);
    view.replace([]);
    view.add([ENDED]);
    advance(6 * SECOND).await;
    view.replace([]);
    view.add([]);
    assert_eq!(view.check(ENDED), Verdict::Revoked);
    advance(SECOND).await;
    view.replace([]);
    assert_eq!(view.check(ENDED), Verdict::Live);
}

#[tokio::test(start_paused = true)]
async fn without_heartbeats_a_view_turns_stale_and_then_lost() {
    let view = RevocationView::new(30 * SECOND);
    view.replace([]);
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
    let view = RevocationView::new(Duration::ZERO);
    view.replace([]);
    view.add([]);
    advance(3 * SECOND).await;
    assert!(serves(&view));
    advance(SECOND).await;
    assert_eq!((view.freshness(), serves(&view)), (Freshness::Lost, false));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_session_is_remembered_as_long_as_any_token_of_it_may_live() {
    let view = RevocationView::new(30 * SECOND);
    view.replace([]);
    view.add([ENDED]);
    advance(REMEMBERED.saturating_sub(SECOND)).await;
    view.add([]);
    assert_eq!(view.sessions(), [ENDED]);
    advance(62 * SECOND).await;
    view.add([]);
    assert!(view.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_change_of_freshness_is_reported_once() {
    let view = RevocationView::new(10 * SECOND);
    let mut seen = Vec::new();
    let changes = async {
        advance(SECOND).await;
        view.replace([]);
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

package verifier

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// view is a view of revocations with a clock that tests move.
type view struct {
	*revocations
	clock time.Time
}

func newView(maxStaleness time.Duration) *view {
	view := &view{clock: time.Unix(now, 0)}
	view.revocations = newRevocations(maxStaleness, func() time.Time { return view.clock })
	return view
}

func (v *view) checkSession(session uuid.UUID) verdict {
	return v.check(&Claims{SessionID: session, IssuedAt: v.clock})
}

func (v *view) assertState(t *testing.T, expected State) {
	t.Helper()
	isActive := v.checkSession(uuid.New()) == active
	if v.State() != expected || isActive != expected.AcceptsTokens() {
		t.Fatal(v.State(), "instead of", expected)
	}
}

func TestViewIsColdUntilASnapshotAndAHeartbeat(t *testing.T) {
	view := newView(30 * time.Second)
	view.add(nil)
	view.assertState(t, Cold)
	view.addSnapshot(nil, time.Time{})
	view.assertState(t, Cold)
	view.add(nil)
	view.assertState(t, Fresh)
}

func TestViewWithoutHeartbeatsBecomesStaleAndThenExpires(t *testing.T) {
	view := newView(30 * time.Second)
	view.addSnapshot(nil, time.Time{})
	view.add(nil)
	for _, step := range []struct {
		advance time.Duration
		state   State
	}{{3 * time.Second, Fresh}, {time.Second, Stale}, {26 * time.Second, Stale}, {time.Second, Expired}} {
		view.clock = view.clock.Add(step.advance)
		view.assertState(t, step.state)
	}
	view.addSnapshot(nil, time.Time{})
	view.assertState(t, Expired)
	view.add(nil)
	view.assertState(t, Fresh)
}

func TestStrictViewAcceptsTokensOnlyWhileItIsFresh(t *testing.T) {
	view := newView(1)
	view.addSnapshot(nil, time.Time{})
	view.add(nil)
	view.clock = view.clock.Add(3 * time.Second)
	view.assertState(t, Fresh)
	view.clock = view.clock.Add(time.Second)
	view.assertState(t, Expired)
}

func TestRevokedSessionIsKeptUntilNoneOfItsTokensCanBeValid(t *testing.T) {
	view, session := newView(time.Minute), uuid.New()
	view.addSnapshot([]uuid.UUID{session}, time.Time{})
	view.add(nil)
	view.clock = view.clock.Add(retention - time.Second)
	view.addSnapshot(nil, time.Time{})
	view.add(nil)
	if view.checkSession(session) != revoked {
		t.Fatal("a snapshot without the session has removed it")
	}
	view.clock = view.clock.Add(pruneInterval + 2*time.Second)
	view.add(nil)
	if view.checkSession(session) != active || len(view.sessions) != 0 {
		t.Fatal(view.sessions)
	}
}

func TestTokenIsRevokedWithTheSessionOfAnyServiceThatActsForTheUser(t *testing.T) {
	view, session := newView(time.Minute), uuid.New()
	view.addSnapshot([]uuid.UUID{session}, time.Time{})
	view.add(nil)
	for name, test := range map[string]struct {
		actor    Actor
		expected verdict
	}{
		"the current one":       {Actor{SessionID: session}, revoked},
		"the first one":         {Actor{SessionID: uuid.New(), Actor: &Actor{Actor: &Actor{SessionID: session}}}, revoked},
		"none":                  {Actor{SessionID: uuid.New(), Actor: &Actor{SessionID: uuid.New()}}, active},
		"without known session": {Actor{}, active},
	} {
		claims := &Claims{SessionID: uuid.New(), IssuedAt: view.clock, Actor: &test.actor}
		if verdict := view.check(claims); verdict != test.expected {
			t.Error(name, verdict)
		}
	}
}

func TestTooManySessionsMakeOlderTokensOutdated(t *testing.T) {
	defer func(limit int) { maxSessions = limit }(maxSessions)
	maxSessions = 1000
	view, session := newView(30*time.Second), uuid.New()
	view.addSnapshot([]uuid.UUID{session}, time.Time{})
	view.add(nil)
	old := &Claims{SessionID: uuid.New(), IssuedAt: view.clock}
	for range 20 {
		view.clock = view.clock.Add(time.Second)
		sessions := make([]uuid.UUID, 100)
		for index := range sessions {
			sessions[index] = uuid.New()
		}
		view.add(sessions)
	}
	if view.check(old) != outdated || view.check(&Claims{SessionID: session, IssuedAt: old.IssuedAt}) != outdated {
		t.Fatal("the session may have been revoked")
	}
	if len(view.sessions) > maxSessions {
		t.Fatal(len(view.sessions), "sessions")
	}
	if refreshed := (&Claims{SessionID: uuid.New(), IssuedAt: view.clock.Add(leeway)}); view.check(refreshed) != active {
		t.Fatal("a new token is refused")
	}
}

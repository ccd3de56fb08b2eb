package verifier

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// After this time without a heartbeat, revocations may have been missed.
	heartbeatLimit = 3 * time.Second
	// How long a revoked session is kept: until none of its access tokens can be valid, and a margin. Measured from when
	// it was received, so that it does not depend on the clock of another machine.
	retention = maxLifetime + leeway + time.Minute
	// How often expired entries are removed.
	pruneInterval = time.Minute
)

// Maximum number of sessions in memory. If there are more, the oldest are replaced by a time. Tokens that were issued
// before that time are refused as expired, and active sessions have to refresh.
var maxSessions = 1_000_000

// State is how fresh the revocations are.
type State int

const (
	// Cold means that no revocations have been received since the start. No token is accepted.
	Cold State = iota
	// Fresh means that revocations are received. The last heartbeat is at most 3 s old.
	Fresh
	// Stale means that heartbeats are missing, but for less than the maximum staleness. Tokens are accepted.
	Stale
	// Expired means that heartbeats have been missing for longer than the maximum staleness. No token is accepted.
	Expired
)

// String returns the name of the state.
func (s State) String() string { return [...]string{"COLD", "FRESH", "STALE", "EXPIRED"}[s] }

// AcceptsTokens reports whether tokens are accepted in this state.
func (s State) AcceptsTokens() bool { return s == Fresh || s == Stale }

// verdict is the status of the session of a token.
type verdict int

const (
	active verdict = iota
	revoked
	// The token is too old for a decision. It must be refreshed.
	outdated
	// Revocations are not received.
	unknown
)

// revocations are the revoked sessions, in memory.
type revocations struct {
	maxStaleness time.Duration
	now          func() time.Time

	mu sync.RWMutex
	// The revoked sessions, with the time at which they were received.
	sessions map[uuid.UUID]time.Time
	// Tokens that were issued before this time are refused.
	issuedBefore  time.Time
	hasSnapshot   bool
	lastHeartbeat time.Time
	prunedAt      time.Time
	// Closed and replaced with every update and heartbeat.
	updated chan struct{}
}

// newRevocations creates an empty view. Tokens are accepted for at least heartbeatLimit after a heartbeat, because
// heartbeats may be that far apart.
func newRevocations(maxStaleness time.Duration, now func() time.Time) *revocations {
	return &revocations{
		maxStaleness: max(maxStaleness, heartbeatLimit), now: now, prunedAt: now(),
		sessions: make(map[uuid.UUID]time.Time), updated: make(chan struct{}),
	}
}

// check returns the status of the session of a token, and of those of the services that act for the user.
func (r *revocations) check(claims *Claims) verdict {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.state().AcceptsTokens() {
		return unknown
	}
	if _, isRevoked := r.sessions[claims.SessionID]; isRevoked {
		return revoked
	}
	for actor := claims.Actor; actor != nil; actor = actor.Actor {
		if _, isRevoked := r.sessions[actor.SessionID]; isRevoked {
			return revoked
		}
	}
	if claims.IssuedAt.Before(r.issuedBefore) {
		return outdated
	}
	return active
}

// State returns how fresh the revocations are now.
func (r *revocations) State() State {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state()
}

func (r *revocations) state() State {
	silence := r.now().Sub(r.lastHeartbeat)
	switch {
	case r.lastHeartbeat.IsZero():
		return Cold
	case silence <= heartbeatLimit:
		return Fresh
	case silence <= r.maxStaleness:
		return Stale
	}
	return Expired
}

// updates returns a channel that is closed with the next update or heartbeat.
func (r *revocations) updates() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.updated
}

// addSnapshot adds the sessions of a snapshot. Others remain until none of their tokens can be valid, because the
// database of auth-service may have lost them. A snapshot is not a heartbeat, because a replica of auth-service that
// cannot read its database may send an old one.
func (r *revocations) addSnapshot(sessions []uuid.UUID, issuedBefore time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.insert(sessions)
	if issuedBefore.After(r.issuedBefore) {
		r.issuedBefore = issuedBefore
	}
	r.hasSnapshot = true
}

// add adds revoked sessions, if any. Each call is also a heartbeat. Heartbeats count only after a snapshot.
func (r *revocations) add(sessions []uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.hasSnapshot {
		r.lastHeartbeat = now
	}
	if now.Sub(r.prunedAt) > pruneInterval {
		maps.DeleteFunc(r.sessions, func(_ uuid.UUID, receivedAt time.Time) bool { return now.Sub(receivedAt) >= retention })
		r.prunedAt = now
	}
	r.insert(sessions)
	close(r.updated)
	r.updated = make(chan struct{})
}

// insert adds sessions, and limits their number. If there are too many, the older half is replaced by a time after
// which none of their tokens was issued, so no revocation is lost.
func (r *revocations) insert(sessions []uuid.UUID) {
	now := r.now()
	for _, session := range sessions {
		r.sessions[session] = now
	}
	if len(r.sessions) <= maxSessions {
		return
	}
	times := slices.SortedFunc(maps.Values(r.sessions), time.Time.Compare)
	lastRemoved := times[len(times)/2]
	maps.DeleteFunc(r.sessions, func(_ uuid.UUID, receivedAt time.Time) bool { return !receivedAt.After(lastRemoved) })
	// The clock of the issuer may differ by the leeway.
	if issuedBefore := lastRemoved.Add(leeway); issuedBefore.After(r.issuedBefore) {
		r.issuedBefore = issuedBefore
	}
}

package taskey

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

const (
	// How long a refresh whose response was lost is repeated. The server returns the same tokens for 60 s.
	refreshWindow = 50 * time.Second
	// How long one attempt to refresh may take.
	refreshTimeout = 5 * time.Second
)

// session has the tokens of a login, or a token that is never refreshed.
type session struct {
	auth                   authv1.AuthServiceClient
	bearer                 string
	email, password, label string
	ctx                    context.Context
	stop                   context.CancelFunc
	// Only one login or refresh runs at a time. It continues if the call that needs it is cancelled.
	renewals singleflight.Group

	mu     sync.Mutex
	tokens *authv1.TokenPair
	// When the access token is refreshed ahead of its expiry, and when it and the session expire.
	refreshAt, expiresAt, sessionExpiresAt time.Time
}

func newSession(auth authv1.AuthServiceClient, config Config) *session {
	ctx, stop := context.WithCancel(context.Background())
	return &session{
		auth: auth, bearer: config.Token, email: config.Email, password: config.Password, label: config.SessionLabel,
		ctx: ctx, stop: stop,
	}
}

func (s *session) current() *authv1.TokenPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

// isRenewable reports whether an expired access token can be replaced.
func (s *session) isRenewable() bool { return s.bearer == "" && s.email != "" }

// token returns the access token, after a login or a refresh if necessary.
func (s *session) token(ctx context.Context) (string, error) {
	if !s.isRenewable() {
		return s.bearer, nil
	}
	s.mu.Lock()
	now, token := time.Now(), s.tokens.GetAccessToken()
	isUsable, isRefreshDue := s.tokens != nil && now.Before(s.expiresAt), !now.Before(s.refreshAt)
	s.mu.Unlock()
	if isUsable && !isRefreshDue {
		return token, nil
	}
	renewal := s.renewals.DoChan("", func() (any, error) { return s.renew(token) })
	if isUsable {
		return token, nil
	}
	select {
	case result := <-renewal:
		if result.Err != nil {
			return "", result.Err
		}
		return result.Val.(string), nil
	case <-ctx.Done():
		return "", status.FromContextError(ctx.Err()).Err()
	}
}

// expire makes the next call refresh this access token, which the server has refused as expired.
func (s *session) expire(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens.GetAccessToken() == token {
		s.expiresAt, s.refreshAt = time.Time{}, time.Time{}
	}
}

// replace replaces the tokens, unless another call has replaced them.
func (s *session) replace(old, tokens *authv1.TokenPair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens != old {
		return
	}
	now := time.Now()
	lifetime := remaining(tokens.GetAccessLifetime(), tokens.GetAccessExpireTime())
	s.tokens, s.refreshAt, s.expiresAt = tokens, now.Add(lifetime*4/5), now.Add(lifetime)
	s.sessionExpiresAt = now.Add(remaining(tokens.GetRefreshLifetime(), tokens.GetRefreshExpireTime()))
}

// remaining returns how long a token is still valid. Older servers send only when it expires, by their clock.
func remaining(lifetime *durationpb.Duration, expireTime *timestamppb.Timestamp) time.Duration {
	if lifetime != nil {
		return lifetime.AsDuration()
	}
	return time.Until(expireTime.AsTime())
}

// hasExpired reports whether the session has expired.
func (s *session) hasExpired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !time.Now().Before(s.sessionExpiresAt)
}

// renew replaces an access token and returns the new one.
func (s *session) renew(token string) (string, error) {
	old := s.current()
	if old.GetAccessToken() != token {
		return old.GetAccessToken(), nil
	}
	tokens, err := s.refreshOrLogin(old)
	if err != nil {
		s.mu.Lock()
		s.refreshAt = time.Now().Add(time.Second)
		s.mu.Unlock()
		return "", err
	}
	s.replace(old, tokens)
	return tokens.GetAccessToken(), nil
}

// refreshOrLogin refreshes the tokens. It logs in if there are none, or if the session has expired, but not if it was
// revoked.
func (s *session) refreshOrLogin(old *authv1.TokenPair) (*authv1.TokenPair, error) {
	ctx, cancel := context.WithTimeout(s.ctx, refreshWindow)
	defer cancel()
	for attempt := 1; old != nil; attempt++ {
		tokens, err := s.refresh(ctx, old.GetRefreshToken())
		if err == nil {
			return tokens, nil
		}
		failure := AsError(err)
		if failure.isTransient() || failure.Reason == "RATE_LIMITED" {
			// If the response was lost, the same token returns it again.
			if sleep(ctx, max(failure.RetryAfter, backoffAfter(attempt))) {
				continue
			}
			return nil, err
		}
		hasExpired := failure.Reason == "REFRESH_TOKEN_INVALID" && s.hasExpired()
		if !hasExpired && failure.Reason != "REFRESH_TOKEN_SUPERSEDED" {
			return nil, err
		}
		// A superseded session is lost as well, because only this client could have its newer token.
		old = nil
	}
	return s.auth.Login(ctx, &authv1.LoginRequest{Email: s.email, Password: s.password, SessionLabel: s.label})
}

func (s *session) refresh(ctx context.Context, token string) (*authv1.TokenPair, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return s.auth.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: token})
}

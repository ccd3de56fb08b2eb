// Package verifier verifies access tokens of Taskey in other services, without a call for each token.
//
// A [Verifier] receives the revocations of auth-service, so that it refuses the tokens of a session within a second
// after its logout. It has interceptors for servers of gRPC, and middleware for servers of HTTP.
package verifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"taskey.dev/taskey"
)

// Maximum size of a message of the feed. A snapshot is split into many messages.
const maxMessageBytes = 16 << 20

// Config configures a [Verifier]. Address is required, and a credential: KeyFile, ServiceToken, or a certificate in
// TLS.
type Config struct {
	// Address is the host and port of auth-service or of the gateway.
	Address string
	// TLS names the files for TLS.
	TLS taskey.TLS
	// Plaintext disables TLS.
	Plaintext bool
	// Issuer and Audience are those of the tokens. The default of both is taskey.
	Issuer, Audience string
	// KeyFile has the keys as a JWK Set; it must have mode 0600. It is read again when it changes. By default, the feed
	// provides the public keys, which requires that tokens are signed with EdDSA.
	KeyFile string
	// ServiceToken authenticates this verifier: a token of `auth-service tokens issue-service --scope tokens.verify`. By
	// default, the verifier signs a token with the first key of KeyFile.
	ServiceToken string
	// MaxStaleness is how long tokens are accepted while no revocations can be received: at most 15 min. Values below 3 s
	// have the effect of 3 s. The default is 30 s.
	MaxStaleness time.Duration
	// Logger is the log. The default is [slog.Default].
	Logger *slog.Logger
}

// Verifier verifies access tokens. It is safe for concurrent use.
type Verifier struct {
	config      Config
	log         *slog.Logger
	options     []grpc.DialOption
	revocations *revocations
	// nil until the first keys are received.
	keys atomic.Pointer[Keys]
	stop context.CancelFunc

	// The epoch of the last message, and whether the clocks differ. Used by one goroutine.
	epoch    string
	isSkewed bool
}

// New creates a verifier and follows the revocations until Close.
func New(config Config) (*Verifier, error) {
	if config.Issuer == "" {
		config.Issuer = "taskey"
	}
	if config.Audience == "" {
		config.Audience = "taskey"
	}
	if config.MaxStaleness == 0 {
		config.MaxStaleness = 30 * time.Second
	}
	if config.MaxStaleness > maxLifetime {
		return nil, fmt.Errorf("verifier: MaxStaleness must be at most %s", maxLifetime)
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	verifier := &Verifier{config: config, log: config.Logger, revocations: newRevocations(config.MaxStaleness, time.Now)}
	if config.KeyFile != "" {
		keys, err := readKeys(config.KeyFile, time.Now())
		if err != nil {
			return nil, fmt.Errorf("verifier: %w", err)
		}
		verifier.keys.Store(keys)
	}
	transport, err := taskey.Credentials(config.TLS, config.Plaintext)
	if err != nil {
		return nil, err
	}
	verifier.options = []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: connectTimeout,
		}),
	}
	ctx, stop := context.WithCancel(context.Background())
	verifier.stop = stop
	go verifier.run(ctx)
	if config.KeyFile != "" {
		go verifier.pollKeys(ctx)
	}
	return verifier, nil
}

// Close stops following the revocations. Tokens are accepted until the maximum staleness.
func (v *Verifier) Close() { v.stop() }

// State returns how fresh the revocations are. A service is ready while its verifier accepts tokens.
func (v *Verifier) State() State { return v.revocations.State() }

// Verify returns the claims of an access token. The error is a gRPC status with the reason: UNAUTHENTICATED if the
// token is not valid, or UNAVAILABLE / VERIFIER_NOT_READY if revocations are not received, because clients discard
// their tokens after UNAUTHENTICATED.
func (v *Verifier) Verify(token string) (*Claims, error) {
	state, keys := v.State(), v.keys.Load()
	if !state.AcceptsTokens() || keys == nil {
		return nil, errNotReady
	}
	claims, err := keys.Verify(token, v.config.Issuer, v.config.Audience, time.Now())
	switch {
	case errors.Is(err, ErrExpired):
		return nil, errTokenExpired
	case errors.Is(err, ErrKeyUnknown) && state != Fresh:
		// New keys are received with the revocations, so they may be missing too.
		return nil, errNotReady
	case err != nil:
		return nil, errTokenInvalid
	}
	if err := v.check(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// check reports why the token of a caller is no longer valid, or nil if it is.
func (v *Verifier) check(claims *Claims) error {
	if claims.hasExpired(time.Now()) {
		return errTokenExpired
	}
	switch v.revocations.check(claims) {
	case revoked:
		return errTokenRevoked
	case outdated:
		return errTokenExpired
	case unknown:
		return errNotReady
	}
	return nil
}

// The errors have the reasons and messages of Taskey's own services.
var (
	errTokenMissing = newError(codes.Unauthenticated, "TOKEN_MISSING",
		"an access token is required: authorization: Bearer <token>")
	errTokenInvalid = newError(codes.Unauthenticated, "TOKEN_INVALID", "the access token is not valid")
	errTokenExpired = newError(codes.Unauthenticated, "TOKEN_EXPIRED", "the access token has expired")
	errTokenRevoked = newError(codes.Unauthenticated, "TOKEN_REVOKED", "the session of the access token has ended")
	errNotReady     = newError(codes.Unavailable, "VERIFIER_NOT_READY",
		"revocations are not received at the moment, so no token is accepted",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
)

func newError(code codes.Code, reason, message string, details ...protoadapt.MessageV1) error {
	details = append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: "taskey"}}, details...)
	result, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return result.Err()
}

// verifyHeader verifies the token in the values of the authorization header (RFC 6750, section 2.1).
func (v *Verifier) verifyHeader(values []string) (*Claims, error) {
	if len(values) == 0 {
		return nil, errTokenMissing
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "bearer") {
		return nil, errTokenInvalid
	}
	return v.Verify(token)
}

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
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
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
	// Scopes are the scopes that methods require, such as /example.v1.Reports/List. Methods that are not listed require
	// the scope of the option taskey.options.v1.scope in their contract.
	Scopes map[string]string
	// ClientAddress returns the address of the client of a call: the peer, or what a trusted proxy has written into the
	// headers of the call. Personal access tokens can be limited to networks. By default, it is the peer.
	ClientAddress func(peer netip.Addr, header func(name string) []string) netip.Addr
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
	personal    *personalTokens
	// The connection for exchanges of personal access tokens.
	conn *grpc.ClientConn
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
	// Closes connections whose peer has disappeared. Feeds have heartbeats for this.
	alive := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second})
	if verifier.conn, err = grpc.NewClient(config.Address, append(slices.Clone(verifier.options), alive)...); err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	verifier.personal = newPersonalTokens(verifier.exchange, time.Now)
	ctx, stop := context.WithCancel(context.Background())
	verifier.stop = stop
	go verifier.run(ctx)
	if config.KeyFile != "" {
		go verifier.pollKeys(ctx)
	}
	return verifier, nil
}

// Close stops following the revocations. Tokens are accepted until the maximum staleness.
func (v *Verifier) Close() {
	v.stop()
	_ = v.conn.Close()
}

// State returns how fresh the revocations are. A service is ready while its verifier accepts tokens.
func (v *Verifier) State() State { return v.revocations.State() }

// Authenticate returns the claims of an access token, or of a personal access token, which a client at this address has
// sent. The address is not valid if it is unknown; tokens that are limited to networks are then refused. The first call
// with a personal access token exchanges it at auth-service. The errors are those of Verify.
func (v *Verifier) Authenticate(ctx context.Context, token string, client netip.Addr) (*Claims, error) {
	if !isPersonal(token) {
		return v.Verify(token)
	}
	if !v.State().AcceptsTokens() {
		return nil, errNotReady
	}
	isCurrent := func(claims *Claims) bool { return v.check(claims) == nil }
	claims, err := v.personal.verify(ctx, token, client, isCurrent)
	if err != nil {
		return nil, err
	}
	if err := v.check(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// exchange exchanges a personal access token.
func (v *Verifier) exchange(
	ctx context.Context, request *authv1.ExchangePersonalAccessTokenRequest,
) (*authv1.ExchangePersonalAccessTokenResponse, error) {
	ctx, err := v.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	return authv1.NewTokenServiceClient(v.conn).ExchangePersonalAccessToken(ctx, request, grpc.WaitForReady(true))
}

// Verify returns the claims of an access token, without I/O. The error is a gRPC status with the reason: UNAUTHENTICATED if the
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
	errNoExchange = newError(codes.Unavailable, "VERIFIER_NOT_READY",
		"personal access tokens cannot be verified at the moment",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	errScopeUnknown = newError(codes.PermissionDenied, "SCOPE_MISSING", "tokens with scopes are not accepted here")
)

// tooManyExchanges is the error of a client that has sent too many unknown personal access tokens.
func tooManyExchanges(wait time.Duration) error {
	return newError(codes.ResourceExhausted, "RATE_LIMITED", "too many unknown personal access tokens from this address",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}

func newError(code codes.Code, reason, message string, details ...protoadapt.MessageV1) error {
	details = append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: "taskey"}}, details...)
	result, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return result.Err()
}

// authenticateHeader authenticates a client by the values of the authorization header (RFC 6750, section 2.1).
func (v *Verifier) authenticateHeader(ctx context.Context, values []string, client netip.Addr) (*Claims, error) {
	if len(values) == 0 {
		return nil, errTokenMissing
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "bearer") {
		return nil, errTokenInvalid
	}
	return v.Authenticate(ctx, token, client)
}

// clientAddress returns the address of a client, given the address and port of its peer.
func (v *Verifier) clientAddress(peer string, header func(name string) []string) netip.Addr {
	// The address of an unknown network, such as a Unix socket, is not valid.
	parsed, _ := netip.ParseAddrPort(peer)
	if v.config.ClientAddress == nil {
		return parsed.Addr()
	}
	return v.config.ClientAddress(parsed.Addr(), header)
}

package verifier

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

var (
	local     = netip.MustParseAddr("127.0.0.1")
	isCurrent = func(*Claims) bool { return true }
)

// personalText returns a personal access token with this id.
func personalText(id uuid.UUID) string {
	body := fmt.Sprintf("taskey_pat_%s_%s", hex.EncodeToString(id[:]), encode(secret))
	return fmt.Sprintf("%s_%08x", body, crc32.ChecksumIEEE([]byte(body)))
}

// exchanges counts the exchanges of a fake server, whose response a test determines.
type exchanges struct {
	count    atomic.Int32
	response *authv1.ExchangePersonalAccessTokenResponse
	err      error
}

func (e *exchanges) exchange(
	context.Context, *authv1.ExchangePersonalAccessTokenRequest,
) (*authv1.ExchangePersonalAccessTokenResponse, error) {
	e.count.Add(1)
	return e.response, e.err
}

// newExchanges returns a fake server, a cache in front of it, and its clock.
func newExchanges(networks ...string) (*exchanges, *personalTokens, *time.Time) {
	clock := time.Unix(now, 0)
	server := &exchanges{response: &authv1.ExchangePersonalAccessTokenResponse{
		Sub: uuid.NewString(), Sid: uuid.NewString(), Jti: uuid.NewString(), Roles: []string{"admin"},
		Scope: "tasks.read tasks.write", Networks: networks, ExpireTime: timestamppb.New(clock.Add(time.Hour)),
		TokenExpireTime: timestamppb.New(clock.Add(24 * time.Hour)),
	}}
	return server, newPersonalTokens(server.exchange, func() time.Time { return clock }), &clock
}

func TestPersonalTokenIsExchangedOnceInFiveMinutes(t *testing.T) {
	server, tokens, clock := newExchanges()
	token := personalText(uuid.New())
	for range 10 {
		claims, err := tokens.verify(t.Context(), token, local, isCurrent)
		if err != nil || !claims.PersonalAccessToken || claims.UserID.String() != server.response.GetSub() {
			t.Fatal(claims, err)
		}
		if !slices.Equal(claims.Scopes, []string{"tasks.read", "tasks.write"}) || claims.ExpiresAt.Sub(*clock) != 24*time.Hour {
			t.Fatal(claims)
		}
	}
	if count := server.count.Load(); count != 1 {
		t.Fatal(count)
	}
	*clock = clock.Add(5 * time.Minute)
	if _, err := tokens.verify(t.Context(), token, local, isCurrent); err != nil || server.count.Load() != 2 {
		t.Fatal(err, server.count.Load())
	}
}

func TestPersonalTokenThatIsNotCurrentIsExchangedAgain(t *testing.T) {
	server, tokens, _ := newExchanges()
	token := personalText(uuid.New())
	for count := range int32(3) {
		if _, err := tokens.verify(t.Context(), token, local, func(*Claims) bool { return false }); err != nil {
			t.Fatal(err)
		}
		if server.count.Load() != count+1 {
			t.Fatal(server.count.Load())
		}
	}
}

func TestCallUsesAnExchangeThatHasEndedSinceItFoundNothing(t *testing.T) {
	server, tokens, _ := newExchanges()
	token := personalText(uuid.New())
	verify := func(isCurrent func(*Claims) bool) {
		if _, err := tokens.verify(t.Context(), token, local, isCurrent); err != nil {
			t.Fatal(err)
		}
	}
	verify(isCurrent)
	isFirst := true
	verify(func(*Claims) bool {
		if !isFirst {
			return true
		}
		isFirst = false
		verify(func(*Claims) bool { return false })
		return false
	})
	if count := server.count.Load(); count != 2 {
		t.Fatal(count)
	}
}

func TestConcurrentCallsShareAnExchange(t *testing.T) {
	server, _, _ := newExchanges()
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	exchange := func(
		ctx context.Context, request *authv1.ExchangePersonalAccessTokenRequest,
	) (*authv1.ExchangePersonalAccessTokenResponse, error) {
		once.Do(func() { close(started) })
		<-release
		return server.exchange(ctx, request)
	}
	tokens, token := newPersonalTokens(exchange, func() time.Time { return time.Unix(now, 0) }), personalText(uuid.New())
	errs := make(chan error)
	for range 20 {
		go func() {
			_, err := tokens.verify(t.Context(), token, local, isCurrent)
			errs <- err
		}()
	}
	<-started
	close(release)
	for range 20 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if count := server.count.Load(); count != 1 {
		t.Fatal(count)
	}
}

func TestInvalidPersonalTokenIsRememberedForAMinute(t *testing.T) {
	server, tokens, clock := newExchanges()
	server.err = status.Error(codes.NotFound, "unknown")
	token := personalText(uuid.New())
	for range 5 {
		if _, err := tokens.verify(t.Context(), token, local, isCurrent); !errors.Is(err, errTokenInvalid) {
			t.Fatal(err)
		}
	}
	*clock = clock.Add(time.Minute)
	_, _ = tokens.verify(t.Context(), token, local, isCurrent)
	if count := server.count.Load(); count != 2 {
		t.Fatal(count)
	}
}

func TestPersonalTokenWithAChangedCharacterIsNotExchanged(t *testing.T) {
	server, tokens, _ := newExchanges()
	token := personalText(uuid.New())
	for index := range token {
		changed := []byte(token)
		if changed[index]++; changed[index] > '~' {
			changed[index] = 'A'
		}
		if _, err := tokens.verify(t.Context(), string(changed), local, isCurrent); !errors.Is(err, errTokenInvalid) {
			t.Fatal(string(changed), err)
		}
	}
	for _, text := range []string{"taskey_pat_", token + "0", token[:len(token)-1], token + "\n"} {
		if _, err := tokens.verify(t.Context(), text, local, isCurrent); !errors.Is(err, errTokenInvalid) {
			t.Fatal(text, err)
		}
	}
	if count := server.count.Load(); count != 0 {
		t.Fatal(count)
	}
}

func TestPersonalTokenIsLimitedToItsNetworks(t *testing.T) {
	_, tokens, _ := newExchanges("192.0.2.0/24", "2001:db8::/32")
	token := personalText(uuid.New())
	for address, isPermitted := range map[string]bool{
		"192.0.2.7": true, "::ffff:192.0.2.7": true, "2001:db8::1": true, "192.0.3.1": false, "127.0.0.1": false, "": false,
	} {
		client, _ := netip.ParseAddr(address)
		if _, err := tokens.verify(t.Context(), token, client, isCurrent); (err == nil) != isPermitted {
			t.Fatal(address, err)
		}
	}
}

func TestExchangeThatFailsIsUnavailableAndNotRemembered(t *testing.T) {
	server, tokens, _ := newExchanges()
	token := personalText(uuid.New())
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal, codes.PermissionDenied} {
		server.err = status.Error(code, "")
		if _, err := tokens.verify(t.Context(), token, local, isCurrent); !errors.Is(err, errNoExchange) {
			t.Fatal(code, err)
		}
	}
	server.err = nil
	if _, err := tokens.verify(t.Context(), token, local, isCurrent); err != nil {
		t.Fatal(err)
	}
}

func TestNumberOfRememberedTokensIsLimited(t *testing.T) {
	server, tokens, _ := newExchanges()
	client := netip.MustParseAddr("10.0.0.0")
	verify := func() error {
		client = client.Next()
		_, err := tokens.verify(t.Context(), personalText(uuid.New()), client, isCurrent)
		return err
	}
	for range maxPersonal + 10 {
		if err := verify(); err != nil {
			t.Fatal(err)
		}
	}
	server.err = status.Error(codes.NotFound, "unknown")
	for range maxRejected + 10 {
		if err := verify(); err == nil {
			t.Fatal("accepted")
		}
	}
	if len(tokens.accepted) != maxPersonal || len(tokens.rejected) != maxRejected {
		t.Fatal(len(tokens.accepted), len(tokens.rejected))
	}
}

func TestUnknownTokensOfAClientCauseFewExchanges(t *testing.T) {
	server, tokens, _ := newExchanges()
	known := personalText(uuid.New())
	if _, err := tokens.verify(t.Context(), known, local, isCurrent); err != nil {
		t.Fatal(err)
	}
	server.err = status.Error(codes.NotFound, "unknown")
	for index := range 200 {
		_, err := tokens.verify(t.Context(), personalText(uuid.New()), local, isCurrent)
		expected := codes.Unauthenticated
		if index >= exchangeBurst-1 {
			expected = codes.ResourceExhausted
		}
		if status.Code(err) != expected {
			t.Fatal(index, err)
		}
	}
	if count := server.count.Load(); count != exchangeBurst {
		t.Fatal(count)
	}
	// Neither its other tokens nor other clients are affected.
	if _, err := tokens.verify(t.Context(), known, local, isCurrent); err != nil {
		t.Fatal(err)
	}
	other := netip.MustParseAddr("192.0.2.1")
	if _, err := tokens.verify(t.Context(), personalText(uuid.New()), other, isCurrent); !errors.Is(err, errTokenInvalid) {
		t.Fatal(err)
	}
}

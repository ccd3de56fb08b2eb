package verifier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

const (
	// The prefix of personal access tokens, which distinguishes them from access tokens.
	personalPrefix = "taskey_pat_"
	// How long the claims of a personal access token are remembered at most.
	personalMaxAge = 5 * time.Minute
	// How long an invalid token is remembered. No token with the same text can become valid.
	rejectedMaxAge = time.Minute
	// Maximum number of remembered tokens, and of remembered invalid tokens, which do not evict valid ones.
	maxPersonal, maxRejected = 16_384, 4096
	// Maximum number of exchanges in progress. Further ones wait.
	maxExchanges = 32
	// How long an exchange may take.
	exchangeTimeout = 2 * time.Second
)

var personalFormat = regexp.MustCompile(`^taskey_pat_[0-9a-f]{32}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}$`)

// isPersonalToken reports whether a token has the format and the checksum of a personal access token.
func isPersonalToken(token string) bool {
	if !personalFormat.MatchString(token) {
		return false
	}
	body, checksum := token[:len(token)-9], token[len(token)-8:]
	return checksum == fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body)))
}

type tokenHash [sha256.Size]byte

// personalToken is the result of an exchange.
type personalToken struct {
	claims *Claims
	// The networks from which the token can be used. If empty, it can be used from everywhere.
	networks []netip.Prefix
	// Until when the claims are remembered.
	until time.Time
}

// permits reports whether the token can be used from this address, which is not valid if it is unknown.
func (p *personalToken) permits(client netip.Addr) bool {
	for _, network := range p.networks {
		if network.Contains(client.Unmap()) {
			return true
		}
	}
	return len(p.networks) == 0
}

// exchangeFunc calls TokenService.ExchangePersonalAccessToken.
type exchangeFunc func(
	context.Context, *authv1.ExchangePersonalAccessTokenRequest,
) (*authv1.ExchangePersonalAccessTokenResponse, error)

// personalTokens exchanges personal access tokens for their claims, and remembers them.
type personalTokens struct {
	exchange exchangeFunc
	now      func() time.Time
	limit    *exchangeLimit
	// Calls with the same token wait for one exchange.
	exchanges singleflight.Group
	permits   chan struct{}

	// The maps have hashes, so that no token is kept in memory.
	mu       sync.Mutex
	accepted map[tokenHash]*personalToken
	rejected map[tokenHash]time.Time
}

func newPersonalTokens(exchange exchangeFunc, now func() time.Time) *personalTokens {
	return &personalTokens{
		exchange: exchange, now: now, limit: newExchangeLimit(now), permits: make(chan struct{}, maxExchanges),
		accepted: make(map[tokenHash]*personalToken), rejected: make(map[tokenHash]time.Time),
	}
}

// verify returns the claims of a token that a client has sent. Claims that are not current are not used.
func (p *personalTokens) verify(
	ctx context.Context, token string, client netip.Addr, isCurrent func(*Claims) bool,
) (*Claims, error) {
	if !isPersonalToken(token) {
		return nil, errTokenInvalid
	}
	hash := tokenHash(sha256.Sum256([]byte(token)))
	found, err := p.find(hash, isCurrent)
	if err != nil {
		return nil, err
	}
	if found == nil {
		exchanging := p.exchanges.DoChan(string(hash[:]), func() (any, error) {
			// Another exchange may have ended since.
			if found, err := p.find(hash, isCurrent); found != nil || err != nil {
				return found, err
			}
			return p.renew(hash, token, client)
		})
		select {
		case result := <-exchanging:
			if result.Err != nil {
				return nil, result.Err
			}
			found = result.Val.(*personalToken)
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if !found.permits(client) {
		return nil, errTokenInvalid
	}
	return found.claims, nil
}

// find returns what is remembered of a token: its current claims, or that it is not valid, or nothing.
func (p *personalTokens) find(hash tokenHash, isCurrent func(*Claims) bool) (*personalToken, error) {
	p.mu.Lock()
	found, rejectedUntil := p.accepted[hash], p.rejected[hash]
	p.mu.Unlock()
	now := p.now()
	if found != nil && now.Before(found.until) && isCurrent(found.claims) {
		return found, nil
	}
	if now.Before(rejectedUntil) {
		return nil, errTokenInvalid
	}
	return nil, nil
}

// renew exchanges a token and remembers the result.
func (p *personalTokens) renew(hash tokenHash, token string, client netip.Addr) (*personalToken, error) {
	if err := p.limit.check(client); err != nil {
		return nil, err
	}
	// The exchange continues if the call that needs it is cancelled, because others may wait for it.
	ctx, cancel := context.WithTimeout(context.Background(), exchangeTimeout)
	defer cancel()
	select {
	case p.permits <- struct{}{}:
		defer func() { <-p.permits }()
	case <-ctx.Done():
		return nil, errNoExchange
	}
	request := &authv1.ExchangePersonalAccessTokenRequest{Token: token}
	if client.IsValid() {
		request.ClientAddress = client.Unmap().WithZone("").String()
	}
	response, err := p.exchange(ctx, request)
	now := p.now()
	if status.Code(err) == codes.NotFound {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.accepted, hash)
		remember(p.rejected, hash, now.Add(rejectedMaxAge), maxRejected)
		return nil, errTokenInvalid
	}
	if err != nil {
		return nil, errNoExchange
	}
	exchanged, err := parseExchanged(response, now)
	if err != nil {
		return nil, errNoExchange
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	remember(p.accepted, hash, exchanged, maxPersonal)
	return exchanged, nil
}

// remember adds an entry. If there are too many, any other one is removed.
func remember[Value any](entries map[tokenHash]Value, hash tokenHash, value Value, maximum int) {
	entries[hash] = value
	for other := range entries {
		if len(entries) <= maximum {
			return
		}
		if other != hash {
			delete(entries, other)
		}
	}
}

// parseExchanged parses the response to an exchange. Its times are those of another clock, so the claims are remembered
// for a duration, and count as issued now.
func parseExchanged(response *authv1.ExchangePersonalAccessTokenResponse, now time.Time) (*personalToken, error) {
	claims := &Claims{
		Roles: response.GetRoles(), IssuedAt: now, ExpiresAt: response.GetTokenExpireTime().AsTime(),
		PersonalAccessToken: true,
	}
	var err error
	if claims.ID, err = parseUUID(response.GetJti()); err != nil {
		return nil, err
	}
	if claims.UserID, err = parseUUID(response.GetSub()); err != nil {
		return nil, err
	}
	if claims.SessionID, err = parseUUID(response.GetSid()); err != nil {
		return nil, err
	}
	if claims.Scopes, err = parseScopes(response.GetScope()); err != nil {
		return nil, err
	}
	exchanged := &personalToken{claims: claims}
	for _, text := range response.GetNetworks() {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		exchanged.networks = append(exchanged.networks, network)
	}
	exchanged.until = now.Add(min(response.GetExpireTime().AsTime().Sub(now), personalMaxAge))
	return exchanged, nil
}

// isPersonal reports whether a token is a personal access token, valid or not.
func isPersonal(token string) bool { return strings.HasPrefix(token, personalPrefix) }

package verifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	// Maximum length of a token. Longer ones are refused before they are decoded.
	maxTokenBytes = 4096
	// Maximum lifetime of access tokens.
	maxLifetime = 15 * time.Minute
	// Tolerated difference between the clocks of two machines.
	leeway = 5 * time.Second
	// Maximum number of services that act for a user one after another.
	maxActors = 3
	// The `typ` of access tokens (RFC 9068, section 2.1), so that other kinds of JWT are refused.
	tokenType = "at+jwt"
)

// The reasons for which [Keys.Verify] refuses a token.
var (
	// ErrInvalid means that the token was not issued by this server.
	ErrInvalid = errors.New("the access token is not valid")
	// ErrKeyUnknown means that the token was signed with an unknown key, which may be a new one.
	ErrKeyUnknown = errors.New("the key of the access token is unknown")
	// ErrNotYetValid means that the token was issued in the future. The clocks of the issuer and of this machine differ.
	ErrNotYetValid = errors.New("the access token was issued in the future")
	// ErrExpired means that the token was valid, but has expired.
	ErrExpired = errors.New("the access token has expired")
)

// Claims are the claims of an access token (RFC 9068).
type Claims struct {
	// ID is the id of the token: jti.
	ID uuid.UUID
	// UserID is the user: sub.
	UserID uuid.UUID
	// SessionID is the session: sid.
	SessionID uuid.UUID
	// Roles are the roles of the user: roles.
	Roles []string
	// Scopes are what the token permits: scope. If nil, it permits all that the roles do. See Permits and RequireScope.
	Scopes []string
	// AuthenticationMethods are how the user logged in: amr (RFC 8176), such as pwd and otp. Nil if unknown.
	AuthenticationMethods []string
	// AuthenticatedAt is when the user last proved who they are: auth_time. The zero time if unknown.
	AuthenticatedAt time.Time
	// Actor is the service that acts for the user: act (RFC 8693). Nil if the user acts.
	Actor *Actor
	// PersonalAccessToken reports whether the token is a personal access token, which has no iat and jti of a JWT: ID is
	// the id of the token, and IssuedAt when it was exchanged.
	PersonalAccessToken bool
	// IssuedAt is when the token was issued: iat.
	IssuedAt time.Time
	// ExpiresAt is when the token expires: exp. It is accepted for 5 s longer, because clocks differ.
	ExpiresAt time.Time
}

// Actor is a service that acts for the user of a token (RFC 8693, section 4.1).
type Actor struct {
	// Subject is the id of the service: sub.
	Subject uuid.UUID
	// SessionID is the session of the service: sid. The token is refused after its end. The zero UUID if unknown.
	SessionID uuid.UUID
	// Actor is the service for which this one acts in turn, or nil.
	Actor *Actor
}

func (c *Claims) hasExpired(now time.Time) bool { return !c.ExpiresAt.Add(leeway).After(now) }

// Verify verifies the format, the signature and every claim of a token, in this order. It does not check whether the
// session was revoked.
func (k *Keys) Verify(token, issuer, audience string, now time.Time) (*Claims, error) {
	if len(token) > maxTokenBytes {
		return nil, ErrInvalid
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, ErrInvalid
	}
	key, err := k.find(parts[0])
	if err != nil {
		return nil, err
	}
	signature, err := decode(parts[2])
	if err != nil || key.method.Verify(parts[0]+"."+parts[1], signature, key.verifying) != nil {
		return nil, ErrInvalid
	}
	payload, err := decode(parts[1])
	if err != nil {
		return nil, ErrInvalid
	}
	return parseClaims(payload, issuer, audience, now)
}

// find returns the key of a token. The header must have exactly the members alg, kid and typ. Any other (crit, jwk,
// jku, x5u, zip, b64) is refused.
func (k *Keys) find(encoded string) (*key, error) {
	text, err := decode(encoded)
	if err != nil {
		return nil, ErrInvalid
	}
	header, err := parseObject(text)
	if err != nil || len(header) != 3 {
		return nil, ErrInvalid
	}
	alg, kid, typ := parse[string](header["alg"]), parse[string](header["kid"]), parse[string](header["typ"])
	if alg == nil || kid == nil || typ == nil {
		return nil, ErrInvalid
	}
	key := k.byID[*kid]
	if key == nil {
		return nil, ErrKeyUnknown
	}
	if *typ != tokenType || *alg != key.method.Alg() {
		return nil, ErrInvalid
	}
	return key, nil
}

// parseClaims parses and checks the payload of a token whose signature is valid.
func parseClaims(payload []byte, issuer, audience string, now time.Time) (*Claims, error) {
	members, err := parseObject(payload)
	if err != nil {
		return nil, ErrInvalid
	}
	iss, aud := parse[string](members["iss"]), parse[string](members["aud"])
	id, user, session := parseID(members["jti"]), parseID(members["sub"]), parseID(members["sid"])
	iat, exp, roles := parse[int64](members["iat"]), parse[int64](members["exp"]), parse[[]*string](members["roles"])
	if iss == nil || aud == nil || id == nil || user == nil || session == nil || iat == nil || exp == nil || roles == nil {
		return nil, ErrInvalid
	}
	claims := &Claims{
		ID: *id, UserID: *user, SessionID: *session, IssuedAt: time.Unix(*iat, 0), ExpiresAt: time.Unix(*exp, 0),
	}
	if claims.Roles, err = checkStrings(*roles); err != nil {
		return nil, err
	}
	if err := claims.parseOptional(members); err != nil {
		return nil, err
	}
	validFrom := *iat
	if text, isPresent := members["nbf"]; isPresent {
		nbf := parse[int64](text)
		if nbf == nil {
			return nil, ErrInvalid
		}
		validFrom = max(validFrom, *nbf)
	}
	lifetime := *exp - *iat
	hasOverflowed := (lifetime < 0) != (*exp < *iat)
	if hasOverflowed || lifetime <= 0 || lifetime > int64(maxLifetime/time.Second) || *iss != issuer || *aud != audience {
		return nil, ErrInvalid
	}
	if validFrom > now.Add(leeway).Unix() {
		return nil, ErrNotYetValid
	}
	if claims.hasExpired(now) {
		return nil, ErrExpired
	}
	return claims, nil
}

// parseOptional parses the claims that not all tokens have.
func (c *Claims) parseOptional(members map[string]json.RawMessage) error {
	if text, isPresent := members["scope"]; isPresent {
		scope := parse[string](text)
		if scope == nil {
			return ErrInvalid
		}
		var err error
		if c.Scopes, err = parseScopes(*scope); err != nil {
			return ErrInvalid
		}
	}
	if text, isPresent := members["amr"]; isPresent {
		methods := parse[[]*string](text)
		if methods == nil {
			return ErrInvalid
		}
		var err error
		if c.AuthenticationMethods, err = checkStrings(*methods); err != nil {
			return err
		}
	}
	if text, isPresent := members["auth_time"]; isPresent {
		seconds := parse[int64](text)
		if seconds == nil || *seconds > c.IssuedAt.Unix() {
			return ErrInvalid
		}
		c.AuthenticatedAt = time.Unix(*seconds, 0)
	}
	if text, isPresent := members["act"]; isPresent {
		var err error
		if c.Actor, err = parseActor(text, maxActors); err != nil {
			return ErrInvalid
		}
	}
	return nil
}

// parseActor parses the claim act.
func parseActor(text json.RawMessage, maximum int) (*Actor, error) {
	members, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	subject := parseID(members["sub"])
	if subject == nil || maximum == 0 {
		return nil, ErrInvalid
	}
	actor := &Actor{Subject: *subject}
	if text, isPresent := members["sid"]; isPresent {
		session := parseID(text)
		if session == nil {
			return nil, ErrInvalid
		}
		actor.SessionID = *session
	}
	if inner, isPresent := members["act"]; isPresent {
		actor.Actor, err = parseActor(inner, maximum-1)
	}
	return actor, err
}

// checkStrings returns the elements of a list of strings.
func checkStrings(list []*string) ([]string, error) {
	var strs []string
	for _, element := range list {
		// The standard library replaces surrogates that are not paired.
		if element == nil || strings.ContainsRune(*element, utf8.RuneError) {
			return nil, ErrInvalid
		}
		strs = append(strs, *element)
	}
	return strs, nil
}

// parseObject parses a JSON object more strictly than the standard library: member names are case-sensitive and unique,
// and the text is UTF-8 without anything around the object.
func parseObject(text []byte) (map[string]json.RawMessage, error) {
	if !bytes.HasPrefix(text, []byte("{")) || !utf8.Valid(text) || !json.Valid(text) {
		return nil, ErrInvalid
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	members := make(map[string]json.RawMessage)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		if _, isDuplicate := members[name.(string)]; isDuplicate {
			return nil, ErrInvalid
		}
		members[name.(string)] = value
	}
	return members, nil
}

// parse parses a value. Returns nil if it is absent, null or of another type.
func parse[T any](text json.RawMessage) *T {
	var value *T
	if len(text) == 0 || json.Unmarshal(text, &value) != nil {
		return nil
	}
	return value
}

// parseID parses a UUID with hyphens. Package uuid also accepts braces, URNs and plain digits.
func parseID(text json.RawMessage) *uuid.UUID {
	hyphenated := parse[string](text)
	if hyphenated == nil {
		return nil
	}
	id, err := parseUUID(*hyphenated)
	if err != nil {
		return nil
	}
	return &id
}

func parseUUID(text string) (uuid.UUID, error) {
	if len(text) != len("00000000-0000-0000-0000-000000000000") {
		return uuid.Nil, ErrInvalid
	}
	return uuid.Parse(text)
}

// sign returns an access token with which a verifier that has a signing key authenticates to auth-service.
func (k *Keys) sign(issuer, audience string, now time.Time) (string, error) {
	if k.first.signing == nil {
		return "", errors.New("the first key is a public key, which cannot sign")
	}
	token := jwt.NewWithClaims(k.first.method, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": uuid.NewString(), "sid": uuid.NewString(), "jti": uuid.NewString(),
		"iat": now.Unix(), "exp": now.Add(maxLifetime).Unix(), "roles": []string{"verifier"},
	})
	token.Header["typ"], token.Header["kid"] = tokenType, k.first.id
	return token.SignedString(k.first.signing)
}

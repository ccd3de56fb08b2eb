package verifier

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"filippo.io/edwards25519"
	"github.com/golang-jwt/jwt/v5"

	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

// Minimum length of a shared secret. A key shorter than the hash would weaken the HMAC (RFC 7518, section 3.2).
const minSecretBytes = 32

// Keys are the keys of access tokens, from a JWK Set (RFC 7517). Each key has one algorithm, so that a token cannot
// choose another (RFC 8725, section 3.1).
type Keys struct {
	byID map[string]*key
	// The first key, which signs, if it can.
	first *key
}

type key struct {
	id     string
	method jwt.SigningMethod
	// verifying is a secret or a public key; signing is nil if the key cannot sign.
	verifying, signing any
}

type jwk struct {
	Kty, Alg, Use, Kid, Crv, X, D, K string
	Exp                              *int64
}

// ParseKeys parses a JWK Set. Expired keys are left out. The error does not quote the set, which may be secret.
func ParseKeys(text []byte, now time.Time) (*Keys, error) {
	var set struct{ Keys []jwk }
	if json.Unmarshal(text, &set) != nil {
		return nil, errors.New("not a JWK Set (RFC 7517)")
	}
	return newKeys(set.Keys, now)
}

// readKeys reads a file that other users cannot access. The group may read it, because Kubernetes mounts secrets so.
func readKeys(path string, now time.Time) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o037 != 0 {
		return nil, fmt.Errorf("%s is accessible to other users; its mode must be 0600", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(text, now)
	if err != nil {
		return nil, fmt.Errorf("%s is not a usable key file: %w", path, err)
	}
	return keys, nil
}

// publicKeys converts the public keys of the feed.
func publicKeys(set *authv1.JwkSet) (*Keys, error) {
	var keys []jwk
	for _, public := range set.GetKeys() {
		keys = append(keys, jwk{
			Kty: public.GetKty(), Alg: public.GetAlg(), Use: public.GetUse(), Kid: public.GetKid(), Crv: public.GetCrv(),
			X: public.GetX(),
		})
	}
	return newKeys(keys, time.Time{})
}

func newKeys(set []jwk, now time.Time) (*Keys, error) {
	keys := &Keys{byID: make(map[string]*key)}
	for index, jwk := range set {
		key, err := jwk.parse()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", index+1, err)
		}
		if jwk.Exp != nil && !time.Unix(*jwk.Exp, 0).After(now) {
			continue
		}
		if keys.byID[key.id] != nil {
			return nil, errors.New("two keys have the same kid")
		}
		keys.byID[key.id] = key
		if keys.first == nil {
			keys.first = key
		}
	}
	if keys.first == nil {
		return nil, errors.New("it contains no key")
	}
	return keys, nil
}

func (j *jwk) parse() (*key, error) {
	if j.Use != "" && j.Use != "sig" {
		return nil, errors.New(`use must be "sig"`)
	}
	if len(j.Kid) == 0 || len(j.Kid) > 128 {
		return nil, errors.New("kid must have 1 to 128 bytes")
	}
	switch j.Kty {
	case "oct":
		return j.parseSecret()
	case "OKP":
		return j.parseEd25519()
	}
	return nil, errors.New(`kty must be "oct" or "OKP"`)
}

// parseSecret parses a shared secret, which signs and verifies (RFC 7518, section 6.4).
func (j *jwk) parseSecret() (*key, error) {
	if j.Alg != "" && j.Alg != "HS256" {
		return nil, errors.New(`alg must be "HS256"`)
	}
	secret, err := decode(j.K)
	if err != nil || len(secret) < minSecretBytes {
		return nil, fmt.Errorf("k must be base64url of at least %d bytes", minSecretBytes)
	}
	return &key{j.Kid, jwt.SigningMethodHS256, secret, secret}, nil
}

// parseEd25519 parses an Ed25519 key, with or without its private half (RFC 8037, section 2).
func (j *jwk) parseEd25519() (*key, error) {
	if j.Crv != "Ed25519" {
		return nil, errors.New(`crv must be "Ed25519"`)
	}
	if j.Alg != "" && j.Alg != "EdDSA" {
		return nil, errors.New(`alg must be "EdDSA"`)
	}
	public, err := decode(j.X)
	if err != nil || !isSafePoint(public) {
		return nil, errors.New("x is not a valid Ed25519 public key")
	}
	parsed := &key{id: j.Kid, method: jwt.SigningMethodEdDSA, verifying: ed25519.PublicKey(public)}
	if j.D == "" {
		return parsed, nil
	}
	seed, err := decode(j.D)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("d must be base64url of 32 bytes")
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !bytes.Equal(private.Public().(ed25519.PublicKey), public) {
		return nil, errors.New("x is not the public key of d")
	}
	parsed.signing = private
	return parsed, nil
}

// isSafePoint rejects invalid public keys, and those for which signatures can be forged without the private key: the
// point must be on the curve, canonically encoded, not of small order, and in the prime-order subgroup.
func isSafePoint(public []byte) bool {
	point, err := new(edwards25519.Point).SetBytes(public)
	if err != nil || !bytes.Equal(point.Bytes(), public) {
		return false
	}
	multiple := new(edwards25519.Point).MultByCofactor(point)
	if multiple.Equal(edwards25519.NewIdentityPoint()) == 1 {
		return false
	}
	eight, err := new(edwards25519.Scalar).SetCanonicalBytes(append([]byte{8}, make([]byte, 31)...))
	if err != nil {
		return false
	}
	// Division by the cofactor restores the point only if it has no component of small order.
	return multiple.ScalarMult(eight.Invert(eight), multiple).Equal(point) == 1
}

// decode decodes base64url without padding. Unlike the standard library, it rejects line breaks, and bits that are not
// used must be zero.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("not base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

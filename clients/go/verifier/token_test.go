package verifier

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// The shared vectors of clients/conformance cover hostile tokens; these tests cover what is particular to this package.

const now = 1_800_000_000

var (
	secret  = []byte("thirty-two bytes to sign a token")
	private = ed25519.NewKeyFromSeed([]byte("and thirty-two more for Ed25519."))
	encode  = base64.RawURLEncoding.EncodeToString
)

func keySet() string {
	return fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"shared","k":%q},{"kty":"OKP","crv":"Ed25519","kid":"pair","x":%q}]}`,
		encode(secret), encode(private.Public().(ed25519.PublicKey)))
}

type members map[string]any

func header() members { return members{"alg": "HS256", "kid": "shared", "typ": "at+jwt"} }

func claims() members {
	return members{
		"iss": "taskey", "aud": "taskey", "iat": now - 10, "exp": now + 290, "roles": []string{"admin"},
		"sub": uuid.NewString(), "sid": uuid.NewString(), "jti": uuid.NewString(),
	}
}

func (m members) with(name string, value any) members {
	m = maps.Clone(m)
	m[name] = value
	return m
}

func (m members) text() string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func signed(header, claims string) string {
	message := encode([]byte(header)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(message))
	return message + "." + encode(mac.Sum(nil))
}

func verify(t *testing.T, token string) (*Claims, error) {
	t.Helper()
	keys, err := ParseKeys([]byte(keySet()), time.Unix(now, 0))
	if err != nil {
		t.Fatal(err)
	}
	return keys.Verify(token, "taskey", "taskey", time.Unix(now, 0))
}

func assertInvalid(t *testing.T, token string) {
	t.Helper()
	if _, err := verify(t, token); err == nil || errors.Is(err, ErrExpired) {
		t.Fatal(err, token)
	}
}

func TestValidTokensOfBothAlgorithmsAreAccepted(t *testing.T) {
	expected := claims()
	parsed, err := verify(t, signed(header().text(), expected.text()))
	if err != nil || parsed.UserID.String() != expected["sub"] || parsed.SessionID.String() != expected["sid"] {
		t.Fatal(parsed, err)
	}
	if len(parsed.Roles) != 1 || parsed.Roles[0] != "admin" || parsed.ExpiresAt.Unix() != now+290 {
		t.Fatal(parsed)
	}
	pair := header().with("alg", "EdDSA").with("kid", "pair")
	message := encode([]byte(pair.text())) + "." + encode([]byte(expected.text()))
	if _, err = verify(t, message+"."+encode(ed25519.Sign(private, []byte(message)))); err != nil {
		t.Fatal(err)
	}
}

func TestJSONIsParsedStrictly(t *testing.T) {
	valid := claims().text()
	inner := valid[1 : len(valid)-1]
	for _, payload := range []string{
		"{" + inner + `,"sub":"` + uuid.NewString() + `"}`,
		"{" + inner + `,"\u0073ub":"` + uuid.NewString() + `"}`,
		strings.Replace(valid, `"sub"`, `"SUB"`, 1),
		strings.Replace(valid, `"iat":`, `"Iat":`, 1),
		strings.Replace(valid, fmt.Sprint(now-10), fmt.Sprintf("%d.0", now-10), 1),
		" " + valid, valid + "x", valid + valid, "[" + valid + "]", "\ufeff" + valid,
		"{" + inner + ",\"x\":\"\xff\"}",
		claims().with("roles", []any{"admin", nil}).text(),
		strings.Replace(valid, `["admin"]`, `["\ud800"]`, 1),
		claims().with("nbf", nil).text(),
		claims().with("iss", nil).text(),
	} {
		assertInvalid(t, signed(header().text(), payload))
	}
	for _, text := range []string{
		header().with("crit", nil).text(), header().with("typ", "JWT").text(), header().with("alg", "none").text(),
		`{"alg":"HS256","kid":"shared","TYP":"at+jwt"}`, `{"alg":"HS256","kid":"shared","typ":"at+jwt","typ":"at+jwt"}`,
	} {
		assertInvalid(t, signed(text, valid))
	}
}

func TestBase64IsDecodedStrictly(t *testing.T) {
	token := signed(header().text(), claims().text())
	parts := strings.Split(token, ".")
	for index, part := range parts {
		for _, other := range []string{part + "\n", part + "=", part[:4] + "\r\n" + part[4:], part + " "} {
			changed := append([]string(nil), parts...)
			changed[index] = other
			assertInvalid(t, strings.Join(changed, "."))
		}
	}
	assertInvalid(t, token+".")
	assertInvalid(t, strings.Repeat("x", maxTokenBytes+1))
}

func TestTimesAreCheckedWithALeeway(t *testing.T) {
	for _, test := range []struct {
		iat, exp int64
		err      error
	}{
		{now, now + 900, nil},
		{now, now + 901, ErrInvalid},
		{now, now, ErrInvalid},
		{now + 5, now + 300, nil},
		{now + 6, now + 300, ErrNotYetValid},
		{now - 300, now - 4, nil},
		{now - 300, now - 5, ErrExpired},
		{-1 << 63, 1<<63 - 1, ErrInvalid},
	} {
		_, err := verify(t, signed(header().text(), claims().with("iat", test.iat).with("exp", test.exp).text()))
		if !errors.Is(err, test.err) {
			t.Error(test, err)
		}
	}
	expired := claims().with("iat", now-300).with("exp", now-100)
	assertInvalid(t, signed(header().text(), expired.with("aud", "other").text()))
}

func TestUnusableKeysAreRejected(t *testing.T) {
	key := func(x string) string {
		return fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":%q}]}`, x)
	}
	zeros := make([]byte, 32)
	identity := append([]byte{1}, zeros[1:]...)
	for _, text := range []string{
		"", "[]", `{"keys":[]}`, `{"keys":[{"kty":"RSA","kid":"k"}]}`, `{"keys":[{"kty":"oct","kid":"k","k":"c2hvcnQ"}]}`,
		fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"","k":%q}]}`, encode(secret)),
		fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"k","use":"enc","k":%q}]}`, encode(secret)),
		fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"k","alg":"HS512","k":%q}]}`, encode(secret)),
		fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"k","exp":%d,"k":%q}]}`, now, encode(secret)),
		fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"k","k":%[1]q},{"kty":"oct","kid":"k","k":%[1]q}]}`, encode(secret)),
		key(encode(zeros)), key(encode(identity)), key(encode(zeros[:31])), key(encode(append(zeros[:31:31], 0x80))),
	} {
		if _, err := ParseKeys([]byte(text), time.Unix(now, 0)); err == nil || strings.Contains(err.Error(), encode(secret)) {
			t.Error(text, err)
		}
	}
}

func TestSharedVectorsHaveTheExpectedResults(t *testing.T) {
	text, err := os.ReadFile("../../conformance/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Issuer, Audience string
		Now              int64
		Keys             json.RawMessage
		Vectors          []struct {
			Name, Token, Reason string
			Claims              *struct{ Sub, Sid, Jti string }
		}
	}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Vectors) == 0 {
		t.Fatal(err)
	}
	at := time.Unix(file.Now, 0)
	keys, err := ParseKeys(file.Keys, at)
	if err != nil {
		t.Fatal(err)
	}
	for _, vector := range file.Vectors {
		claims, err := keys.Verify(vector.Token, file.Issuer, file.Audience, at)
		switch {
		case vector.Claims != nil:
			if err != nil || claims.UserID.String() != vector.Claims.Sub || claims.SessionID.String() != vector.Claims.Sid {
				t.Error(vector.Name, err)
			}
		case err == nil || (vector.Reason == "TOKEN_EXPIRED") != errors.Is(err, ErrExpired):
			t.Error(vector.Name, err)
		}
	}
}

func TestOptionalClaimsAreReturned(t *testing.T) {
	reports, session, mails := uuid.New(), uuid.New(), uuid.New()
	act := members{"sub": reports, "sid": session, "act": members{"sub": mails}}
	payload := claims().with("scope", "tasks.read x").with("amr", []string{"pwd", "otp"}).with("auth_time", now-60).with("act", act)
	parsed, err := verify(t, signed(header().text(), payload.text()))
	if err != nil || !parsed.Permits("tasks.read") || !parsed.Permits("x") || parsed.Permits("tasks.write") {
		t.Fatal(parsed, err)
	}
	if !slices.Equal(parsed.AuthenticationMethods, []string{"pwd", "otp"}) || parsed.AuthenticatedAt.Unix() != now-60 {
		t.Fatal(parsed)
	}
	if *parsed.Actor.Actor != (Actor{Subject: mails}) || parsed.Actor.SessionID != session || parsed.Actor.Subject != reports {
		t.Fatal(parsed.Actor)
	}
	parsed, err = verify(t, signed(header().text(), claims().text()))
	if err != nil || !parsed.Permits("tasks.write") || parsed.Actor != nil || !parsed.AuthenticatedAt.IsZero() {
		t.Fatal(parsed, err)
	}
}

func TestOptionalClaimsOfAnotherTypeAreInvalid(t *testing.T) {
	id := uuid.NewString()
	var nested any = members{"sub": id}
	for range 3 {
		nested = members{"sub": id, "act": nested}
	}
	for name, values := range map[string][]any{
		"scope":     {nil, "", " ", "tasks.read ", "tasks.read  x", "x x", "a\"b", "naïve", 1, []string{"tasks.read"}},
		"amr":       {nil, "pwd", []any{1}, []any{nil}, members{}},
		"auth_time": {nil, "1", 1.5, []int{1}, now},
		"act":       {nil, "x", members{}, members{"sub": nil}, members{"sub": "x"}, members{"sub": id, "act": "x"}, members{"sub": id, "sid": "x"}, members{"sub": id, "sid": nil}, nested, []any{}},
	} {
		for _, value := range values {
			assertInvalid(t, signed(header().text(), claims().with(name, value).text()))
		}
	}
}

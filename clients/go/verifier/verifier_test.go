package verifier_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
	"taskey.dev/taskey/internal/testserver"
	"taskey.dev/taskey/verifier"
)

const password = "correct horse battery staple"

// login creates a client with a session.
func login(t *testing.T, server *testserver.Server) (*taskey.Client, string) {
	t.Helper()
	email := strings.ToLower(t.Name()) + "@example.org"
	client, err := taskey.New(taskey.Config{Address: server.Gateway, Plaintext: true, Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err = client.Auth.SignUp(t.Context(), &authv1.SignUpRequest{Email: email, Password: password}); err != nil {
		t.Fatal(err)
	}
	return client, newToken(t, client)
}

func newToken(t *testing.T, client *taskey.Client) string {
	t.Helper()
	token, err := client.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// follow creates a verifier and waits until it accepts tokens.
func follow(t *testing.T, config verifier.Config) *verifier.Verifier {
	t.Helper()
	config.Plaintext = true
	tokens, err := verifier.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tokens.Close)
	testserver.Eventually(t, 10*time.Second, func() bool { return tokens.State() == verifier.Fresh })
	return tokens
}

func withSharedKey(server *testserver.Server) verifier.Config {
	return verifier.Config{Address: server.Auth, KeyFile: filepath.Join(server.Data, "keys.json")}
}

func assertReason(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error instead of %s / %s", code, reason)
	}
	if failure := taskey.AsError(err); failure.Code != code || failure.Reason != reason {
		t.Fatalf("%v instead of %s / %s", err, code, reason)
	}
}

func TestTokenIsRefusedWithinASecondOfItsLogout(t *testing.T) {
	t.Parallel()
	server := testserver.Start(t)
	client, token := login(t, server)
	tokens := follow(t, withSharedKey(server))
	for range 10 {
		if _, err := tokens.Verify(token); err != nil {
			t.Fatal(err)
		}
		if err := client.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		testserver.Eventually(t, time.Second, func() bool {
			_, err = tokens.Verify(token)
			return err != nil
		})
		assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
		token = newToken(t, client)
	}
}

func TestLogoutWaitsForTheAcknowledgement(t *testing.T) {
	t.Parallel()
	server := testserver.Start(t)
	client, _ := login(t, server)
	tokens := follow(t, withSharedKey(server))
	email := strings.ToLower(t.Name()) + "@example.org"
	pair, err := client.Auth.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	logout := &authv1.LogoutRequest{RefreshToken: pair.GetRefreshToken(), WaitForVerifiers: true}
	response, err := client.Auth.Logout(t.Context(), logout)
	if err != nil || response.GetAcknowledgedVerifiers() < 1 {
		t.Fatal(response, err)
	}
	_, err = tokens.Verify(pair.GetAccessToken())
	assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
}

func TestStaleVerifierAcceptsTokensAndThenRefusesThem(t *testing.T) {
	t.Parallel()
	server := testserver.Start(t)
	_, token := login(t, server)
	config := withSharedKey(server)
	config.MaxStaleness = 6 * time.Second
	tokens := follow(t, config)
	server.Kill()
	testserver.Eventually(t, 6*time.Second, func() bool { return tokens.State() == verifier.Stale })
	if _, err := tokens.Verify(token); err != nil {
		t.Fatal(err)
	}
	testserver.Eventually(t, 6*time.Second, func() bool { return tokens.State() == verifier.Expired })
	_, err := tokens.Verify(token)
	assertReason(t, err, codes.Unavailable, "VERIFIER_NOT_READY")
	server.Run()
	testserver.Eventually(t, 5*time.Second, func() bool { return tokens.State() == verifier.Fresh })
	if _, err := tokens.Verify(token); err != nil {
		t.Fatal(err)
	}
}

func TestStalledConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	server := testserver.Start(t)
	client, token := login(t, server)
	proxy := testserver.StartProxy(t, server.Auth)
	config := withSharedKey(server)
	config.Address = proxy.Address
	tokens := follow(t, config)
	proxy.Stall()
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	testserver.Eventually(t, 10*time.Second, func() bool {
		_, err = tokens.Verify(token)
		return err != nil
	})
	assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
}

func TestPublicKeysOfTheFeedAreRotated(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys.json")
	run(t, "keys", "generate", "--alg", "EdDSA", "--out", keys)
	server := testserver.Start(t, "--key-file", keys)
	client, token := login(t, server)
	credential := run(t, "tokens", "issue-service", "test", "--scope", "tokens.verify",
		"--database-url", "sqlite:"+filepath.Join(server.Data, "auth.db"))
	tokens := follow(t, verifier.Config{Address: server.Auth, ServiceToken: credential})
	if _, err := tokens.Verify(token); err != nil {
		t.Fatal(err)
	}
	run(t, "keys", "rotate", "--key-file", keys, "--publish-for", "5s")
	time.Sleep(3 * time.Second)
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	rotated := newToken(t, client)
	if strings.Split(rotated, ".")[0] == strings.Split(token, ".")[0] {
		t.Fatal("the key has not changed")
	}
	if _, err := tokens.Verify(rotated); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(testserver.Program("auth-service"), arguments...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

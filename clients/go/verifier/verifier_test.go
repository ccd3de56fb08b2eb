package verifier_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
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
	proxy := testserver.StartProxy(t, server.Auth)
	config := withSharedKey(server)
	config.Address, config.MaxStaleness = proxy.Address, 6*time.Second
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

// tasks is a service whose tasks have the id of the caller.
type tasks struct {
	taskv1.UnimplementedTaskServiceServer
}

func (tasks) GetTask(ctx context.Context, _ *taskv1.GetTaskRequest) (*taskv1.Task, error) {
	return &taskv1.Task{Id: verifier.FromContext(ctx).UserID.String()}, nil
}

func (tasks) WatchTasks(
	_ *taskv1.WatchTasksRequest, stream grpc.ServerStreamingServer[taskv1.WatchTasksResponse],
) error {
	if err := stream.Send(&taskv1.WatchTasksResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func TestInterceptorsAuthenticateCallers(t *testing.T) {
	t.Parallel()
	server := testserver.Start(t)
	client, token := login(t, server)
	tokens := follow(t, withSharedKey(server))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := grpc.NewServer(grpc.UnaryInterceptor(tokens.Unary), grpc.StreamInterceptor(tokens.Stream))
	taskv1.RegisterTaskServiceServer(service, tasks{})
	go func() { _ = service.Serve(listener) }()
	t.Cleanup(service.Stop)
	open := func(token string) *taskey.Client {
		client, err := taskey.New(taskey.Config{Address: listener.Addr().String(), Plaintext: true, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	caller := open(token)
	me, err := client.Account.GetMe(t.Context(), &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	task, err := caller.Tasks.GetTask(t.Context(), &taskv1.GetTaskRequest{})
	if err != nil || task.GetId() != me.GetId() {
		t.Fatal(task, err)
	}
	for token, reason := range map[string]string{"": "TOKEN_MISSING", "garbage": "TOKEN_INVALID"} {
		_, err = open(token).Tasks.GetTask(t.Context(), &taskv1.GetTaskRequest{})
		assertReason(t, err, codes.Unauthenticated, reason)
	}
	stream, err := caller.Tasks.WatchTasks(t.Context(), &taskv1.WatchTasksRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
	_, err = caller.Tasks.GetTask(t.Context(), &taskv1.GetTaskRequest{})
	assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
}

func TestMiddlewareAuthenticatesCallers(t *testing.T) {
	t.Parallel()
	server := testserver.Start(t)
	client, token := login(t, server)
	config := withSharedKey(server)
	config.MaxStaleness = 3 * time.Second
	tokens := follow(t, config)
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		_ = json.NewEncoder(writer).Encode(verifier.FromContext(request.Context()).UserID)
	})
	service := httptest.NewServer(tokens.Middleware(handler))
	t.Cleanup(service.Close)
	get := func(authorization string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			request.Header.Set("Authorization", authorization)
		}
		response, err := service.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body struct {
			Error struct {
				Status  string
				Details []struct{ Reason, Domain string }
			}
		}
		if response.StatusCode == http.StatusOK {
			return response.StatusCode, ""
		}
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil || body.Error.Details[0].Domain != "taskey" {
			t.Fatal(body, err)
		}
		return response.StatusCode, body.Error.Status + " " + body.Error.Details[0].Reason
	}
	assert := func(authorization string, code int, text string) {
		t.Helper()
		if gotCode, gotText := get(authorization); gotCode != code || gotText != text {
			t.Fatal(gotCode, gotText)
		}
	}
	assert("bearer "+token, http.StatusOK, "")
	assert("", http.StatusUnauthorized, "UNAUTHENTICATED TOKEN_MISSING")
	assert("Basic "+token, http.StatusUnauthorized, "UNAUTHENTICATED TOKEN_INVALID")
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	assert("Bearer "+token, http.StatusUnauthorized, "UNAUTHENTICATED TOKEN_REVOKED")
	server.Kill()
	testserver.Eventually(t, 6*time.Second, func() bool { return tokens.State() == verifier.Expired })
	assert("Bearer "+token, http.StatusServiceUnavailable, "UNAVAILABLE VERIFIER_NOT_READY")
}

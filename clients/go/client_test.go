package taskey_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
	"taskey.dev/taskey/internal/testserver"
)

const password = "correct horse battery staple"

// calls counts the attempts of each method, and can change their outcome.
type calls struct {
	mu     sync.Mutex
	counts map[string]int
	// after is called with the result of each attempt, and returns the result that the client sees.
	after func(method string, count int, err error) error
}

func (c *calls) intercept(
	ctx context.Context, method string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, response, conn, options...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	c.counts[method]++
	if c.after != nil {
		err = c.after(method, c.counts[method], err)
	}
	return err
}

func (c *calls) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[method]
}

var accounts atomic.Int64

// open creates a client, and an account if the client has a password.
func open(t *testing.T, config taskey.Config, calls *calls) *taskey.Client {
	t.Helper()
	if calls != nil {
		config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(calls.intercept))
	}
	config.Plaintext = config.TLS == taskey.TLS{}
	if config.Password != "" && config.Email == "" {
		config.Email = fmt.Sprintf("ann%d@example.org", accounts.Add(1))
	}
	client, err := taskey.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if config.Password != "" {
		_, err = client.Auth.SignUp(t.Context(), &authv1.SignUpRequest{Email: config.Email, Password: config.Password})
		if err != nil {
			t.Fatal(err)
		}
	}
	return client
}

// start starts a server, and creates a client with an account.
func start(t *testing.T, calls *calls, arguments ...string) (*testserver.Server, *taskey.Client) {
	t.Helper()
	server := testserver.Start(t, arguments...)
	return server, open(t, taskey.Config{Address: server.Gateway, Password: password}, calls)
}

// startBehindProxy starts a server and a proxy in front of it, and creates a client of the proxy with an account.
func startBehindProxy(t *testing.T) (*testserver.Server, *testserver.Proxy, *taskey.Client) {
	t.Helper()
	server := testserver.Start(t)
	proxy := testserver.StartProxy(t, server.Gateway)
	return server, proxy, open(t, taskey.Config{Address: proxy.Address, Password: password}, nil)
}

// openWithToken creates a client with the access token of another one, without its proxy.
func openWithToken(t *testing.T, server *testserver.Server, owner *taskey.Client) *taskey.Client {
	t.Helper()
	return open(t, taskey.Config{Address: server.Gateway, Token: token(t, owner)}, nil)
}

func token(t *testing.T, client *taskey.Client) string {
	t.Helper()
	token, err := client.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func create(t *testing.T, client *taskey.Client, title string) *taskv1.Task {
	t.Helper()
	task, err := client.Tasks.CreateTask(t.Context(), &taskv1.CreateTaskRequest{Task: &taskv1.Task{Title: title}})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func list(t *testing.T, client *taskey.Client, pageSize int32) []*taskv1.Task {
	t.Helper()
	var tasks []*taskv1.Task
	request := &taskv1.ListTasksRequest{PageSize: pageSize}
	for task, err := range taskey.List(t.Context(), client.Tasks.ListTasks, request, (*taskv1.ListTasksResponse).GetTasks) {
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	return tasks
}

func assertReason(t *testing.T, err error, code codes.Code, reason string) *taskey.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error instead of %s / %s", code, reason)
	}
	failure := taskey.AsError(err)
	if failure.Code != code || failure.Reason != reason {
		t.Fatalf("%v instead of %s / %s", err, code, reason)
	}
	return failure
}

func TestStoryFromSignUpToRefusedToken(t *testing.T) {
	t.Parallel()
	server, client := start(t, nil)
	task := create(t, client, "Buy milk")
	task, err := client.Tasks.CompleteTask(t.Context(), &taskv1.CompleteTaskRequest{Id: task.GetId()})
	if err != nil || task.GetState() != taskv1.Task_STATE_COMPLETED {
		t.Fatal(task, err)
	}
	other := openWithToken(t, server, client)
	if tasks := list(t, other, 0); len(tasks) != 1 {
		t.Fatal(tasks)
	}
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	testserver.Eventually(t, time.Second, func() bool {
		_, err = other.Account.GetMe(t.Context(), &authv1.GetMeRequest{})
		return err != nil
	})
	assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
	if again := list(t, client, 0); len(again) != 1 {
		t.Fatal("a later call starts a new session", again)
	}
	anonymous := open(t, taskey.Config{Address: server.Gateway}, nil)
	_, err = anonymous.Account.GetMe(t.Context(), &authv1.GetMeRequest{})
	assertReason(t, err, codes.Unauthenticated, "TOKEN_MISSING")
}

func TestConcurrentCallsWithAnExpiredTokenShareOneRefresh(t *testing.T) {
	t.Parallel()
	var calls calls
	_, client := start(t, &calls, "--access-token-ttl", "2s")
	create(t, client, "Buy milk")
	time.Sleep(2500 * time.Millisecond)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := client.Account.GetMe(t.Context(), &authv1.GetMeRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if refreshes := calls.count(authv1.AuthService_Refresh_FullMethodName); refreshes != 1 {
		t.Fatal(refreshes, "refreshes")
	}
}

func TestTokenIsRefreshedAheadOfItsExpiry(t *testing.T) {
	t.Parallel()
	var calls calls
	_, client := start(t, &calls, "--access-token-ttl", "10s")
	first, _ := client.Token(t.Context())
	time.Sleep(8200 * time.Millisecond)
	if token, err := client.Token(t.Context()); err != nil || token != first {
		t.Fatal("the call waits for the refresh", err)
	}
	testserver.Eventually(t, time.Second, func() bool {
		token, _ := client.Token(t.Context())
		return token != first
	})
	if refreshes := calls.count(authv1.AuthService_Refresh_FullMethodName); refreshes != 1 {
		t.Fatal(refreshes, "refreshes")
	}
}

func TestLostResponsesOfRefreshKeepTheSession(t *testing.T) {
	t.Parallel()
	calls := calls{after: func(method string, count int, err error) error {
		if method == authv1.AuthService_Refresh_FullMethodName && count <= 3 {
			return status.Error(codes.Unavailable, "the response was lost")
		}
		return err
	}}
	_, client := start(t, &calls, "--access-token-ttl", "1s")
	for range 3 {
		create(t, client, "Buy milk")
		time.Sleep(1100 * time.Millisecond)
	}
	if logins := calls.count(authv1.AuthService_Login_FullMethodName); logins != 1 {
		t.Fatal(logins, "logins")
	}
}

func TestTokenThatTheServerRefusesAsExpiredIsRefreshedOnce(t *testing.T) {
	t.Parallel()
	isRefused := func(count int) bool { return count == 1 || count >= 3 }
	calls := calls{after: func(method string, count int, err error) error {
		if method == authv1.AccountService_GetMe_FullMethodName && isRefused(count) {
			return expired
		}
		return err
	}}
	_, client := start(t, &calls)
	if _, err := client.Account.GetMe(t.Context(), &authv1.GetMeRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err := client.Account.GetMe(t.Context(), &authv1.GetMeRequest{})
	assertReason(t, err, codes.Unauthenticated, "TOKEN_EXPIRED")
	counts := []int{
		calls.count(authv1.AccountService_GetMe_FullMethodName), calls.count(authv1.AuthService_Refresh_FullMethodName),
	}
	if counts[0] != 4 || counts[1] != 2 {
		t.Fatal(counts, "calls and refreshes")
	}
}

func TestRevokedSessionIsReportedAndNotRenewed(t *testing.T) {
	t.Parallel()
	var calls calls
	_, client := start(t, &calls, "--access-token-ttl", "1s")
	create(t, client, "Buy milk")
	if _, err := client.Account.RevokeAllSessions(t.Context(), &authv1.RevokeAllSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	var err error
	testserver.Eventually(t, time.Second, func() bool {
		_, err = client.Account.GetMe(t.Context(), &authv1.GetMeRequest{})
		return err != nil
	})
	if reason := taskey.AsError(err).Reason; reason != "TOKEN_REVOKED" && reason != "REFRESH_TOKEN_INVALID" {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	_, err = client.Account.GetMe(t.Context(), &authv1.GetMeRequest{})
	assertReason(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	if logins := calls.count(authv1.AuthService_Login_FullMethodName); logins != 1 {
		t.Fatal(logins, "logins")
	}
}

func TestExpiredSessionIsRenewedWithThePassword(t *testing.T) {
	t.Parallel()
	var calls calls
	_, client := start(t, &calls, "--access-token-ttl", "1s", "--refresh-idle-ttl", "2s")
	create(t, client, "Buy milk")
	time.Sleep(2500 * time.Millisecond)
	create(t, client, "Buy bread")
	if logins := calls.count(authv1.AuthService_Login_FullMethodName); logins != 2 {
		t.Fatal(logins, "logins")
	}
}

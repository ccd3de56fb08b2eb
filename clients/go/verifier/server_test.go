package verifier_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
	"taskey.dev/taskey/internal/testserver"
	"taskey.dev/taskey/verifier"
)

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
		_, err = open(token).Tasks.GetTask(withRequestID(t, "two words"), &taskv1.GetTaskRequest{})
		assertReason(t, err, codes.Unauthenticated, reason)
		if id := taskey.AsError(err).RequestID; uuid.Validate(id) != nil {
			t.Fatal(id)
		}
	}
	stream, err := caller.Tasks.WatchTasks(withRequestID(t, "watch"), &taskv1.WatchTasksRequest{})
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
	if id := taskey.AsError(err).RequestID; id != "watch" {
		t.Fatal(id)
	}
	_, err = caller.Tasks.GetTask(withRequestID(t, "call"), &taskv1.GetTaskRequest{})
	assertReason(t, err, codes.Unauthenticated, "TOKEN_REVOKED")
	if id := taskey.AsError(err).RequestID; id != "call" {
		t.Fatal(id)
	}
}

func withRequestID(t *testing.T, id string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "x-request-id", id)
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
	service := httptest.NewServer(tokens.Middleware("tasks.read", handler))
	t.Cleanup(service.Close)
	get := func(authorization string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Request-Id", "call")
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
				Details []struct{ Reason, Domain, RequestID string }
			}
		}
		if response.StatusCode == http.StatusOK {
			return response.StatusCode, ""
		}
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil || body.Error.Details[0].Domain != "taskey" {
			t.Fatal(body, err)
		}
		if last := body.Error.Details[len(body.Error.Details)-1]; last.RequestID != "call" {
			t.Fatal(body)
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

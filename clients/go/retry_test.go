package taskey_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
	"taskey.dev/taskey/internal/testserver"
)

var expired = failure(codes.Unauthenticated, "TOKEN_EXPIRED", 0)

// failure returns an error of Taskey.
func failure(code codes.Code, reason string, retryAfter time.Duration) error {
	answer := status.New(code, "a simulated error")
	answer, err := answer.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "taskey"})
	if err == nil && retryAfter > 0 {
		answer, err = answer.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	if err != nil {
		panic(err)
	}
	return answer.Err()
}

func TestLostResponseOfAWriteCreatesOneTask(t *testing.T) {
	t.Parallel()
	calls := calls{after: func(method string, count int, err error) error {
		if method == taskv1.TaskService_CreateTask_FullMethodName && count <= 2 {
			return status.Error(codes.Unavailable, "the response was lost")
		}
		return err
	}}
	_, client := start(t, &calls)
	request := &taskv1.CreateTaskRequest{Task: &taskv1.Task{Title: "Buy milk"}}
	for range 2 {
		if _, err := client.Tasks.CreateTask(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if tasks := list(t, client, 0); len(tasks) != 2 || request.GetRequestId() != "" {
		t.Fatal(tasks)
	}
	if count := calls.count(taskv1.TaskService_CreateTask_FullMethodName); count != 4 {
		t.Fatal(count, "attempts")
	}
}

func TestRetriesFollowTheContract(t *testing.T) {
	t.Parallel()
	server, owner := start(t, nil)
	accessToken := token(t, owner)
	read := func(client *taskey.Client) error {
		_, err := client.Tasks.ListTasks(t.Context(), &taskv1.ListTasksRequest{})
		return err
	}
	rename := func(client *taskey.Client) error {
		_, err := client.Account.UpdateMe(t.Context(), &authv1.UpdateMeRequest{User: &authv1.User{DisplayName: "Ann"}})
		return err
	}
	const delays = 2 * time.Second
	listTasks, updateMe := taskv1.TaskService_ListTasks_FullMethodName, authv1.AccountService_UpdateMe_FullMethodName
	for _, test := range []struct {
		name     string
		call     func(*taskey.Client) error
		method   string
		result   error
		attempts int
		minimum  time.Duration
	}{
		{"unavailable read", read, listTasks, failure(codes.Unavailable, "STORE_UNAVAILABLE", 0), 3, 0},
		{"read with delay", read, listTasks, failure(codes.Unavailable, "STORE_UNAVAILABLE", time.Second), 3, delays},
		{"rate limit with delay", read, listTasks, failure(codes.ResourceExhausted, "RATE_LIMITED", time.Second), 3, delays},
		{"delay beyond the deadline", read, listTasks, failure(codes.ResourceExhausted, "RATE_LIMITED", time.Hour), 1, 0},
		{"quota", read, listTasks, failure(codes.ResourceExhausted, "QUOTA_EXCEEDED", 0), 1, 0},
		{"internal", read, listTasks, failure(codes.Internal, "INTERNAL", 0), 1, 0},
		{"revoked", read, listTasks, failure(codes.Unauthenticated, "TOKEN_REVOKED", 0), 1, 0},
		{"write without request id", rename, updateMe, failure(codes.Unavailable, "STORE_UNAVAILABLE", 0), 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := calls{after: func(string, int, error) error { return test.result }}
			client := open(t, taskey.Config{Address: server.Gateway, Token: accessToken}, &calls)
			started := time.Now()
			err := test.call(client)
			if expected := taskey.AsError(test.result); taskey.AsError(err).Reason != expected.Reason {
				t.Fatal(err)
			}
			if attempts := calls.count(test.method); attempts != test.attempts || time.Since(started) < test.minimum {
				t.Fatal(attempts, "attempts in", time.Since(started))
			}
		})
	}
}

func TestCutConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	_, proxy, client := startBehindProxy(t)
	for range 5 {
		create(t, client, "Buy milk")
		proxy.Cut()
	}
	if tasks := list(t, client, 0); len(tasks) != 5 {
		t.Fatal(len(tasks), "tasks")
	}
}

func TestHalfOpenConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	_, proxy, client := startBehindProxy(t)
	create(t, client, "Buy milk")
	proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	// The call timeout of the service config applies to each attempt.
	_, err := client.Tasks.ListTasks(ctx, &taskv1.ListTasksRequest{})
	if err != nil {
		assertReason(t, err, codes.DeadlineExceeded, "")
	}
	testserver.Eventually(t, 30*time.Second, func() bool {
		_, err := client.Tasks.ListTasks(t.Context(), &taskv1.ListTasksRequest{})
		return err == nil
	})
}

func TestDeadlineAndCancellation(t *testing.T) {
	t.Parallel()
	_, proxy, client := startBehindProxy(t)
	create(t, client, "Buy milk")
	proxy.Stall()
	started := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.Tasks.ListTasks(ctx, &taskv1.ListTasksRequest{})
	assertReason(t, err, codes.DeadlineExceeded, "")
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err = client.Tasks.ListTasks(ctx, &taskv1.ListTasksRequest{})
	assertReason(t, err, codes.Canceled, "")
	if elapsed := time.Since(started); elapsed > 2*time.Second {
		t.Fatal(elapsed)
	}
}

func TestErrorsHaveAllDetails(t *testing.T) {
	t.Parallel()
	_, client := start(t, nil)
	_, err := client.Tasks.CreateTask(t.Context(), &taskv1.CreateTaskRequest{Task: &taskv1.Task{}})
	failure := assertReason(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	if len(failure.Violations) != 1 || failure.Violations[0].GetField() != "task.title" || failure.RequestID == "" {
		t.Fatalf("%+v", failure)
	}
	if failure.Violations[0].GetDescription() == "" || failure.Message == "" || status.Code(err) != codes.InvalidArgument {
		t.Fatalf("%+v", failure)
	}
}

func TestListReadsAllPages(t *testing.T) {
	t.Parallel()
	_, client := start(t, nil)
	batch := &taskv1.BatchWriteTasksRequest{}
	for range 100 {
		write := &taskv1.CreateTaskRequest{Task: &taskv1.Task{Title: "Buy milk"}}
		batch.Writes = append(batch.Writes, &taskv1.BatchWriteTasksRequest_Write{
			Write: &taskv1.BatchWriteTasksRequest_Write_Create{Create: write},
		})
	}
	for range 3 {
		if _, err := client.Tasks.BatchWriteTasks(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if tasks := list(t, client, 7); len(tasks) != 300 {
		t.Fatal(len(tasks), "tasks")
	}
	request := &taskv1.ListTasksRequest{PageSize: -1}
	for _, err := range taskey.List(t.Context(), client.Tasks.ListTasks, request, (*taskv1.ListTasksResponse).GetTasks) {
		assertReason(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	}
}

func TestUnknownEnumValuesAndFieldsAreKept(t *testing.T) {
	t.Parallel()
	newer := &taskv1.Task{Id: "x", Priority: taskv1.Task_Priority(99)}
	newer.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01})
	bytes, err := proto.Marshal(newer)
	if err != nil {
		t.Fatal(err)
	}
	task := &taskv1.Task{}
	if err := proto.Unmarshal(bytes, task); err != nil || !proto.Equal(newer, task) {
		t.Fatal(task, err)
	}
}

package taskey_test

import (
	"encoding/json"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"taskey.dev/taskey"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
)

func TestRetriesStopWhileMostCallsFail(t *testing.T) {
	t.Parallel()
	var isFailing atomic.Bool
	calls := calls{after: func(_ string, _ int, err error) error {
		if isFailing.Load() {
			return failure(codes.Unavailable, "OVERLOADED", 0)
		}
		return err
	}}
	client := open(t, taskey.Config{Address: startFake(t)}, &calls)
	// attempts makes a call, and returns how often it was attempted.
	attempts := func() int {
		before := calls.count(taskv1.TaskService_GetTask_FullMethodName)
		_, err := client.Tasks.GetTask(t.Context(), &taskv1.GetTaskRequest{})
		if (err != nil) != isFailing.Load() {
			t.Fatal(err)
		}
		return calls.count(taskv1.TaskService_GetTask_FullMethodName) - before
	}
	isFailing.Store(true)
	// There are 10 tokens at first. Each failed attempt costs one, and more than 5 must be left for a retry.
	for call, expected := range []int{3, 2, 1, 1, 1, 1, 1, 1, 1, 1} {
		if count := attempts(); count != expected {
			t.Fatal("call", call, "was attempted", count, "times")
		}
	}
	isFailing.Store(false)
	for range 61 {
		attempts()
	}
	isFailing.Store(true)
	if count := attempts(); count != 2 {
		t.Fatal("after calls have succeeded,", count, "attempts")
	}
}

// The client derives from the descriptors which calls are safe to retry. The service config must agree.
func TestServiceConfigRetriesTheReads(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("service_config.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		MethodConfig []struct {
			Name        []struct{ Service, Method string }
			RetryPolicy *struct {
				MaxAttempts                int
				InitialBackoff, MaxBackoff string
				RetryableStatusCodes       []string
			}
		}
		RetryThrottling struct{ MaxTokens, TokenRatio float64 }
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if throttling := config.RetryThrottling; throttling.MaxTokens != 10 || throttling.TokenRatio != 0.1 {
		t.Error(throttling)
	}
	var retried, reads []string
	for _, methods := range config.MethodConfig {
		policy := methods.RetryPolicy
		if policy == nil {
			continue
		}
		isExpected := policy.MaxAttempts == 3 && policy.InitialBackoff == "0.1s" && policy.MaxBackoff == "1s"
		if !isExpected || !slices.Equal(policy.RetryableStatusCodes, []string{"UNAVAILABLE"}) {
			t.Error(*policy)
		}
		for _, name := range methods.Name {
			retried = append(retried, name.Service+"."+name.Method)
		}
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for index := range file.Services().Len() {
			methods := file.Services().Get(index).Methods()
			for index := range methods.Len() {
				options := methods.Get(index).Options().(*descriptorpb.MethodOptions)
				isOurs := file.Package().Parent() == "taskey.auth" || file.Package().Parent() == "taskey.task"
				if isOurs && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
					reads = append(reads, string(methods.Get(index).FullName()))
				}
			}
		}
		return true
	})
	slices.Sort(retried)
	slices.Sort(reads)
	if !slices.Equal(retried, reads) {
		t.Fatalf("%v\n%v", retried, reads)
	}
}

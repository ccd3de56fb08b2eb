package taskey

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	optionsv1 "taskey.dev/taskey/gen/taskey/options/v1"
)

const (
	// The deadline of unary calls for which the caller has set none. It includes retries.
	defaultDeadline = 10 * time.Second
	// The retry policy, as in the service config.
	maxAttempts = 3
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = time.Second
	// The retry throttling, as in the service config.
	maxTokens  = 10
	tokenRatio = 0.1
)

// interceptUnary authenticates a call, retries it if that is safe, and converts its error.
func (c *Client) interceptUnary(
	ctx context.Context, method string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	if _, hasDeadline := ctx.Deadline(); !hasDeadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultDeadline)
		defer cancel()
	}
	request, isSafe := withRequestID(request.(proto.Message))
	isSafe = isSafe || optionsOf(method).GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
	var trailer metadata.MD
	options = append(slices.Clone(options), grpc.Trailer(&trailer))
	for attempt, mayRenew := 1, c.session.isRenewable(); ; attempt++ {
		trailer = nil
		authenticated, token, err := c.authenticate(ctx, method)
		if err == nil {
			err = invoke(authenticated, method, request, response, conn, options...)
			c.throttle.record(status.Code(err))
		}
		if err == nil {
			return nil
		}
		failure := AsError(err)
		if failure.Reason == "TOKEN_EXPIRED" && mayRenew {
			c.session.expire(token)
			mayRenew = false
			attempt--
			continue
		}
		delay, isRetryable := retryDelay(failure, trailer, attempt)
		deadline, _ := ctx.Deadline()
		isPermitted := isSafe && isRetryable && attempt < maxAttempts && c.throttle.permitsRetry()
		if !isPermitted || time.Until(deadline) <= delay || !sleep(ctx, delay) {
			return failure
		}
	}
}

// interceptStream authenticates a stream.
func (c *Client) interceptStream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, _, err := c.authenticate(ctx, method)
	if err != nil {
		return nil, err
	}
	return open(ctx, desc, conn, method, options...)
}

// authenticate adds the access token to a call, unless its RPC is public or the caller has set the header.
func (c *Client) authenticate(ctx context.Context, method string) (context.Context, string, error) {
	headers, _ := metadata.FromOutgoingContext(ctx)
	if len(headers.Get("authorization")) > 0 || proto.GetExtension(optionsOf(method), optionsv1.E_Scope) == "public" {
		return ctx, "", nil
	}
	token, err := c.session.token(ctx)
	if token == "" || err != nil {
		return ctx, "", err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), token, nil
}

// optionsOf returns the options of a method in the contract.
func optionsOf(method string) *descriptorpb.MethodOptions {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	options, _ := descriptor.Options().(*descriptorpb.MethodOptions)
	return options
}

// withRequestID sets the request id of a write that has none, in a copy, because each request needs another id. It
// reports whether the request has one.
func withRequestID(request proto.Message) (proto.Message, bool) {
	field := request.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil {
		return request, false
	}
	if !request.ProtoReflect().Has(field) {
		request = proto.Clone(request)
		request.ProtoReflect().Set(field, protoreflect.ValueOfString(uuid.NewString()))
	}
	return request, true
}

// retryDelay returns when a call can be retried, and whether a retry can help. The server may specify the delay, in the
// error or in the metadata of gRFC A6.
func retryDelay(failure *Error, trailer metadata.MD, attempt int) (time.Duration, bool) {
	delay := failure.RetryAfter
	for _, pushback := range trailer.Get("grpc-retry-pushback-ms") {
		milliseconds, err := time.ParseDuration(pushback + "ms")
		if err != nil || milliseconds < 0 {
			return 0, false
		}
		delay = max(delay, milliseconds)
	}
	isRetryable := failure.Code == codes.Unavailable || failure.Code == codes.ResourceExhausted && delay > 0
	return max(delay, backoffAfter(attempt)), isRetryable
}

// backoffAfter returns the delay after an attempt, with jitter.
func backoffAfter(attempt int) time.Duration {
	delay := min(minBackoff<<min(attempt-1, 10), maxBackoff)
	return time.Duration(float64(delay) * (0.8 + 0.4*rand.Float64()))
}

// sleep waits, and reports whether the context is still active.
func sleep(ctx context.Context, delay time.Duration) bool {
	select {
	case <-time.After(delay):
		return true
	case <-ctx.Done():
		return false
	}
}

// throttle limits retries while most calls fail, as gRFC A6 describes.
type throttle struct {
	mu     sync.Mutex
	tokens float64
}

// record counts the outcome of an attempt.
func (t *throttle) record(code codes.Code) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch code {
	case codes.OK:
		t.tokens = min(t.tokens+tokenRatio, maxTokens)
	case codes.Unavailable:
		t.tokens = max(t.tokens-1, 0)
	}
}

// permitsRetry reports whether calls can be retried.
func (t *throttle) permitsRetry() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tokens > maxTokens/2
}

package verifier

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

type contextKey struct{}

// FromContext returns the claims of the caller. It is nil outside of calls that a verifier has authenticated.
func FromContext(ctx context.Context) *Claims {
	claims, _ := ctx.Value(contextKey{}).(*Claims)
	return claims
}

// Unary is a [grpc.UnaryServerInterceptor] that authenticates callers, and checks that their tokens have the scope of the
// method.
func (v *Verifier) Unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	ctx, _, err := v.authenticateCaller(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

// Stream is a [grpc.StreamServerInterceptor] that authenticates callers, as Unary. When the token of the caller becomes
// invalid, the context of the stream ends, messages can no longer be sent or received, and the stream fails with the reason as
// soon as its handler returns.
func (v *Verifier) Stream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	ctx, claims, err := v.authenticateCaller(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go v.cancelWhenInvalid(ctx, claims, cancel)
	err = handle(server, &guardedStream{stream, ctx})
	if reason := context.Cause(ctx); reason != nil && status.Code(reason) != codes.Unknown {
		return reason
	}
	return err
}

func (v *Verifier) authenticateCaller(ctx context.Context, method string) (context.Context, *Claims, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	address := ""
	if client, isKnown := peer.FromContext(ctx); isKnown {
		address = client.Addr.String()
	}
	claims, err := v.authenticateHeader(ctx, headers.Get("authorization"), v.clientAddress(address, headers.Get))
	if err == nil {
		err = v.authorizeMethod(claims, method)
	}
	if err != nil {
		return nil, nil, withRequestID(err, headers.Get(requestID))
	}
	return context.WithValue(ctx, contextKey{}, claims), claims, nil
}

// cancelWhenInvalid cancels the stream of a caller when the token is no longer valid.
func (v *Verifier) cancelWhenInvalid(ctx context.Context, claims *Claims, cancel context.CancelCauseFunc) {
	for {
		updated := v.revocations.updates()
		if err := v.check(claims); err != nil {
			headers, _ := metadata.FromIncomingContext(ctx)
			cancel(withRequestID(err, headers.Get(requestID)))
			return
		}
		select {
		case <-updated:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

// requestID is the header with the id of a call.
const requestID = "x-request-id"

var usableRequestID = regexp.MustCompile("^[!-~]{1,128}$")

// withRequestID adds the id of the call to an error: that of the caller, if it is usable, or else a new one.
func withRequestID(err error, values []string) error {
	id := uuid.NewString()
	if len(values) > 0 && usableRequestID.MatchString(values[0]) {
		id = values[0]
	}
	result, detailsErr := status.Convert(err).WithDetails(&errdetails.RequestInfo{RequestId: id})
	if detailsErr != nil {
		return err
	}
	return result.Err()
}

// guardedStream is a stream that ends with its context.
type guardedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *guardedStream) Context() context.Context { return s.ctx }

func (s *guardedStream) SendMsg(message any) error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(message)
}

func (s *guardedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return context.Cause(s.ctx)
}

// Middleware authenticates callers of an HTTP server. Their tokens must have the scope, such as tasks.read; with an empty
// scope, tokens with scopes are refused. Errors have the format of Taskey's gateway.
func (v *Verifier) Middleware(scope string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		client := v.clientAddress(request.RemoteAddr, request.Header.Values)
		claims, err := v.authenticateHeader(request.Context(), request.Header.Values("Authorization"), client)
		if err == nil && scope == "" && claims.Scopes != nil {
			err = errScopeUnknown
		} else if err == nil {
			err = claims.RequireScope(scope)
		}
		if err != nil {
			writeError(writer, status.Convert(withRequestID(err, request.Header.Values(requestID))), scope)
			return
		}
		next.ServeHTTP(writer, request.WithContext(context.WithValue(request.Context(), contextKey{}, claims)))
	})
}

func writeError(writer http.ResponseWriter, failure *status.Status, scope string) {
	httpCode := http.StatusUnauthorized
	switch failure.Code() {
	case codes.Unauthenticated:
		writer.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case codes.PermissionDenied:
		httpCode = http.StatusForbidden
		writer.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
	case codes.ResourceExhausted:
		httpCode = http.StatusTooManyRequests
		// The delay is less than a second.
		writer.Header().Set("Retry-After", "1")
	default:
		httpCode = http.StatusServiceUnavailable
		writer.Header().Set("Retry-After", "1")
	}
	details := []json.RawMessage{}
	for _, detail := range failure.Proto().GetDetails() {
		if text, err := protojson.Marshal(detail); err == nil {
			details = append(details, text)
		}
	}
	body := map[string]any{"error": map[string]any{
		"code": httpCode, "status": code.Code(failure.Code()).String(), "message": failure.Message(), "details": details,
	}}
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(httpCode)
	// The caller may have disconnected.
	_ = json.NewEncoder(writer).Encode(body)
}

package taskey

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is the error of a failed call. Unary calls and iterators return it; use [AsError] for other streams.
type Error struct {
	Code codes.Code
	// Reason is the name of a value of errorsv1.ErrorReason without its prefix, such as TASK_NOT_FOUND. Empty if the
	// error does not come from Taskey, for example if there is no connection.
	Reason  string
	Message string
	// Metadata has further values that depend on the reason.
	Metadata map[string]string
	// Violations are the invalid fields of the request.
	Violations []*errdetails.BadRequest_FieldViolation
	// RetryAfter is the delay after which a retry can succeed. 0 if the server did not specify one.
	RetryAfter time.Duration
	// RequestID identifies the call in the log of the server.
	RequestID string

	status *status.Status
}

// Error returns the code, the reason and the message.
func (e *Error) Error() string { return fmt.Sprintf("taskey: %s %s: %s", e.Code, e.Reason, e.Message) }

// GRPCStatus returns the status, for package google.golang.org/grpc/status.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// AsError converts the error of a call, which must not be nil.
func AsError(err error) *Error {
	var failure *Error
	if errors.As(err, &failure) {
		return failure
	}
	cause := status.Convert(err)
	failure = &Error{Code: cause.Code(), Message: cause.Message(), status: cause}
	for _, detail := range cause.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason, failure.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			failure.Violations = detail.GetFieldViolations()
		case *errdetails.RetryInfo:
			failure.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *errdetails.RequestInfo:
			failure.RequestID = detail.GetRequestId()
		}
	}
	return failure
}

// isTransient reports whether the response may have been lost, so that the call may have taken effect.
func (e *Error) isTransient() bool {
	switch e.Code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal, codes.Unknown:
		return e.Reason != "REFRESH_TOKEN_SUPERSEDED"
	}
	return false
}

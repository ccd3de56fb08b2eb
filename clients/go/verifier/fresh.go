package verifier

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RequireFresh returns PERMISSION_DENIED / STEP_UP_REQUIRED unless the user has proved the password or a second factor at most
// maxAge ago. The tokens of programs, which have scopes, no AuthenticatedAt and no Actor, are exempt. After this error, the client
// of the user calls AccountService.Reauthenticate, and repeats the call with the new token.
func (c *Claims) RequireFresh(maxAge time.Duration) error { return c.requireFresh(maxAge, time.Now()) }

func (c *Claims) requireFresh(maxAge time.Duration, now time.Time) error {
	isProgram := c.Scopes != nil && c.AuthenticatedAt.IsZero() && c.Actor == nil
	if isProgram || now.Sub(c.AuthenticatedAt) <= maxAge+leeway {
		return nil
	}
	info := &errdetails.ErrorInfo{Reason: "STEP_UP_REQUIRED", Domain: "taskey", Metadata: map[string]string{
		"required": "reauthentication", "max_age": strconv.FormatInt(int64(maxAge/time.Second), 10),
	}}
	message := "prove the password or a second factor again, then repeat the call"
	result, err := status.New(codes.PermissionDenied, message).WithDetails(info)
	if err != nil {
		return err
	}
	return result.Err()
}

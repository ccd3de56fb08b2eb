package verifier

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	optionsv1 "taskey.dev/taskey/gen/taskey/options/v1"
)

// Permits reports whether the token has a scope, such as tasks.read. A token without the claim scope has all scopes.
func (c *Claims) Permits(scope string) bool {
	return c.Scopes == nil || slices.Contains(c.Scopes, scope)
}

// RequireScope returns PERMISSION_DENIED / SCOPE_MISSING unless the token has a scope.
func (c *Claims) RequireScope(scope string) error {
	if c.Permits(scope) {
		return nil
	}
	info := &errdetails.ErrorInfo{
		Reason: "SCOPE_MISSING", Domain: "taskey", Metadata: map[string]string{"required": scope},
	}
	result, err := status.New(codes.PermissionDenied, "the access token does not have the scope `"+scope+"`").
		WithDetails(info)
	if err != nil {
		return err
	}
	return result.Err()
}

// parseScopes parses the claim scope: names separated by single spaces, none of them twice (RFC 6749, section 3.3).
func parseScopes(text string) ([]string, error) {
	names := strings.Split(text, " ")
	for index, name := range names {
		if name == "" || strings.ContainsFunc(name, isForbiddenInScope) || slices.Contains(names[:index], name) {
			return nil, errors.New("not a list of scopes")
		}
	}
	return names, nil
}

func isForbiddenInScope(letter rune) bool {
	return letter <= ' ' || letter == '"' || letter == '\\' || letter > '~'
}

// requiredScope returns the scope of a method such as /taskey.task.v1.TaskService/GetTask: that of Config.Scopes, or else
// that of the option taskey.options.v1.scope in its contract. It is empty if there is neither.
func (v *Verifier) requiredScope(method string) string {
	if scope, isPresent := v.config.Scopes[method]; isPresent {
		return scope
	}
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return ""
	}
	scope, _ := proto.GetExtension(descriptor.Options(), optionsv1.E_Scope).(string)
	return scope
}

// authorizeMethod checks that a token permits a method. Tokens with scopes are refused if no scope is known that permits
// the method. The scope of methods that need no token is `public`.
func (v *Verifier) authorizeMethod(claims *Claims, method string) error {
	if claims.Scopes == nil {
		return nil
	}
	switch scope := v.requiredScope(method); scope {
	case "public":
		return nil
	case "":
		return errScopeUnknown
	default:
		return claims.RequireScope(scope)
	}
}

package taskey_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

// fakeAuth is a server whose token pairs all have the same times.
type fakeAuth struct {
	authv1.UnimplementedAuthServiceServer
	pair             *authv1.TokenPair
	isSessionExpired bool
}

func (f fakeAuth) SignUp(context.Context, *authv1.SignUpRequest) (*authv1.User, error) {
	return &authv1.User{}, nil
}

func (f fakeAuth) Login(context.Context, *authv1.LoginRequest) (*authv1.TokenPair, error) {
	return proto.CloneOf(f.pair), nil
}

func (f fakeAuth) Refresh(context.Context, *authv1.RefreshRequest) (*authv1.TokenPair, error) {
	if f.isSessionExpired {
		return nil, failure(codes.Unauthenticated, "REFRESH_TOKEN_INVALID", 0)
	}
	return proto.CloneOf(f.pair), nil
}

func TestTokensAreRenewedByTheirLifetimes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	past, future := timestamppb.New(now.Add(-time.Hour)), timestamppb.New(now.Add(time.Hour))
	none, long := durationpb.New(0), durationpb.New(5*time.Minute)
	for _, test := range []struct {
		name                            string
		access, refresh                 *durationpb.Duration
		accessExpireTime, refreshExpire *timestamppb.Timestamp
		isSessionExpired                bool
		logins, refreshes               int
	}{
		{"valid, although the clock is ahead", long, long, past, past, false, 1, 0},
		{"expired, although the clock is behind", none, long, future, future, false, 1, 1},
		{"expired session, although the clock is behind", none, none, future, future, true, 2, 1},
		{"valid on an older server", nil, nil, future, future, false, 1, 0},
		{"expired on an older server", nil, nil, past, future, false, 1, 1},
		{"expired session on an older server", nil, nil, past, past, true, 2, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := grpc.NewServer()
			authv1.RegisterAuthServiceServer(server, fakeAuth{isSessionExpired: test.isSessionExpired, pair: &authv1.TokenPair{
				AccessToken: "token", AccessLifetime: test.access, RefreshLifetime: test.refresh,
				AccessExpireTime: test.accessExpireTime, RefreshExpireTime: test.refreshExpire,
			}})
			var calls calls
			client := open(t, taskey.Config{Address: serve(t, server), Password: password}, &calls)
			for range 2 {
				token(t, client)
			}
			logins := calls.count(authv1.AuthService_Login_FullMethodName)
			refreshes := calls.count(authv1.AuthService_Refresh_FullMethodName)
			if logins != test.logins || refreshes != test.refreshes {
				t.Fatal(logins, "logins and", refreshes, "refreshes")
			}
		})
	}
}

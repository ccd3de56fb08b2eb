package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
	"taskey.dev/taskey/verifier"
)

// verifyVector verifies a token with given keys at a given time, without revocations.
func verifyVector(request *request) (object, error) {
	now := time.Unix(request.Now, 0)
	keys, err := verifier.ParseKeys(request.Keys, now)
	if err != nil {
		return nil, err
	}
	claims, err := keys.Verify(request.Token, request.Issuer, request.Audience, now)
	if err == nil {
		return object{"claims": describeClaims(claims)}, nil
	}
	reason := "TOKEN_INVALID"
	if errors.Is(err, verifier.ErrExpired) {
		reason = "TOKEN_EXPIRED"
	}
	info := &errdetails.ErrorInfo{Reason: reason, Domain: "taskey"}
	failure, detailErr := status.New(codes.Unauthenticated, err.Error()).WithDetails(info)
	if detailErr != nil {
		return nil, detailErr
	}
	return nil, failure.Err()
}

func describeClaims(claims *verifier.Claims) object {
	roles := claims.Roles
	if roles == nil {
		roles = []string{}
	}
	described := object{
		"jti": claims.ID, "sub": claims.UserID, "sid": claims.SessionID, "roles": roles,
		"iat": claims.IssuedAt.Unix(), "exp": claims.ExpiresAt.Unix(),
	}
	if claims.Scopes != nil {
		described["scope"] = strings.Join(claims.Scopes, " ")
	}
	if claims.AuthenticationMethods != nil {
		described["amr"] = claims.AuthenticationMethods
	}
	if !claims.AuthenticatedAt.IsZero() {
		described["auth_time"] = claims.AuthenticatedAt.Unix()
	}
	if claims.Actor != nil {
		described["act"] = describeActor(claims.Actor)
	}
	return described
}

func describeActor(actor *verifier.Actor) object {
	described := object{"sub": actor.Subject}
	if actor.SessionID != uuid.Nil {
		described["sid"] = actor.SessionID
	}
	if actor.Actor != nil {
		described["act"] = describeActor(actor.Actor)
	}
	return described
}

// verifierServers are servers behind a verifier.
type verifierServers struct {
	verifier *verifier.Verifier
	grpc     *grpc.Server
	http     *http.Server
}

func (a *adapter) openVerifier(request *request) (object, error) {
	verifier, err := verifier.New(verifier.Config{
		Address: request.Address, Plaintext: !request.TLS, Issuer: request.Issuer, Audience: request.Audience,
		KeyFile: request.KeyFile, ServiceToken: request.ServiceToken,
		MaxStaleness: time.Duration(request.MaxStalenessMS) * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	servers := &verifierServers{
		verifier: verifier,
		grpc:     grpc.NewServer(grpc.UnaryInterceptor(verifier.Unary), grpc.StreamInterceptor(verifier.Stream)),
		http: &http.Server{
			Handler: verifier.Middleware("tasks.read", http.HandlerFunc(writeSubject)), ReadHeaderTimeout: 10 * time.Second,
		},
	}
	taskv1.RegisterTaskServiceServer(servers.grpc, tasks{})
	result := object{}
	for name, serve := range map[string]func(net.Listener) error{"grpc": servers.grpc.Serve, "http": servers.http.Serve} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		result[name] = listener.Addr().String()
		go func() {
			if err := serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				fmt.Fprintln(os.Stderr, "adapter:", err)
			}
		}()
	}
	a.verifiers.put(request.Verifier, servers)
	return result, nil
}

func (a *adapter) useVerifier(ctx context.Context, servers *verifierServers, request *request) (object, error) {
	switch request.Op {
	case "verify":
		// An absent address is not valid.
		client, _ := netip.ParseAddr(request.ClientAddress)
		claims, err := servers.verifier.Authenticate(ctx, request.Token, client)
		if err == nil && request.MaxAgeS != 0 {
			err = claims.RequireFresh(time.Duration(request.MaxAgeS) * time.Second)
		}
		if err != nil {
			return nil, err
		}
		return object{"claims": describeClaims(claims)}, nil
	case "state":
		return object{"state": servers.verifier.State().String()}, nil
	default:
		_, _ = a.verifiers.remove(request.Verifier)
		servers.grpc.Stop()
		servers.verifier.Close()
		return object{}, servers.http.Close()
	}
}

// tasks is a service whose tasks have the id of the caller.
type tasks struct {
	taskv1.UnimplementedTaskServiceServer
}

// GetTask returns a task with the id of the caller.
func (tasks) GetTask(ctx context.Context, _ *taskv1.GetTaskRequest) (*taskv1.Task, error) {
	return &taskv1.Task{Id: verifier.FromContext(ctx).UserID.String()}, nil
}

func writeSubject(writer http.ResponseWriter, request *http.Request) {
	writer.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(writer, `{"sub": %q}`, verifier.FromContext(request.Context()).UserID)
}
